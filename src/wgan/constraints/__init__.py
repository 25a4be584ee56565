"""How a critic is kept Lipschitz, one file per family."""

from wgan.constraints.base import Constraint
from wgan.constraints.clipping import WeightClipping
from wgan.constraints.gradient_penalty import GradientPenalty

CONSTRAINTS: dict[str, type[Constraint]] = {
    kind.name: kind for kind in (WeightClipping, GradientPenalty)
}

__all__ = ["CONSTRAINTS", "Constraint", "GradientPenalty", "WeightClipping"]
