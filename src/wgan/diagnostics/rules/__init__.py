"""The doctor's rules: each looks at an examination and finds one thing, or nothing.

A rule says *what* is so, with the numbers that show it; *why*, with what told it from its rivals;
*what to do*, as a flag and what that costs; and *how sure* it is. To add one, write a function of
an :class:`Examination` under :func:`rule`; `docs/doctor.md` is made from this package.
"""

from wgan.diagnostics.rules.base import (
    BRINGS,
    EXCESS,
    RULES,
    Check,
    Diagnosis,
    Finding,
    Kind,
    Live,
    Rule,
    Verdict,
    closing,
    collapsed,
    damaged,
    diagnose,
    far,
    rule,
    young,
)

# isort: off
# Their order is that of `RULES`: what is imported first is told first.
from wgan.diagnostics.rules import divergence as divergence
from wgan.diagnostics.rules import data as data
from wgan.diagnostics.rules import step as step
from wgan.diagnostics.rules import critic as critic
from wgan.diagnostics.rules import gradients as gradients
from wgan.diagnostics.rules import samples as samples
from wgan.diagnostics.rules import standing as standing
# isort: on

__all__ = [
    "BRINGS",
    "EXCESS",
    "RULES",
    "Check",
    "Diagnosis",
    "Finding",
    "Kind",
    "Live",
    "Rule",
    "Verdict",
    "closing",
    "collapsed",
    "damaged",
    "diagnose",
    "far",
    "rule",
    "young",
]
