"""The standard GAN: a discriminator by cross-entropy, and its estimate of the JS divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import softplus

from wgan.errors import UserError
from wgan.objectives.base import Objective
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class Standard(Objective):
    """``critic: -E log s(D(x)) - E log(1 - s(D(y)))``, s the logistic function.

    The generator minimises ``E log(1 - s(D(y)))`` (`generator="minimax"`) or
    ``-E log s(D(y))`` (`generator="non-saturating"`, whose gradient does not vanish when the
    discriminator is sure). In terms of softplus: ``-log s(t) = softplus(-t)``.

    The record's ``js_estimate`` is ``log 2 - critic_loss / 2``, a lower bound of the
    Jensen-Shannon divergence between real and fake, at most log 2, in nats.

    Source: Goodfellow et al. 2014, equation 1 and section 3; Arjovsky et al. 2017, figure 5.
    """

    generator: Literal["minimax", "non-saturating"] = "minimax"

    name: ClassVar[str] = "standard"
    estimate: ClassVar[str | None] = "js_estimate"
    meaning: ClassVar[str] = "lower bound of the Jensen-Shannon divergence, in nats"

    def __post_init__(self) -> None:
        if self.generator not in ("minimax", "non-saturating"):
            raise UserError(
                f"`generator` must be 'minimax' or 'non-saturating', got {self.generator!r}"
            )

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        loss = softplus(-critic(real).score).mean() + softplus(critic(fakes[0]).score).mean()
        return Loss(loss, {"js_estimate": math.log(2) - loss.detach() / 2}), state

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        score = critic(fakes[0]).score
        if self.generator == "minimax":
            return Loss(-softplus(score).mean(), {}), state
        return Loss(softplus(-score).mean(), {}), state
