"""BEGAN: an autoencoder as critic, and an equilibrium between its two losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wgan.errors import UserError
from wgan.objectives.base import Objective
from wgan.shares import whole
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class BoundaryEquilibrium(Objective):
    """``critic: L(x) - k L(y)``, ``generator: L(y)``, L the mean reconstruction error.

    Needs an autoencoding critic: its score is the reconstruction error of each sample, >= 0 (the
    paper: the mean absolute error per number of a sample). After each critic update
    ``k <- clip(k + rate (gamma L(x) - L(y)), 0, 1)`` with k = 0 at first; k is the objective's
    state, ``equilibrium``, and goes into the checkpoint.

    The record's ``convergence = L(x) + |gamma L(x) - L(y)|`` falls as training succeeds; besides
    it holds ``reconstruction_real`` = L(x), ``reconstruction_fake`` = L(y) and the
    ``equilibrium`` k that the loss used. All but k are in units of reconstruction error.

    The paper's update of k reads L(y) from the generator's own batch of the same step; here it is
    the critic's batch, an independent draw from the same generator, so that it costs no pass.

    Args:
        diversity: gamma, in [0, 1]: the ratio L(y) / L(x) that is aimed at. Low: sharp and alike;
            high: diverse (the paper: 0.5 and 0.7).
        rate: Step of k, > 0 (the paper: 0.001).

    Raises:
        UserError: `diversity` or `rate` is out of its range.

    Source: Berthelot, Schumm, Metz 2017, sections 3.3 and 3.4.
    """

    diversity: float = 0.5
    rate: float = 0.001

    name: ClassVar[str] = "began"
    estimate: ClassVar[str | None] = "convergence"
    meaning: ClassVar[str] = "convergence measure, in units of reconstruction error; not a distance"

    def __post_init__(self) -> None:
        if not 0 <= self.diversity <= 1:
            raise UserError(f"began: `diversity` must be in [0, 1], got {self.diversity}")
        if not 0 < self.rate < math.inf:
            raise UserError(f"began: `rate` must be > 0 and finite, got {self.rate}")

    def init(self) -> State:
        return {"equilibrium": torch.zeros(())}

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        on_real, on_fake = (
            whole(critic(batch).score, self.name).mean() for batch in (real, fakes[0])
        )
        k = state["equilibrium"].to(on_real.device)
        balance = self.diversity * on_real.detach() - on_fake.detach()
        terms = {
            "convergence": on_real.detach() + balance.abs(),
            "reconstruction_real": on_real.detach(),
            "reconstruction_fake": on_fake.detach(),
            "equilibrium": k,
        }
        after = (k + self.rate * balance.to(k)).clamp(0, 1)
        return Loss(on_real - k * on_fake, terms), {"equilibrium": after}

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        return Loss(critic(fakes[0]).score.mean(), {}), state
