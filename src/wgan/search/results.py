"""What a sweep found: its trials, and the winner as it is on data that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from wgan.errors import RunFailedError
from wgan.search.space import Value

FEWEST_FOR_IMPORTANCE = 10
"""Trials. Of two settings, one of which does nothing, that one comes out as what matters in a
quarter of searches of 4 trials, in one of fifteen of 8 trials, and hardly ever of 10."""

State = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True)
class TrialResult:
    """One trial: a run of the same length as the others, unless it was pruned or failed.

    Attributes:
        number: From 0.
        state: complete, pruned, failed or running.
        values: Of the searched settings, by name.
        path: Its run directory.
        excess: The smallest of its audits, on the held-out data that choose; None: no audit.
        step: Of that audit; its checkpoint is kept as the run's best.
        steps: Steps that it made.
        seconds: Spent on it, by all processes that worked on it to the end of their part.
        reason: Why it was pruned or failed; empty for others.
        curve: Its audits: steps and excesses.
        reported: The excess of its best checkpoint on the part of the held-out data that chooses
            nothing: excess, low, high, floor, size.
        default: Whether it has the recipe's own settings.
    """

    number: int
    state: State
    values: Mapping[str, Value]
    path: Path
    excess: float | None
    step: int | None
    steps: int
    seconds: float
    reason: str
    curve: tuple[tuple[int, float], ...]
    reported: Mapping[str, float] | None
    default: bool

    def describe(self) -> str:
        """The values in words."""
        return ", ".join(f"{name} {shown(value)}" for name, value in self.values.items())


@dataclass(frozen=True)
class Sweep:
    """The trials of a sweep, by number.

    Attributes:
        path: Its directory.
        data: What was trained on.
        trials: All that have begun.
        planned: How many there are to be.
        steps: Of each.
        rule: How the length of a trial was settled.
        pruner: What ended trials early.
        unit: Of the excess.
        space: Where it compares samples.
        held: Held-out samples that chose.
        importances: Share of each setting in what the settings explain one by one of the variance,
            among trials that did not fail, of the smallest excess up to a step (fANOVA, Hutter et
            al. 2014); empty for fewer than 10 of them, or one setting.
        importance_step: That step: the last that all of them have reached; 0 for no importances.
        settings: The winner's whole configuration: ``wgan.train(data, **settings)``.
        seconds: What this call took.
    """

    path: Path
    data: str
    trials: tuple[TrialResult, ...]
    planned: int
    steps: int
    rule: str
    pruner: str
    unit: str
    space: str
    held: int
    importances: Mapping[str, float]
    importance_step: int
    settings: Mapping[str, Any] = field(repr=False)
    seconds: float

    @property
    def best(self) -> TrialResult:
        """The trial with the smallest excess among those that ran to their end.

        Raises:
            RunFailedError: None has.
        """
        found = [t for t in self.trials if t.state == "complete" and t.excess is not None]
        if not found:
            rest = "" if self.done else "; the same command goes on"
            raise RunFailedError(
                f"no trial of {self.path} has run to its end: {self.counts()}{rest}"
            )
        return min(found, key=lambda trial: (trial.excess, trial.number))

    @property
    def default(self) -> TrialResult | None:
        """The trial with the recipe's own settings, where the search holds them."""
        return next((trial for trial in self.trials if trial.default), None)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return len(self.trials) >= self.planned and all(t.state != "running" for t in self.trials)

    def counts(self) -> str:
        """How many trials came to which end, in words."""
        states = [trial.state for trial in self.trials]
        parts = [f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed", "running")]
        return f"{len(states)} of {self.planned} trials, " + ", ".join(
            part for part in parts if not part.startswith("0 ")
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        whole = any(trial.state == "complete" for trial in self.trials)
        return {
            "sweep": str(self.path),
            "data": self.data,
            "planned": self.planned,
            "steps": self.steps,
            "pruner": self.pruner,
            "unit": self.unit,
            "space": self.space,
            "held_out": self.held,
            "best": self.best.number if whole else None,
            "importances": dict(self.importances),
            "importance_step": self.importance_step,
            "trials": [{**asdict(t), "path": str(t.path)} for t in self.trials],
            "seconds": self.seconds,
        }


def shown(value: Value) -> str:
    """A setting's value with no more digits than it takes to tell them apart."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
