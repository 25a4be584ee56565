"""A pull of the critic's scores towards zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wgan.constraints.base import Constraint
from wgan.types import Critic, Draw, Loss


@dataclass(frozen=True)
class Drift(Constraint):
    """``weight E D(x)^2`` at real samples: the scores' free constant stays near zero.

    It costs one more pass over the real batch, and bounds nothing by itself.

    Args:
        weight: >= 0, per squared score (the paper: 0.001).

    Source: Karras et al. 2018, appendix A.1.
    """

    weight: float = 0.001

    name: ClassVar[str] = "drift"

    def __post_init__(self) -> None:
        self.require("weight", at_least=0)

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, draw: Draw, step: int
    ) -> Loss | None:
        penalty = self.weight * critic(real).score.square().mean()
        return Loss(penalty, {"drift_penalty": penalty.detach()})
