"""When a run may stop before its end: a rule on its records, or a plateau."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wgan.errors import UnknownNameError, UserError
from wgan.types import Record

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_RULE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|<|>)\s*([-+0-9.eE]+)\s*")
EXCESS = "audit.excess"


@dataclass(frozen=True)
class Rule:
    """``name < number``, of one term of the records.

    Attributes:
        name: The term.
        compare: ``<``, ``<=``, ``>`` or ``>=``.
        value: What it is compared with.
    """

    name: str
    compare: str
    value: float

    def holds(self, record: Record) -> bool:
        """Whether the record has the term and it satisfies the rule."""
        found = record.get(self.name)
        return isinstance(found, float | int) and _COMPARE[self.compare](found, self.value)

    def __str__(self) -> str:
        return f"{self.name} {self.compare} {self.value:g}"


def parse_rule(text: str) -> Rule:
    """The rule in words such as ``audit.excess < 0.05``.

    Raises:
        UserError: It is no such comparison.
    """
    match = _RULE.fullmatch(text)
    try:
        value = float(match[3]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value):
        raise UserError(
            f'`stop_when` must be a comparison like "audit.excess < 0.05", got {text!r}'
        )
    return Rule(match[1], match[2], value)


class Stopping:
    """Watches records and says when, and why, a run may stop.

    Args:
        rule: A rule on one record, or None.
        patience: Audits without a smaller excess than the best so far after which the run has
            reached a plateau, or None.
    """

    def __init__(self, rule: Rule | None, patience: int | None) -> None:
        if patience is not None and patience < 1:
            raise UserError(f"`patience` must be >= 1, got {patience}")
        self.rule = rule
        self.patience = patience
        self.reason: str | None = None
        self._best = math.inf
        self._best_step = 0
        self._since = 0

    def renew(self) -> None:
        """Forget what has stopped the run, which has been extended since; the best stays."""
        self.reason, self._since = None, 0

    def see(self, record: Record) -> None:
        """Take in a record; `reason` is set if the run may stop after it."""
        if self.rule is not None and self.rule.holds(record):
            self.reason = f"{self.rule.name} is {record[self.rule.name]:.4g}, {self.rule}"
        act, _, finding = str(record.get("heeded", "")).partition(": ")
        if act == "stop":
            self.reason = f"{finding}, at which --heed stops"
        excess = record.get(EXCESS)
        if self.patience is None or not isinstance(excess, float):
            return
        if excess < self._best:
            step = record["step"]
            assert isinstance(step, int)
            self._best, self._best_step, self._since = excess, step, 0
            return
        self._since += 1
        if self._since >= self.patience:
            self.reason = (
                f"{EXCESS} has not fallen below {self._best:.4g}, of step {self._best_step:,}, in "
                f"{self._since} audits"
            )


def require_known(rule: Rule, terms: Iterable[str]) -> None:
    """Raise `UserError` unless the rule is about a term that this run records."""
    known = sorted(terms)
    if rule.name not in known:
        raise UnknownNameError("term of the records", rule.name, known)
