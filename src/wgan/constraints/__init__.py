"""How a critic is kept Lipschitz, one file per family."""

from wgan.constraints.base import Constraint, input_gradient
from wgan.constraints.clipping import WeightClipping
from wgan.constraints.combine import check_constraints
from wgan.constraints.consistency import Consistency
from wgan.constraints.dragan import Dragan
from wgan.constraints.drift import Drift
from wgan.constraints.gradient_penalty import GradientPenalty
from wgan.constraints.orthogonal import Orthogonal
from wgan.constraints.registry import CONSTRAINTS, make_constraint, parse_constraint
from wgan.constraints.regularisation import OrthogonalRegularisation
from wgan.constraints.spectral import SpectralNormalisation
from wgan.constraints.zero_centred import R1, R2

__all__ = [
    "CONSTRAINTS",
    "R1",
    "R2",
    "Consistency",
    "Constraint",
    "Dragan",
    "Drift",
    "GradientPenalty",
    "Orthogonal",
    "OrthogonalRegularisation",
    "SpectralNormalisation",
    "WeightClipping",
    "check_constraints",
    "input_gradient",
    "make_constraint",
    "parse_constraint",
]
