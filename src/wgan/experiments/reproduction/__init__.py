"""The figures and claims of the sources, each run again and judged.

One file for each experiment: what is claimed and where, the numbers that decide and their
thresholds, then the code. :mod:`base <wgan.experiments.reproduction.base>` runs one and gives the
verdict, :mod:`gallery <wgan.experiments.reproduction.gallery>` writes them up.
"""

from wgan.errors import UnknownNameError
from wgan.experiments.reproduction import (
    architectures,
    clipping_pathologies,
    constraints_compared,
    deep_resnet,
    discontinuity,
    eight_gaussians,
    js_is_not,
    meaningful_loss,
    momentum,
    optimal_critic,
    parallel_lines,
    sliding_gaussians,
    text,
)
from wgan.experiments.reproduction.base import Experiment, Result, read, reproduce

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        parallel_lines,
        sliding_gaussians,
        eight_gaussians,
        optimal_critic,
        meaningful_loss,
        js_is_not,
        architectures,
        momentum,
        clipping_pathologies,
        deep_resnet,
        text,
        constraints_compared,
        discontinuity,
    )
}
"""In the order of the sources."""


def get_experiment(name: str) -> Experiment:
    """The experiment of this name; raises `UnknownNameError` with the nearest one."""
    if name not in EXPERIMENTS:
        raise UnknownNameError("experiment", name, [*EXPERIMENTS, "all"])
    return EXPERIMENTS[name]


__all__ = ["EXPERIMENTS", "Experiment", "Result", "get_experiment", "read", "reproduce"]
