"""What a report is made of, and what every part of it asks of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from wgan.errors import UserError
from wgan.reports.plots import Curve, Plane, curves_of
from wgan.run import Run
from wgan.types import Record

EXCESS = "audit.excess"


@dataclass(frozen=True)
class ReportInput:
    """What a report says of one run.

    Attributes:
        run: The run directory: configuration, card and sample sheets.
        records: One per step, ascending.
        plane: Samples and critic over the plane, for data of two numbers.
        evaluation: What `wgan.metrics` measured, as plain data: `measurements` by name, each with
            value, floor, better, meaning and detail.
    """

    run: Run
    records: Sequence[Record]
    plane: Plane | None = None
    evaluation: Mapping[str, Any] | None = None

    @cached_property
    def curves(self) -> Mapping[str, Curve]:
        """Every number of the records, by its key."""
        return curves_of(self.records)

    def curve(self, key: str | None) -> Curve:
        """One number of the records; empty where no record has it."""
        return self.curves.get(key or "", Curve.empty())

    @property
    def data(self) -> Mapping[str, Any]:
        """What the card says of the data."""
        found = self.run.card.get("data")
        return found if isinstance(found, dict) else {}

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        found = self.run.card.get("recipe") or {}
        return str(found.get("name") or self.run.config.get("recipe") or "a recipe")

    @property
    def estimate(self) -> str | None:
        """The record's key of the estimate, if the method has one."""
        key = self.run.card.get("estimate")
        return key if isinstance(key, str) else None

    @property
    def steps(self) -> int:
        """The last step recorded."""
        last = self.records[-1]["step"] if self.records else 0
        return last if isinstance(last, int) else 0

    @property
    def seconds(self) -> float:
        """Time of all steps recorded."""
        return float(self.curve("step_seconds").values.sum())


Runs = Mapping[str, ReportInput]


def named(inputs: Sequence[ReportInput]) -> Runs:
    """Runs by the name of their directory, or by its whole path where names are not unique.

    Raises:
        UserError: There is none, one is given twice, or they are on different data.
    """
    if not inputs:
        raise UserError("a report needs at least one run")
    names = [item.run.path.resolve().name for item in inputs]
    if len(set(names)) < len(names):
        names = [str(item.run.path.resolve()) for item in inputs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is given twice; name every run once")
    runs = dict(zip(names, inputs, strict=True))
    (first, one), *others = runs.items()
    for name, other in others:
        if other.data.get("fingerprint") != one.data.get("fingerprint"):
            here, there = (
                f"{item.data.get('name', 'unknown data')} "
                f"({str(item.data.get('fingerprint', 'no fingerprint'))[:12]})"
                for item in (one, other)
            )
            raise UserError(
                f"runs on different data cannot share a report: {first} is on {here}, {name} on "
                f"{there}; write one report for each"
            )
    return runs


def words(key: str) -> str:
    """A record's key as words."""
    return key.replace("wasserstein", "Wasserstein").replace("js_", "JS ").replace("_", " ")
