"""The Wasserstein objective: the Kantorovich-Rubinstein dual with a learned critic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wgan.objectives.base import Objective
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class Wasserstein(Objective):
    """``critic: E D(y) - E D(x)``, ``generator: -E D(y)``.

    With D ranging over 1-Lipschitz functions the critic's optimum is ``-W1(P_x, P_y)``; a
    constraint decides how near D comes to that set. The record's ``wasserstein_estimate`` is
    ``E D(x) - E D(y)``: positive when real samples score higher, in score units.

    Source: Arjovsky, Chintala, Bottou 2017, equations 2 and 3, Algorithm 1 (which ascends; here
    everything descends).
    """

    name: ClassVar[str] = "wasserstein"
    estimate: ClassVar[str | None] = "wasserstein_estimate"
    meaning: ClassVar[str] = "estimate of W1 up to the critic's scale"

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        estimate = critic(real).score.mean() - critic(fakes[0]).score.mean()
        return Loss(-estimate, {"wasserstein_estimate": estimate.detach()}), state

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
