"""What a run's critic, generator and records say of its health."""

from wgan.diagnostics.audit import AUDIT_TERMS, Audit
from wgan.diagnostics.examination import data_facts
from wgan.diagnostics.excess import Excess, Space, Yardstick, choose_space
from wgan.diagnostics.heldout import HeldOut, Part, Sizes
from wgan.diagnostics.live import Said, Watch
from wgan.diagnostics.probes import optimality_gap, slopes_between
from wgan.diagnostics.stopping import Stopping, parse_rule

__all__ = [
    "AUDIT_TERMS",
    "Audit",
    "Excess",
    "HeldOut",
    "Part",
    "Said",
    "Sizes",
    "Space",
    "Stopping",
    "Watch",
    "Yardstick",
    "choose_space",
    "data_facts",
    "optimality_gap",
    "parse_rule",
    "slopes_between",
]
