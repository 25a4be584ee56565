"""The Sinkhorn divergence as a loss, on the data or on features learned against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from wgan.errors import UserError
from wgan.objectives.base import Objective, features_of, rows_of
from wgan.shares import whole
from wgan.transport import sinkhorn_divergence
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class Sinkhorn(Objective):
    """``generator: S(x, y) = OT(x, y) - (OT(x, x) + OT(y, y)) / 2``, OT entropic transport.

    The cost is ``|x - y|^p / p``, the entropy's weight ``blur^p``; with `reach` mass may be created
    and destroyed at the price ``reach^p``, so that outliers beyond it pull no more. On the data
    there is no critic. On features the critic learns the cost: it maximises S of its features, and
    so needs a constraint on its weights (clipping, spectral or orthogonal layers; a penalty on the
    slope of its score would not hold the features). The record's ``sinkhorn_divergence`` is S, >= 0
    up to convergence, in the unit of the data or features to the power p.

    Args:
        blur: Smallest length that is resolved, > 0, in that unit.
        p: 1 or 2. For a small blur S is near W1, or W2^2 / 2.
        reach: Length beyond which mass is not moved, > 0; None: all mass is moved.
        iterations: Sinkhorn updates, >= 2.
        on: `data` (low dimension) or `features` (images).

    Raises:
        UserError: A field is out of range; the critic gives no features.

    Source: Genevay, Peyre, Cuturi 2018 (also the learned cost); the divergence with its entropy:
    Feydy et al. 2019, equation 3; `reach`: Sejourne et al. 2019. Genevay's code has twice S without
    the entropy.
    """

    blur: float = 0.05
    p: Literal[1, 2] = 2
    reach: float | None = None
    iterations: int = 50
    on: Literal["data", "features"] = "data"

    name: ClassVar[str] = "sinkhorn"
    estimate: ClassVar[str | None] = "sinkhorn_divergence"
    meaning: ClassVar[str] = "Sinkhorn divergence for the cost |x - y|^p / p, 0 for equal samples"

    def __post_init__(self) -> None:
        if not 0 < self.blur < math.inf:
            raise UserError(f"sinkhorn: `blur` must be > 0 and finite, got {self.blur}")
        if self.p not in (1, 2):
            raise UserError(f"sinkhorn: `p` must be 1 or 2, got {self.p}")
        if self.reach is not None and not self.reach > 0:
            raise UserError(f"sinkhorn: `reach` must be > 0, or None, got {self.reach}")
        if self.iterations < 2:
            raise UserError(f"sinkhorn: `iterations` must be >= 2, got {self.iterations}")
        if self.on not in ("data", "features"):
            raise UserError(f"sinkhorn: `on` must be 'data' or 'features', got {self.on!r}")

    @property
    def uses_critic(self) -> bool:
        return self.on == "features"

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        divergence = self._divergence(critic, real, fakes[0])
        return Loss(-divergence, {"sinkhorn_divergence": divergence.detach()}), state

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        divergence = self._divergence(critic, real, fakes[0])
        return Loss(divergence, {"sinkhorn_divergence": divergence.detach()}), state

    def _divergence(self, critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
        if self.on == "features":
            x, y = features_of(critic(real), self), features_of(critic(fake), self)
        else:
            x, y = rows_of(real), rows_of(fake)
        x, y = whole(x, self.name), whole(y, self.name)
        return sinkhorn_divergence(
            x, y, blur=self.blur, p=self.p, reach=self.reach, iterations=self.iterations
        )
