"""WGAN-QC: potentials of the exact minibatch transport with a quadratic cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wgan.errors import UserError
from wgan.objectives.base import Objective
from wgan.objectives.potentials import score_and_slope, transport_targets
from wgan.shares import whole
from wgan.types import Critic, Draw, Loss, State

_EPSILON = 1e-12  # inside the root: its derivative at a zero gradient is finite, not NaN


@dataclass(frozen=True)
class QuadraticCost(Objective):
    """The critic is fitted to the potentials of the exact transport with cost ``K/2 |x - y|^2``.

    With potentials phi and psi (``phi_i - psi_j <= c_ij``, the sum of their means 0) and x_T(y) the
    partner of y in the plan::

        critic:     (E D(x) - mean phi)^2 / 2 + E (D(y) - psi)^2 / 2
                    + slope_weight / (2 sqrt K) E (|grad D(y)| - K |x_T(y) - y|)^2
        generator:  -E D(y)

    The record's ``transport_cost`` is the plan's cost, ``K/2`` times the exact squared W2 between
    the two batches; ``wasserstein_estimate`` is the critic's E D(x) - E D(y), which approaches it.

    Args:
        curvature: K > 0; None: one over the number of numbers in a sample, as in the paper.
        slope_weight: gamma, >= 0 (the paper: 0.1).

    Raises:
        UserError: A field is out of range.

    Source: Liu, Gu, Samaras 2019, Algorithm 1, the constants as in the released code.
    """

    curvature: float | None = None
    slope_weight: float = 0.1

    name: ClassVar[str] = "quadratic-cost"
    estimate: ClassVar[str | None] = "wasserstein_estimate"
    meaning: ClassVar[str] = "critic's fit to K/2 times the squared W2 between batches"

    def __post_init__(self) -> None:
        if self.curvature is not None and not 0 < self.curvature < math.inf:
            raise UserError(
                f"quadratic-cost: `curvature` must be > 0 and finite, or None, got {self.curvature}"
            )
        if not self.slope_weight >= 0:
            raise UserError(f"quadratic-cost: `slope_weight` must be >= 0, got {self.slope_weight}")

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
        curvature = self.curvature or 1 / math.prod(real.shape[1:])
        targets = transport_targets(real, fake, "sqeuclidean", self.name)
        phi, psi = (curvature / 2 * potential for potential in (targets.phi, targets.psi))
        on_real = whole(critic(real).score, self.name).mean()
        on_fake, slope = score_and_slope(critic, fake)
        fit = (on_real - whole(phi, self.name).mean()).square() / 2
        fit = fit + (on_fake - psi).square().mean() / 2

        steepness = (slope.flatten(1).square().sum(1) + _EPSILON).sqrt()
        distance = (targets.partner - fake.detach()).flatten(1).norm(dim=1)
        misfit = (steepness - curvature * distance).square().mean()
        loss = fit + self.slope_weight / (2 * math.sqrt(curvature)) * misfit
        terms = {
            "wasserstein_estimate": (on_real - on_fake.mean()).detach(),
            "transport_cost": curvature / 2 * targets.cost,
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
