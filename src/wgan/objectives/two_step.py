"""WGAN-TS: solve the minibatch transport exactly, then let the critic regress on its potentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wgan.errors import UserError
from wgan.objectives.base import Objective
from wgan.objectives.potentials import score_and_slope, transport_targets
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class TwoStep(Objective):
    """The critic is fitted to the potentials of the exact transport between the batches.

    With the L1 cost ``c(x, y) = sum |x - y|`` over all numbers of a sample, potentials phi and psi
    (``phi_i - psi_j <= c_ij``, the sum of their means 0), and x_T(y) the partner of y in the plan::

        critic:     (sum (D(x) - phi)^2 + sum (D(y) - psi)^2) / (number of samples)
                    + slope_weight E |grad D(y) - sign(x_T(y) - y)|^2
        generator:  -E D(y)

    The record's ``transport_cost`` is the plan's cost, the exact W1 in the L1 metric between the
    two batches; it is well above that between the populations. ``wasserstein_estimate`` is the
    critic's E D(x) - E D(y), which differs from it by what the critic has not learned.

    The paper takes 5 regression steps on one batch, and the generator's step on the same latents.

    Args:
        slope_weight: >= 0 (the paper: 10).

    Raises:
        UserError: `slope_weight` is out of range.

    Source: Liu, Gu, Samaras 2018, Algorithm 1; the misfit's norm as in the released code.
    """

    slope_weight: float = 10.0

    name: ClassVar[str] = "two-step"
    estimate: ClassVar[str | None] = "wasserstein_estimate"
    meaning: ClassVar[str] = "critic's fit to W1 in the L1 metric between batches"

    def __post_init__(self) -> None:
        if not self.slope_weight >= 0:
            raise UserError(f"two-step: `slope_weight` must be >= 0, got {self.slope_weight}")

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        fake = fakes[0]
        targets = transport_targets(real, fake, "l1", self.name)
        on_real = critic(real).score
        on_fake, slope = score_and_slope(critic, fake)
        errors = (on_real - targets.phi).square().sum() + (on_fake - targets.psi).square().sum()
        misfit = slope - (targets.partner - fake.detach()).sign()
        loss = errors / (len(real) + len(fake))
        loss = loss + self.slope_weight * misfit.flatten(1).square().sum(1).mean()
        terms = {
            "wasserstein_estimate": (on_real.mean() - on_fake.mean()).detach(),
            "transport_cost": targets.cost,
        }
        return Loss(loss, terms), state

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
