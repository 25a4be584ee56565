"""Critic and generator losses, one file per family."""

from wgan.objectives.base import Objective
from wgan.objectives.began import BoundaryEquilibrium
from wgan.objectives.cramer import Cramer
from wgan.objectives.energy import Energy
from wgan.objectives.hinge import Hinge
from wgan.objectives.least_squares import LeastSquares
from wgan.objectives.mmd import GaussianMmd, RationalQuadraticMmd
from wgan.objectives.quadratic import QuadraticCost
from wgan.objectives.relativistic import Relativistic
from wgan.objectives.sinkhorn import Sinkhorn
from wgan.objectives.sliced import MaxSliced, Sliced
from wgan.objectives.standard import Standard
from wgan.objectives.two_step import TwoStep
from wgan.objectives.wasserstein import Wasserstein

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind
    for kind in (
        BoundaryEquilibrium,
        Cramer,
        Energy,
        GaussianMmd,
        Hinge,
        LeastSquares,
        MaxSliced,
        QuadraticCost,
        RationalQuadraticMmd,
        Relativistic,
        Sinkhorn,
        Sliced,
        Standard,
        TwoStep,
        Wasserstein,
    )
}

__all__ = [
    "OBJECTIVES",
    "BoundaryEquilibrium",
    "Cramer",
    "Energy",
    "GaussianMmd",
    "Hinge",
    "LeastSquares",
    "MaxSliced",
    "Objective",
    "QuadraticCost",
    "RationalQuadraticMmd",
    "Relativistic",
    "Sinkhorn",
    "Sliced",
    "Standard",
    "TwoStep",
    "Wasserstein",
]
