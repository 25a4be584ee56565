"""Which of several runs is closer to the data: an answer with an interval, or none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wgan.bounds import FEWEST, measure
from wgan.data.base import Source
from wgan.diagnostics import Excess, HeldOut, Part
from wgan.errors import UserError
from wgan.reports.compared import Side, write_comparison
from wgan.trained import Data, Trained, own_samples

SIGNIFICANT = 0.05
"""Of all verdicts of a comparison together: the chance of one that is wrong."""

_SHEET = 500  # samples that a page draws from, and real ones
_FEW = 500  # samples of each behind a certified bound


@dataclass(frozen=True)
class Entry:
    """One run in a comparison.

    Attributes:
        name: The run's directory.
        recipe: Its recipe.
        step: Of the checkpoint that was judged.
        excess: On the held-out data that all runs share.
        behind: Its excess minus that of the closest run, with a 95% interval by a paired bootstrap;
            None for the closest itself.
        p: Of that difference, by Holm's correction over all pairs of runs; None as before.
        lower, upper: Bounds of the W1 between its population and the data's, which all hold
            together where it matters with 95% confidence; None where the data's range is not known.
    """

    name: str
    recipe: str
    step: int
    excess: Excess
    behind: tuple[float, float, float] | None
    p: float | None
    lower: float | None
    upper: float | None

    def verdict(self, best: Entry) -> str:
        """How sure it is that this run is further from the data than the closest."""
        if self.behind is None:
            return "closest"
        if best.upper is not None and self.lower is not None and best.upper < self.lower:
            return "further, certified"
        return "further" if self.p is not None and self.p < SIGNIFICANT else "cannot be told apart"


@dataclass(frozen=True)
class Pair:
    """Two runs, the one with the smaller excess first.

    Attributes:
        closer, further: Their names.
        value, low, high: The difference of their excesses with its 95% interval, by itself.
        p: How often chance alone makes such a difference, by Holm's correction over all pairs.
    """

    closer: str
    further: str
    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """Several runs on the same held-out data, closest first.

    Attributes:
        entries: One for each run.
        pairs: All of them.
        data: What they were trained on.
        held: Held-out samples that they were compared on.
        space: Where the excess compares samples.
        unit: Of the excess.
        said: What a reader should know of how it was done.
        seconds: What it took.
        real: Some of the data in own units, ``[n, *own_shape]``, for the page.
    """

    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    data: str
    held: int
    space: str
    unit: str
    said: str
    seconds: float
    real: NDArray[Any] = field(repr=False, compare=False)

    @property
    def best(self) -> Entry:
        """The run with the smallest excess."""
        return self.entries[0]

    def explain(self) -> str:
        """What may be concluded, in a paragraph."""
        best, *others = self.entries
        told = [entry for entry in others if entry.verdict(best).startswith("further")]
        certified = [entry for entry in others if entry.verdict(best).endswith("certified")]
        same = [entry.name for entry in others if entry not in told]
        said = f"{best.name} has the smallest excess, {best.excess.value:.4g} ({self.unit}). "
        if told:
            names = ", ".join(entry.name for entry in told)
            said += f"It is closer than {names}: significant at 5%{self._over()}. "
        if same:
            said += f"It cannot be told from {', '.join(same)} on {self.held:,} samples. "
        if certified:
            names = ", ".join(entry.name for entry in certified)
            said += f"That {names} are further is certified. "
        elif told:
            said += "None of it is certified: that needs an upper bound below another's lower. "
        return said + self.said

    def _over(self) -> str:
        pairs = len(self.pairs)
        return f", by Holm's correction over the {pairs} pairs" if pairs > 1 else ""

    def table(self) -> str:
        """One line a run, for a terminal."""
        best = self.best
        rows = [("run", "recipe", "step", "excess", "95% interval", "behind", "p", "")]
        for entry in self.entries:
            excess = entry.excess
            behind = ""
            if entry.behind is not None:
                value, low, high = entry.behind
                behind = f"{value:.3g} ({low:.3g} to {high:.3g})"
            rows.append(
                (
                    entry.name,
                    entry.recipe,
                    f"{entry.step:,}",
                    f"{excess.value:.4g}",
                    f"{excess.low:.3g} to {excess.high:.3g}",
                    behind,
                    "" if entry.p is None else f"{entry.p:.2g}",
                    entry.verdict(best),
                )
            )
        widths = [max(len(row[j]) for row in rows) for j in range(len(rows[0]))]
        return "\n".join(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "data": self.data,
            "held_out": self.held,
            "space": self.space,
            "unit": self.unit,
            "floor": self.best.excess.floor,
            "runs": [
                {
                    "run": entry.name,
                    "recipe": entry.recipe,
                    "step": entry.step,
                    "excess": entry.excess.value,
                    "low": entry.excess.low,
                    "high": entry.excess.high,
                    "behind": entry.behind
                    and dict(zip(("value", "low", "high"), entry.behind, strict=True)),
                    "p": entry.p,
                    "lower": entry.lower,
                    "upper": entry.upper,
                    "verdict": entry.verdict(self.best),
                }
                for entry in self.entries
            ],
            "pairs": [asdict(pair) for pair in self.pairs],
            "explained": self.explain(),
            "seconds": self.seconds,
        }


def compare_runs(
    runs: Sequence[Trained],
    *,
    data: Data | None = None,
    features: str = "auto",
    bounds: tuple[float, float] | None = None,
    seconds: float = 10.0,
    seed: int = 0,
) -> Comparison:
    """See :func:`wgan.compare`."""
    began = time.monotonic()
    names = _names(runs)
    source, heldout = _shared(runs, names, data)
    chosen = [
        name
        for name, run in zip(names, runs, strict=True)
        if run.checkpoint == "best" or {"stopped_by", "sweep"} & run.run.card.keys()
    ]
    held = HeldOut.of(heldout, features, *([] if chosen else [1.0]))
    part = None if held is None else held.report if chosen else held.select
    if held is None or part is None:
        raise UserError(
            f"{source.name} holds out {heldout.size} samples, too few to compare runs on; train "
            "with a larger --holdout"
        )
    said = f"Compared on {len(part):,} held-out samples and as many new ones of each run" + (
        f"; the former had no part in choosing {_them(chosen)}." if chosen else "."
    )
    count = len(part)
    found = [
        part.excess(run.sample_under(part.batch.condition, count, seed + i))
        for i, run in enumerate(runs)
    ]
    order = sorted(range(len(runs)), key=lambda i: found[i].value)
    first = order[0]
    codec = source.codec
    if bounds is None and codec.kind != "rows" and codec.low is not None and codec.high is not None:
        bounds = float(codec.low), float(codec.high)
    pairs = _pairs([names[i] for i in order], [found[i] for i in order])
    chances = {pair.further: pair.p for pair in pairs if pair.closer == names[first]}
    # A wrong claim needs an upper bound of any but the closest to be wrong, or a lower one of any
    # but the furthest.
    level = 1 - SIGNIFICANT / (2 * (len(runs) - 1))
    certified = [_bounds(run, part, bounds, level, seconds / len(runs), seed) for run in runs]
    entries = tuple(
        Entry(
            names[i],
            runs[i].config.recipe,
            runs[i].step,
            found[i],
            None if i == first else found[i].minus(found[first]),
            chances.get(names[i]),
            *certified[i],
        )
        for i in order
    )
    return Comparison(
        entries,
        pairs,
        source.name,
        count,
        held.space.name,
        held.unit,
        said,
        time.monotonic() - began,
        own_samples(source, _SHEET),
    )


def _them(chosen: Sequence[str]) -> str:
    if len(chosen) == 1:
        return f"{chosen[0]} or its step"
    return f"{', '.join(chosen)} or their steps"


def _pairs(names: Sequence[str], found: Sequence[Excess]) -> tuple[Pair, ...]:
    """All pairs of runs, closest first, with Holm's step-down p-values (Holm 1979)."""
    each = [(i, j) for j in range(len(names)) for i in range(j)]
    raw = [found[j].p_value(found[i]) for i, j in each]
    adjusted = [0.0] * len(raw)
    least = 0.0
    for rank, k in enumerate(sorted(range(len(raw)), key=raw.__getitem__)):
        least = max(least, min(1.0, (len(raw) - rank) * raw[k]))
        adjusted[k] = least
    return tuple(
        Pair(names[i], names[j], *found[j].minus(found[i]), p)
        for (i, j), p in zip(each, adjusted, strict=True)
    )


def write_page(found: Comparison, runs: Sequence[Trained], path: Path, seed: int = 0) -> None:
    """Write a comparison as one HTML file that opens offline, with samples of every run.

    Raises:
        UserError: The file cannot be written.
    """
    sides = {
        name: Side(run.run, run.sample(_SHEET, seed=seed), run.codec)
        for name, run in zip(_names(runs), runs, strict=True)
    }
    try:
        write_comparison(path, found.to_json(), sides, found.real)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _names(runs: Sequence[Trained]) -> list[str]:
    if len(runs) < 2:
        raise UserError(f"a comparison needs at least 2 runs, got {len(runs)}")
    names = [str(run.run.path) for run in runs]
    names = [
        name if run.checkpoint == "latest" else f"{name} ({run.checkpoint})"
        for name, run in zip(names, runs, strict=True)
    ]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name} is given twice; name every run once")
    return names


def _shared(
    runs: Sequence[Trained], names: Sequence[str], data: Data | None
) -> tuple[Source, Source]:
    """The data of all runs and its split, refused where they are not the same."""
    first = runs[0]
    for name, run in zip(names[1:], runs[1:], strict=True):
        one, other = (r.run.card["data"] for r in (first, run))
        if one["fingerprint"] != other["fingerprint"]:
            raise UserError(
                f"runs on different data cannot be compared: {names[0]} is on {one['name']} "
                f"({one['fingerprint'][:12]}), {name} on {other['name']} "
                f"({other['fingerprint'][:12]})"
            )
        mine, theirs = (
            {k: getattr(r.config, k) for k in ("holdout", "split_seed")} for r in (first, run)
        )
        if mine != theirs and one["size"] is not None:
            raise UserError(
                f"{names[0]} and {name} hold out different samples ({_split(mine)}; "
                f"{_split(theirs)}), so each has trained on what the other is judged by; train "
                "them with one --holdout and --split-seed"
            )
    source, _, heldout = first.sources(data)
    if heldout is None:
        raise UserError(
            f"{source.name} is not what {names[0]} was trained on, or nothing of it was held out"
        )
    return source, heldout


def _split(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in fields.items())


def _bounds(
    run: Trained,
    part: Part,
    bounds: tuple[float, float] | None,
    level: float,
    seconds: float,
    seed: int,
) -> tuple[float | None, float | None]:
    """W1 between the run's population and the data's, from both sides, if a range is known."""
    if bounds is None or run.codec.condition or len(part) < FEWEST:
        return None, None
    real = run.codec.decode(part.batch.values[:_FEW])
    found = measure(
        run.sample(len(real), seed=seed),
        real,
        bounds=bounds,
        level=level,
        seconds=seconds,
        seed=seed,
    )
    return found.lower, found.upper
