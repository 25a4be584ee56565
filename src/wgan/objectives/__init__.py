"""Critic and generator losses, one file per family."""

from wgan.objectives.base import Objective
from wgan.objectives.began import BoundaryEquilibrium
from wgan.objectives.hinge import Hinge
from wgan.objectives.least_squares import LeastSquares
from wgan.objectives.relativistic import Relativistic
from wgan.objectives.standard import Standard
from wgan.objectives.wasserstein import Wasserstein

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind
    for kind in (
        BoundaryEquilibrium,
        Hinge,
        LeastSquares,
        Relativistic,
        Standard,
        Wasserstein,
    )
}

__all__ = [
    "OBJECTIVES",
    "BoundaryEquilibrium",
    "Hinge",
    "LeastSquares",
    "Objective",
    "Relativistic",
    "Standard",
    "Wasserstein",
]
