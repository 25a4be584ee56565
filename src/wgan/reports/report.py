"""One self-contained HTML file about one run, or about several runs on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from wgan.diagnostics.examination import Examination, curves
from wgan.reports import page, sections, tables
from wgan.reports.evidence import warned
from wgan.reports.inputs import EXCESS, ReportInput, Runs, named, words
from wgan.reports.plots import Plane
from wgan.reports.style import write_whole
from wgan.run import Run

__all__ = ["Plane", "ReportInput", "write_report"]

_SHEETS = 8  # over time, of one run
_SHEETS_OF_MANY = 4
_PICTURE_BYTES = 1_900_000  # all pictures together; base64 makes them a third larger


def write_report(path: Path, inputs: Sequence[ReportInput]) -> None:
    """Write a report that opens offline: one HTML file that holds its pictures.

    Several runs are drawn on shared axes, and have a column each in every table.

    Args:
        path: The HTML file; written whole or not at all.
        inputs: One or more runs.

    Raises:
        UserError: There is no run, one is given twice, or they are on different data.
        DamagedError: A sample sheet is not a whole picture.
    """
    runs = named(inputs)
    title = _title(runs)
    parts = [
        _head(runs, title),
        _samples(runs),
        sections.estimates(runs),
        sections.audits(runs),
        _warnings(runs),
        tables.evaluation(runs),
        sections.plane(runs),
        sections.losses(runs),
        sections.constraints(runs),
        sections.gradients(runs),
        sections.other_terms(runs),
        sections.times(runs),
        tables.settings(runs),
        tables.card(runs),
    ]
    document = page.page(title, "\n".join(part for part in parts if part))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, document.encode())


def _title(runs: Runs) -> str:
    item = next(iter(runs.values()))
    data = item.data.get("name", "unknown data")
    return f"{len(runs)} runs on {data}" if len(runs) > 1 else f"{item.recipe} on {data}"


def _head(runs: Runs, title: str) -> str:
    """The title, what was trained on what, and the numbers that sum it up."""
    parts = [f"<h1>{escape(title)}</h1>"]
    item = next(iter(runs.values()))
    if len(runs) == 1:
        parts.append(page.paragraph(_sentence(item), "lead"))
        if source := _source(item):
            parts.append(page.paragraph(f"{source}.", "note"))
        parts.append(page.tiles(_numbers(item).items()))
        reason = item.run.card.get("reason")
        if item.run.card.get("status") == "failed" and reason:
            parts.append(page.paragraph(f"The run stopped early: {reason}"))
    else:
        parts.append(page.paragraph(f"{len(runs)} runs trained on {_data(item.data)}.", "lead"))
        columns = [{"recipe": other.recipe, **_numbers(other)} for other in runs.values()]
        names = dict.fromkeys(key for column in columns for key in column)
        rows = [[key, *(column.get(key) for column in columns)] for key in names]
        parts.append(page.table(["", *runs], rows))
    return "<header>\n" + "\n".join(parts) + "\n</header>"


def _warnings(runs: Runs) -> str:
    """What the doctor said of one run on the way."""
    item = next(iter(runs.values()))
    found = item.run.card.get("warnings")
    if len(runs) > 1 or not found:
        return ""
    return warned(found, Examination(item.steps, curves(item.records), item.estimate))


def _data(data: Mapping[str, Any]) -> str:
    """The data in a few words: name, number of samples, shape of one."""
    said = str(data.get("name", "unknown data"))
    if "size" in data:
        size = data["size"]
        said += f", {size:,} samples" if isinstance(size, int) else ", unlimited samples"
        said += f" of shape {page.shape(data['shape'])}" if data.get("shape") else ""
    return said


def _sentence(item: ReportInput) -> str:
    """What was trained on what, for how long, and to which estimate."""
    held_out = (item.run.card.get("split") or {}).get("heldout")
    said = f"`{item.recipe}` trained on {_data(item.data)}"
    said += f" ({held_out:,} of them held out)" if isinstance(held_out, int) and held_out else ""
    said += f", for {item.steps:,} step{'s' * (item.steps != 1)}"
    said += f" in {page.duration(item.seconds)}." if item.steps else ": nothing is recorded yet."
    curve = item.curve(item.estimate)
    if item.estimate is not None and curve.final is not None:
        said += f" The {words(item.estimate)} ended at {page.number(curve.final, 3)}"
        said += f" (median of the last {curve.window} steps)." if curve.window > 1 else "."
    return said


def _source(item: ReportInput) -> str:
    """What the recipe is and where it was published."""
    recipe = item.run.card.get("recipe") or {}
    source = ", ".join(str(recipe[key]) for key in ("source", "year") if recipe.get(key))
    return ". ".join(part for part in (str(recipe.get("title") or ""), source) if part)


def _numbers(item: ReportInput) -> dict[str, str]:
    """The numbers that sum a run up, by name."""
    numbers = {"steps": f"{item.steps:,}", "training time": page.duration(item.seconds)}
    if item.seconds > 0:
        numbers["steps per second"] = page.number(len(item.records) / item.seconds, 3)
    final = item.curve(item.estimate).final
    if item.estimate is not None and final is not None:
        numbers[f"last {words(item.estimate)}"] = page.number(final, 3)
    for key, name in ((EXCESS, "last excess"), ("audit.lower", "W1 at least, certified")):
        if len(curve := item.curve(key)):
            numbers[name] = page.number(float(curve.values[-1]), 3)
    return numbers


def _sheets(run: Run, most: int) -> list[tuple[int, Path]]:
    """Up to `most` sheets with their steps, denser at the start, where most changes."""
    found = sorted(
        (int(path.stem), path) for path in run.path.glob("samples/*.png") if path.stem.isdigit()
    )
    if len(found) <= most:
        return found
    chosen = np.unique(np.geomspace(1, len(found), most).round().astype(int) - 1)
    return [found[i] for i in chosen]


def _samples(runs: Runs) -> str:
    """The last sheets beside real data, then the sheets of every run over time."""
    many = len(runs) > 1
    codec = next(iter(runs.values())).run.card.get("codec") or {}
    scatter = codec.get("kind") == "rows" and list(codec.get("shape", ())) == [2]
    # Sheets with axes have small print.
    wide = codec.get("kind") in ("rows", "volume") and not scatter
    most = _SHEETS_OF_MANY if many or wide else _SHEETS
    sheets = {name: found for name, item in runs.items() if (found := _sheets(item.run, most))}
    last = {f"{name}, step {found[-1][0]:,}": found[-1][1] for name, found in sheets.items()}
    if not many:
        last = {f"Samples at step {found[-1][0]:,}": found[-1][1] for found in sheets.values()}
    if codec.get("kind") != "rows":  # their sheets show the real ones, too
        reals = [item.run.path / "samples" / "real.png" for item in runs.values()]
        if real := next((path for path in reals if path.is_file()), None):
            last["Real data"] = real

    # Half of the bytes for the sheets to look at closely, half for those over time.
    large = _PICTURE_BYTES // 2 // max(1, len(last))
    small = _PICTURE_BYTES // 2 // max(1, sum(len(found) for found in sheets.values()))
    pictures = [
        page.figure(page.picture(path, name, most_bytes=large), name) for name, path in last.items()
    ]
    kind = "figures full" if wide else "figures"
    parts = [page.figures(pictures, kind)]
    sheets = {name: found for name, found in sheets.items() if len(found) > 1}
    for i, (name, found) in enumerate(sheets.items()):
        parts.append(f"<h3>{escape(f'{name} over time' if many else 'Over time')}</h3>")
        if i == 0:
            parts.append(page.paragraph("The same latents at every step.", "note"))
        over_time = []
        for step, path in found:
            markup = page.picture(path, f"Samples at step {step:,}", most_bytes=small)
            over_time.append(page.figure(markup, f"step {step:,}"))
        parts.append(page.figures(over_time, "figures" if wide else "sheets"))
    return page.section("Samples", *parts)
