"""What a rule is, what it finds, and what rules share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from wgan.diagnostics.examination import Examination
from wgan.diagnostics.signs import trend

Verdict = Literal["healthy", "improving", "ill"]
Kind = Literal["ill", "note"]
Live = Literal["", "data", "always", "stuck"]
"""When a rule is asked while a run goes on: never; of the data, at the start; whatever the samples
are; only where they are far from the data and come no closer."""

EXCESS = "audit.excess"
LOG2 = math.log(2)
"""The most that a JS divergence can be."""


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        name: From the documented list.
        evidence: The numbers that show it.
        cause: The likely cause, and what told it from its rivals.
        advice: What to change, and what that costs.
        confidence: In (0, 1].
        kind: ``ill``: something is wrong. ``note``: where the run stands.
    """

    name: str
    evidence: str
    cause: str
    advice: str
    confidence: float
    kind: Kind = "ill"


@dataclass(frozen=True)
class Rule:
    """A rule and what the page says of it.

    Attributes:
        name: Of its finding.
        title: What it finds, in a line.
        sign: By which it is told.
        kind: Of its finding.
        live: When it is asked while a run goes on.
        check: The finding's evidence, advice and confidence; None where there is nothing.
    """

    name: str
    title: str
    sign: str
    kind: Kind
    live: Live
    check: Callable[[Examination], Finding | None]


RULES: list[Rule] = []
"""Every rule, in the order in which findings of equal confidence are told."""


Check = Callable[[Examination], "Told | None"]


def rule(
    name: str, title: str, sign: str, kind: Kind = "ill", *, live: Live = ""
) -> Callable[[Check], Check]:
    """Register a rule; what it tells gets the rule's name and kind."""

    def add(check: Check) -> Check:
        def found(examination: Examination) -> Finding | None:
            told = check(examination)
            return None if told is None else Finding(name, **vars(told), kind=kind)

        RULES.append(Rule(name, title, sign, kind, live, found))
        return check

    return add


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of a run.

    Attributes:
        verdict: ``ill`` where something is wrong, ``improving`` where it still gets better, else
            ``healthy``.
        findings: The surest first.
        missing: What could not be looked at.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    missing: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
            "missing": self.missing,
        }

    def text(self, shown: Mapping[str, str] | None = None) -> str:
        """For a terminal.

        Args:
            shown: A line for a finding that shows its evidence, by name.
        """
        heads = {
            "healthy": "healthy: nothing is wrong that shows",
            "improving": "improving: nothing is wrong that shows, and it still gets better",
            "ill": "ill",
        }
        lines = [heads[self.verdict]]
        if self.missing and self.verdict == "healthy":
            lines = ["healthy, as far as it was looked at: nothing is wrong that shows"]
        for finding in self.findings:
            lines += [
                "",
                f"{finding.name} ({finding.confidence:.0%} sure)",
                f"  what  {finding.evidence}",
                f"  why   {finding.cause}",
                f"  do    {finding.advice}",
            ]
            if shown and shown.get(finding.name):
                lines.insert(-2, f"  see   {shown[finding.name]}")
        if self.missing:
            lines += ["", f"not looked at: {self.missing}"]
        return "\n".join(lines)


BRINGS: dict[str, tuple[str, ...]] = {
    "learning-rate-too-high": (
        *("mode-collapse", "dead-units", "critic-under-trained", "vanishing-gradient"),
        *("oscillation", "exploding-gradient", "critic-exploited", "generator-stands-still"),
    ),
    "generator-stands-still": ("mode-collapse", "vanishing-gradient", "learning-rate-too-low"),
    "momentum-harmful": ("mode-collapse", "dead-units", "critic-under-trained", "oscillation"),
    "clip-bound-too-large": (
        *("mode-collapse", "critic-under-trained", "exploding-gradient"),
        "generator-stands-still",
    ),
    "clip-bound-too-small": (
        *("mode-collapse", "critic-under-trained", "learning-rate-too-low"),
        "generator-stands-still",
    ),
    "vanishing-gradient": ("mode-collapse", "critic-under-trained", "learning-rate-too-low"),
    "critic-saturated": (
        *("mode-collapse", "vanishing-gradient", "learning-rate-too-low"),
        "generator-stands-still",
    ),
    "penalty-dominates": ("mode-collapse", "critic-under-trained", "vanishing-gradient"),
    "constraint-not-enforced": ("mode-collapse", "critic-under-trained", "exploding-gradient"),
    "constraint-over-enforced": ("mode-collapse", "critic-under-trained"),
    "batch-too-small": ("mode-collapse", "critic-under-trained", "oscillation"),
    "outliers": ("mode-collapse", "critic-under-trained"),
    "dead-units": ("mode-collapse",),
}
"""What a finding brings about: told after it, as a symptom after its cause."""


_WHERE_WELL = ("too-early", "far-from-data")
"""Told where nothing is ill: what is ill says more."""


def diagnose(examination: Examination) -> Diagnosis:
    """Apply every rule."""
    found = [f for one in RULES if (f := one.check(examination)) is not None]
    brought = {name for finding in found for name in BRINGS.get(finding.name, ())}
    found.sort(key=lambda f: (f.kind == "note", f.name in brought, -f.confidence))
    ill = any(finding.kind == "ill" for finding in found)
    if ill:
        found = [finding for finding in found if finding.name not in _WHERE_WELL]
    improving = any(finding.name == "still-improving" for finding in found)
    verdict: Verdict = "ill" if ill else "improving" if improving else "healthy"
    return Diagnosis(verdict, tuple(found), examination.missing)


# -- what rules share --------------------------------------------------------------------------


def far(x: Examination) -> bool:
    """Whether the samples are clearly not the data: what is wrong with a run must show there."""
    low = x.last("audit.excess_low")
    floor = x.last("audit.w1_floor") if x.floor is None else x.floor
    told = x.judged.get("nn_accuracy")
    apart = told is not None and told.value > 0.75
    if math.isfinite(low) and math.isfinite(floor):
        return low > 0.25 * floor or (apart and low > 0)
    return apart


def collapsed(x: Examination) -> float:
    """Share of the data that samples miss while they lie among it or on top of one another.

    0 where that is not so, or not known.
    """
    names = ("recall", "precision", "duplicates")
    if all(name in x.judged for name in names):
        if closing(x) or young(x):
            return 0.0  # it has not found all of the data yet
        recall, precision, copies = (x.judged[name] for name in names)
        missing = 1 - recall.value / max(recall.floor, 1e-9)
        alike = copies.value > max(0.1, 5 * copies.floor)
        among = precision.value > 0.5 * precision.floor
        return max(missing, 0.0) if among or alike else 0.0
    recalls, covers = x.series("audit.recall"), x.series("audit.coverage")
    count = max(_LASTING, len(covers) // 4)
    if len(covers) < 2 * _LASTING or trend(covers).rises(0.1):
        return 0.0  # a generator that is still finding the data covers little of it, too
    among = x.late("audit.precision") > 0.5
    if not among or covers[-count:].max() > 0.5 or recalls[-count:].max() > 0.7:
        return 0.0
    return 1 - float(np.median(recalls[-count:]))


_LASTING = 5  # audits


def closing(x: Examination) -> bool:
    """Whether the samples are coming closer fast: a run that has only begun is far, too."""
    excess = x.series(EXCESS)
    part = max(1, len(excess) // 4)
    return len(excess) > 1 and bool(
        np.median(excess[-part:]) < 0.6 * np.median(excess[:part])
        and excess[-1] < excess[:part].min()
    )


def young(x: Examination) -> bool:
    """Whether it is too early to expect anything of the samples."""
    return x.steps < 300 and len(x.series(EXCESS)) < 3


def damaged(x: Examination) -> bool:
    """Whether what is wrong with a run has harmed it, as far as that can be told."""
    dead = x.networks is not None and x.networks.dead > _DEAD
    return far(x) or dead or collapsed(x) > 0.25


_DEAD = 0.4  # share of a generator's units


@dataclass(frozen=True)
class Told:
    """A finding before its rule has given it name and kind."""

    evidence: str
    cause: str
    advice: str
    confidence: float


def told(evidence: str, cause: str, advice: str, confidence: float) -> Told:
    return Told(evidence, cause, advice, round(confidence, 2))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, x))))


def sure(value: float, threshold: float, *, low: float = 0.6, high: float = 0.97) -> float:
    """Confidence that grows with the factor by which a value exceeds its threshold."""
    return low + (high - low) * (
        2 * _sigmoid(math.log(max(value, 1e-300) / max(threshold, 1e-300))) - 1
    )


def setting(x: Examination, name: str) -> Any:
    return x.config.get(name)


def number(value: float) -> str:
    return f"{value:.3g}"
