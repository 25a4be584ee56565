"""The doctor's rules while a run goes on: they warn once, and say what `--heed` does about it.

Only rules that go by records are asked, at steps that are farther and farther apart, so that all of
it takes time in proportion to the run. What is said is a function of the records, the settings and
the training data, and of nothing else: a resumed run says it again at the same step.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wgan.diagnostics.examination import DataFacts, Examination
from wgan.diagnostics.rules import EXCESS, RULES, Finding, Live, far
from wgan.diagnostics.signs import Series, trend
from wgan.types import Record

_FIRST = 100  # the first step at which records are looked at
_LEAST, _GROWTH = 50, 10  # steps to the next look: these, or a tenth of those made
_MOST = 4_096  # values of a term that are kept; beyond, every other one is dropped
_AUDITS = 8  # before which nothing is said that takes audits to know
_LESS = 0.7  # of the first audits' excess: below, the samples have come closer

Act = Literal["roll back", "stop", "n_critic"]

ACTS: dict[str, Act] = {
    "divergence-ahead": "roll back",
    "exploding-gradient": "roll back",
    "learning-rate-too-high": "roll back",
    "mode-collapse": "stop",
    "generator-stands-still": "stop",
    "critic-under-trained": "n_critic",
    "critic-exploited": "n_critic",
}
"""What `--heed` does about a finding; of others it only warns."""

_FATAL = ("divergence-ahead", "exploding-gradient")  # where rolling back has not helped, it stops


@dataclass(frozen=True)
class Said:
    """What was said at one step.

    Attributes:
        findings: New ones.
        act: What is done, or None.
        on: The finding that it is done about; empty where nothing is.
        n_critic: The critic's batches a step from here on, where they change.
    """

    findings: tuple[Finding, ...] = ()
    act: Act | None = None
    on: str = ""
    n_critic: int | None = None

    @property
    def evidence(self) -> str:
        """Of what is acted on."""
        return next((f.evidence for f in self.findings if f.name == self.on), "")

    def done(self, finding: Finding | None = None) -> str:
        """What is done, in words; about a finding, where it is that one. Empty: nothing."""
        if self.act is None or (finding is not None and finding.name != self.on):
            return ""
        return {
            "roll back": "rolled back, with half the learning rates",
            "stop": "stopped",
            "n_critic": f"n_critic {self.n_critic} from here on",
        }[self.act]

    def record(self) -> Record:
        """What the step's record says of it; nothing where nothing was said."""
        if not self.findings:
            return {}
        found: Record = {"warnings": " ".join(finding.name for finding in self.findings)}
        return found if self.act is None else found | {"heeded": f"{self.act}: {self.on}"}


class Watch:
    """Looks at a run's records as they come.

    Args:
        config: The run's, plain data.
        estimate: The key of its estimate, or None.
        facts: What its training data look like; asked once, at the first step.
        floor: What its audits find between two held-out samples; None without audits.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        estimate: str | None,
        facts: Callable[[], DataFacts],
        floor: float | None,
    ) -> None:
        self._config = config
        self._estimate = estimate
        self._facts = facts
        self._floor = floor
        self._due = _FIRST
        self._before = 0  # the look before
        self._warned: set[str] = set()
        self._terms: dict[str, _Term] = {}
        self.n_critic: int | None = None

    def recall(self, record: Record) -> None:
        """Take in a record of before, without looking anew."""
        self._keep(record)
        step = record["step"]
        assert isinstance(step, int)
        if step >= self._due:
            self._next(step)
        self._warned |= set(str(record.get("warnings", "")).split())
        n_critic = record.get("n_critic")
        if isinstance(n_critic, int):
            self.n_critic = n_critic

    def see(self, record: Record, *, rollbacks: int) -> Said:
        """Take in the record of a new step; what there is to say of it.

        Args:
            record: Complete.
            rollbacks: That the run has made.
        """
        self._keep(record)
        step = record["step"]
        assert isinstance(step, int)
        found: list[Finding] = []
        if step == 1:
            x = Examination(steps=1, curves={}, config=self._config, data=self._facts())
            found = self._apply(x, {"data"})
        if step >= self._due:
            found += self._look(step)
            self._next(step)
        self._warned |= {finding.name for finding in found}
        return self._decide(found, rollbacks)

    def _look(self, step: int) -> list[Finding]:
        """What is found now and was found at the look before, too."""
        kinds: set[Live] = {"always"}
        now, then = self._examination(step), self._examination(self._before)
        if _stuck(now) and _stuck(then):
            kinds.add("stuck")
        names = {finding.name for finding in self._apply(then, kinds)}
        return [finding for finding in self._apply(now, kinds) if finding.name in names]

    def _apply(self, x: Examination, kinds: set[Live]) -> list[Finding]:
        return [
            finding
            for rule in RULES
            if rule.live in kinds
            and rule.name not in self._warned
            and (finding := rule.check(x)) is not None
        ]

    def _decide(self, found: list[Finding], rollbacks: int) -> Said:
        if not found or not self._config.get("heed"):
            return Said(tuple(found))
        acts = [(act, f.name) for f in found if (act := ACTS.get(f.name)) is not None]
        acts.sort(key=lambda each: ("roll back", "stop", "n_critic").index(each[0]))
        for act, name in acts:
            if act == "roll back" and rollbacks >= int(self._config.get("max_rollbacks") or 0):
                if name not in _FATAL:
                    continue
                act = "stop"
            if act == "n_critic":
                now = self.n_critic or int(self._config.get("n_critic") or 1)
                self.n_critic = 2 * now + 1
            return Said(tuple(found), act, name, self.n_critic)
        return Said(tuple(found))

    def _examination(self, step: int) -> Examination:
        curves = {
            name: curve for name, term in self._terms.items() if len((curve := term.until(step))[0])
        }
        return Examination(step, curves, self._estimate, config=self._config, floor=self._floor)

    def _keep(self, record: Record) -> None:
        step = record["step"]
        for key, value in record.items():
            if key == "step" or key.endswith("_seconds") or isinstance(value, bool):
                continue
            if isinstance(value, int | float):
                assert isinstance(step, int)
                self._terms.setdefault(key, _Term()).add(step, float(value))

    def _next(self, step: int) -> None:
        self._before, self._due = step, step + max(_LEAST, step // _GROWTH)


class _Term:
    """The values of one term, evenly thinned."""

    def __init__(self) -> None:
        self._steps, self._values = array("d"), array("d")
        self._seen, self._every = 0, 1

    def add(self, step: int, value: float) -> None:
        if self._seen % self._every == 0:
            self._steps.append(step)
            self._values.append(value)
        self._seen += 1
        if len(self._steps) >= _MOST:
            self._steps, self._values = self._steps[::2], self._values[::2]
            self._every *= 2

    def until(self, step: int) -> tuple[Series, Series]:
        steps = np.array(self._steps)
        count = int(np.searchsorted(steps, step, side="right"))
        return steps[:count], np.array(self._values)[:count]


def _stuck(x: Examination) -> bool:
    """Whether audits say that the samples are far from the data and come no closer.

    A run that has only begun is far from the data, too.
    """
    excess = x.series(EXCESS)
    if len(excess) < _AUDITS or not far(x):
        return False
    began = float(np.median(excess[: max(2, len(excess) // 4)]))
    now = float(np.median(excess[-max(2, len(excess) // 4) :]))
    return now > _LESS * began and not trend(excess).falls(0.1)
