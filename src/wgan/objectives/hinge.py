"""The hinge objective: a margin of one, and its estimate of the total variation distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import relu

from wgan.objectives.base import Objective
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class Hinge(Objective):
    """``critic: E max(0, 1 - D(x)) + E max(0, 1 + D(y))``, ``generator: -E D(y)``.

    The best critic is 1 where real samples are likelier and -1 where fake ones are; its loss is
    ``2 - 2 TV``. So the record's ``total_variation_estimate = 1 - critic_loss / 2`` is a lower
    bound of the total variation distance, at most 1, and negative while the critic is worse than
    the constant 0.

    Source: Lim and Ye 2017, section 3; Miyato et al. 2018, equations 16 and 17. The bound: Nguyen,
    Wainwright, Jordan 2009, on surrogate losses and f-divergences.
    """

    name: ClassVar[str] = "hinge"
    estimate: ClassVar[str | None] = "total_variation_estimate"
    meaning: ClassVar[str] = "lower bound of the total variation distance, at most 1"

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        on_real = relu(1 - critic(real).score).mean()
        on_fake = relu(1 + critic(fakes[0]).score).mean()
        loss = on_real + on_fake
        return Loss(loss, {"total_variation_estimate": 1 - loss.detach() / 2}), state

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        return Loss(-critic(fakes[0]).score.mean(), {}), state
