"""The relativistic pairing objective: which of two samples is the real one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from wgan.errors import UserError
from wgan.objectives.base import Objective
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class Relativistic(Objective):
    """``critic: E softplus(-(D(x) - D(y)))``, ``generator: E softplus(-(D(y) - D(x)))``.

    Real and fake samples are paired by their place in the batch, x_i with y_i. The critic's loss is
    the cross-entropy of guessing which one of a pair is real; at D constant it is log 2. So the
    record's ``relativistic_estimate = log 2 - critic_loss`` is a lower bound of the relativistic
    divergence ``sup_D E log(2 s(D(x) - D(y)))``: 0 for equal distributions, at most log 2, in nats.

    Without zero-centred penalties on both sides (R1 and R2) training need not converge.

    Raises:
        UserError: Real and fake batches differ in size.

    Source: Huang et al. 2024 (R3GAN), section 2; Jolicoeur-Martineau 2020, "On relativistic
    f-divergences". The sign convention is that of R3GAN's released code.
    """

    name: ClassVar[str] = "relativistic"
    estimate: ClassVar[str | None] = "relativistic_estimate"
    meaning: ClassVar[str] = "lower bound of the relativistic divergence, in nats, at most log 2"

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        loss = softplus(-self._gap(critic, real, fakes[0])).mean()
        return Loss(loss, {"relativistic_estimate": math.log(2) - loss.detach()}), state

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        return Loss(softplus(self._gap(critic, real, fakes[0])).mean(), {}), state

    def _gap(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        """D(x_i) - D(y_i), ``[batch]``."""
        if len(real) != len(fake):
            raise UserError(
                f"objective `relativistic` pairs real and fake samples and needs as many of each, "
                f"got {len(real)} and {len(fake)}"
            )
        return critic(real).score - critic(fake).score
