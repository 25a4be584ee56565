"""Certified bounds: on a critic's slope, and on W1 between populations."""

from wgan.bounds.critics import Anchored, Line, LipschitzCritic, Scaled
from wgan.bounds.distance import METRICS, Distance, Population, measure
from wgan.bounds.fitting import Budget
from wgan.bounds.intervals import Gap, population_gap, transport_excess
from wgan.bounds.lipschitz import Certificate, certify, empirical_slope
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
    "FEWEST",
    "LEARNED_CONES",
    "METRICS",
    "WAYS",
    "Anchored",
    "Budget",
    "Certificate",
    "Distance",
    "Gap",
    "Line",
    "LipschitzCritic",
    "Parts",
    "Population",
    "PopulationBound",
    "Scaled",
    "certify",
    "empirical_slope",
    "lower_bound",
    "measure",
    "population_gap",
    "split",
    "transport_excess",
    "unlimited",
]
