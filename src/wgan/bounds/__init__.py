"""Certified bounds: on a critic's slope, and on W1 between populations."""

from wgan.bounds.attack import empirical_slope
from wgan.bounds.critics import Anchored, Line, LipschitzCritic, Scaled
from wgan.bounds.distance import METRICS, Distance, Population, measure
from wgan.bounds.fitting import Budget
from wgan.bounds.intervals import (
    CHOICES,
    Choice,
    Gap,
    coupling_bound,
    population_gap,
    transport_excess,
)
from wgan.bounds.lipschitz import Certificate, certify
from wgan.bounds.population import (
    FEWEST,
    LEARNED_CONES,
    WAYS,
    Parts,
    PopulationBound,
    lower_bound,
    split,
    unlimited,
)

__all__ = [
    "CHOICES",
    "FEWEST",
    "LEARNED_CONES",
    "METRICS",
    "WAYS",
    "Anchored",
    "Budget",
    "Certificate",
    "Choice",
    "Distance",
    "Gap",
    "Line",
    "LipschitzCritic",
    "Parts",
    "Population",
    "PopulationBound",
    "Scaled",
    "certify",
    "coupling_bound",
    "empirical_slope",
    "lower_bound",
    "measure",
    "population_gap",
    "split",
    "transport_excess",
    "unlimited",
]
