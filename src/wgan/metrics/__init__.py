"""Numbers that judge samples and do not come from the critic, each beside its noise floor."""

from wgan.metrics.evaluate import evaluate
from wgan.metrics.evaluation import Evaluation, Measurement
from wgan.metrics.features import FeatureSpace, feature_space
from wgan.metrics.frechet import frechet_distance
from wgan.metrics.kernel import KernelDistance, kernel_distance
from wgan.metrics.modes import KnownModes, ModeCoverage, mode_coverage
from wgan.metrics.neighbours import (
    Manifold,
    Memorisation,
    manifold,
    memorisation,
    nearest_neighbour_accuracy,
)

__all__ = [
    "Evaluation",
    "FeatureSpace",
    "KernelDistance",
    "KnownModes",
    "Manifold",
    "Measurement",
    "Memorisation",
    "ModeCoverage",
    "evaluate",
    "feature_space",
    "frechet_distance",
    "kernel_distance",
    "manifold",
    "memorisation",
    "mode_coverage",
    "nearest_neighbour_accuracy",
]
