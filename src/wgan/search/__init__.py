"""Search for settings by what audits say: `wgan sweep`."""

from wgan.search.results import Sweep, TrialResult
from wgan.search.space import Choice, Range, parse_dimension, parse_space
from wgan.search.storage import PRUNERS
from wgan.search.sweeping import sweep

__all__ = [
    "PRUNERS",
    "Choice",
    "Range",
    "Sweep",
    "TrialResult",
    "parse_dimension",
    "parse_space",
    "sweep",
]
