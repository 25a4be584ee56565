"""Optimal transport and its relatives between finite samples; the base layer.

Exact transport works on numpy arrays in float64 and gives a certificate; sliced and entropic
transport, energy distances and kernel discrepancies work on tensors and can be differentiated.
"""

from wgan.transport.bracket import SampleDistance, sample_distance
from wgan.transport.cost import COSTS, Cost, as_points, cost_matrix, distances, squared_distances
from wgan.transport.energy import (
    energy_distance,
    energy_statistic,
    mmd_squared,
    permutation_test,
)
from wgan.transport.exact import Plan, exact, exact_from_cost
from wgan.transport.gaussian import gaussian_w2_squared, sample_bures_squared
from wgan.transport.kernels import Gaussian, Kernel, Polynomial, RationalQuadratic
from wgan.transport.sinkhorn import Entropic, entropic_transport, sinkhorn_divergence
from wgan.transport.sliced import (
    max_sliced_direction,
    random_directions,
    sliced_potentials,
    sliced_wasserstein,
    wasserstein_1d,
)

__all__ = [
    "COSTS",
    "Cost",
    "Entropic",
    "Gaussian",
    "Kernel",
    "Plan",
    "Polynomial",
    "RationalQuadratic",
    "SampleDistance",
    "as_points",
    "cost_matrix",
    "distances",
    "energy_distance",
    "energy_statistic",
    "entropic_transport",
    "exact",
    "exact_from_cost",
    "gaussian_w2_squared",
    "max_sliced_direction",
    "mmd_squared",
    "permutation_test",
    "random_directions",
    "sample_bures_squared",
    "sample_distance",
    "sinkhorn_divergence",
    "sliced_potentials",
    "sliced_wasserstein",
    "squared_distances",
    "wasserstein_1d",
]
