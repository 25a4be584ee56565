"""The page of a comparison: who is closer, how sure that is, and what does not follow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wgan.data.codec import Codec
from wgan.reports import page
from wgan.reports.inputs import EXCESS, ReportInput
from wgan.reports.plots import over_steps
from wgan.reports.sheet import sample_sheet
from wgan.reports.style import INK, MUTED, literal, new_axes, series_style, svg, write_whole
from wgan.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURE_BYTES = 1_500_000  # all pictures together
_PICTURES = 64  # of a sheet


@dataclass(frozen=True)
class Side:
    """One run of a comparison, as the page shows it.

    Attributes:
        run: Its directory.
        samples: Of the checkpoint that is compared, ``[n, *own_shape]``.
        codec: What a sample is.
    """

    run: Run
    samples: NDArray[Any]
    codec: Codec


def write_comparison(
    path: Path, found: Mapping[str, Any], sides: Mapping[str, Side], real: NDArray[Any]
) -> None:
    """Write the page.

    Args:
        path: The HTML file; written whole or not at all.
        found: What :meth:`wgan.comparison.Comparison.to_json` gives.
        sides: The runs by the names that they have there.
        real: Some of the data, ``[n, *own_shape]``.
    """
    names = _short([entry["run"] for entry in found["runs"]])
    title = f"{len(names)} runs on {found['data']} compared"
    parts = [
        f"<header><h1>{escape(title)}</h1>"
        f"{page.paragraph(_renamed(found['explained'], names), 'lead')}</header>",
        _table(found, names),
        _intervals(found, names),
        _conclusions(found, names),
        _curves(names, sides),
        _samples(names, sides, real),
    ]
    document = page.page(title, "\n".join(part for part in parts if part))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, document.encode())


def _short(paths: Sequence[str]) -> dict[str, str]:
    """The last part of each path where these differ, else the whole path."""
    last = {path: path.rstrip("/").rsplit("/", 1)[-1] for path in paths}
    return last if len(set(last.values())) == len(last) else {path: path for path in paths}


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for path in sorted(names, key=len, reverse=True):
        text = text.replace(path, names[path])
    return text


def _table(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    bounded = any(entry["upper"] is not None for entry in found["runs"])
    header = ["run", "recipe", "step", "excess", "95% interval", "behind the closest", "p"]
    rows = []
    for entry in found["runs"]:
        behind = entry["behind"]
        cells: list[object] = [
            names[entry["run"]],
            entry["recipe"],
            entry["step"],
            entry["excess"],
            _span(entry["low"], entry["high"]),
            f"{page.number(behind['value'], 3)} ({_span(behind['low'], behind['high'])})"
            if behind
            else None,
            None if entry["p"] is None else float(f"{entry['p']:.2g}"),
        ]
        if bounded:
            cells.append(None if entry["upper"] is None else _span(entry["lower"], entry["upper"]))
        rows.append([*cells, entry["verdict"]])
    note = (
        f"The excess, in {found['unit']} ({found['space']}), is how much further samples are from "
        f"held-out data than other held-out data are, on {found['held_out']:,} samples that no run "
        f"has trained on; two halves of them are {page.number(found['floor'], 3)} apart."
    )
    if bounded:
        header.append("W1 certified between")
    return page.section("Result", page.paragraph(note), page.table([*header, ""], rows, [0]))


def _span(low: float, high: float) -> str:
    return f"{page.number(low, 3)} to {page.number(high, 3)}"


def _intervals(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The excesses, and the differences that decide, each with its interval."""
    entries, unit = found["runs"], found["unit"]
    rows = [(names[e["run"]], e["excess"], e["low"], e["high"], i) for i, e in enumerate(entries)]
    behind = [
        (names[e["run"]], e["behind"]["value"], e["behind"]["low"], e["behind"]["high"], i)
        for i, e in enumerate(entries)
        if e["behind"]
    ]
    each = [
        page.figure(
            svg(_bars(rows, f"excess, {unit}"), "Excess of each run with its 95% interval"),
            "Excess",
            "With 95% intervals. That two of them overlap does not say that two runs are equal: "
            "what chance did to the shared data is in both.",
        ),
        page.figure(
            svg(
                _bars(behind, f"excess behind {names[entries[0]['run']]}, {unit}"),
                "Difference to the closest run with its 95% interval",
            ),
            "Behind the closest",
            "The held-out data are resampled together for both, so that what chance did to them "
            "cancels. The intervals are 95% each by itself; the verdicts go by Holm's p-values.",
        ),
    ]
    return page.section("Intervals", page.figures(each))


def _bars(rows: Sequence[tuple[str, float, float, float, int]], label: str) -> Figure:
    figure, axes = new_axes(5.6, 0.95 + 0.36 * len(rows))
    for place, (_, value, low, high, i) in enumerate(rows):
        colour = series_style(i)["color"]
        axes.plot([low, high], [place, place], color=colour, lw=2.2, solid_capstyle="butt")
        axes.plot(value, place, "o", color=colour, ms=6)
    axes.axvline(0, color=MUTED, lw=0.8, zorder=1)
    axes.set_yticks(range(len(rows)), [literal(name) for name, *_ in rows])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    return figure


def _conclusions(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    said = []
    for pair in found["pairs"]:
        closer, further = names[pair["closer"]], names[pair["further"]]
        low, high = (page.number(pair[end], 3) for end in ("low", "high"))
        if pair["p"] < 0.05:
            said.append(f"{closer} is closer to the data than {further} (p {pair['p']:.2g}).")
        else:
            said.append(
                f"{closer} and {further} cannot be told apart (p {pair['p']:.2g}): the difference "
                f"is between {low} and {high} with 95% confidence, so either may be the closer one."
            )
    count = len(found["pairs"])
    how = (
        f"There are {count} pairs, and which run is the closest was not known before: the p-values "
        "are Holm's over all of them, so that the chance of one false verdict or more is 5%."
        if count > 1
        else "The p-value is of the one difference, either way; verdicts are at 5%."
    )
    cannot = [
        "Which recipe, setting or network is better: these are single runs of one seed each, and "
        "the intervals hold the chance in the samples, not that in the training.",
        "That runs which cannot be told apart are equal: more held-out samples may tell them.",
        "That an excess near 0 is the data's distribution: it is a distance that errs on the small "
        "side, in the space that is named, and no bound on anything.",
        "How pictures look: see for yourself below.",
    ]
    markup = "".join(f"<li>{escape(line)}</li>" for line in said)
    open_ = "".join(f"<li>{escape(line)}</li>" for line in cannot)
    return page.section(
        "What follows, and what does not",
        f"<ul>{markup}</ul>",
        page.paragraph(how, "note"),
        "<h3>What cannot be concluded</h3>",
        f"<ul>{open_}</ul>",
    )


def _curves(names: Mapping[str, str], sides: Mapping[str, Side]) -> str:
    inputs = {
        names[name]: ReportInput(sides[name].run, sides[name].run.records()) for name in names
    }
    curves = {name: item.curve(EXCESS) for name, item in inputs.items()}
    without = [name for name, curve in curves.items() if not len(curve)]
    said = page.paragraph(f"Not audited while it trained: {', '.join(without)}.") if without else ""
    if len(without) == len(curves):
        return page.section("Audits", said)
    spaces = {
        (card.get("space"), card.get("samples"))
        for name in names
        if (card := sides[name].run.card.get("audit"))
    }
    if len(spaces) > 1:
        said += page.paragraph("The runs were audited in different ways: read each by itself.")
    bands = {
        name: (item.curve(f"{EXCESS}_low"), item.curve(f"{EXCESS}_high"))
        for name, item in inputs.items()
    }
    plot = over_steps(curves, "excess", zero=True, marks=True, bands=bands)
    title = "Audited excess over steps"
    note = "As each run was audited while it trained, with 95% intervals."
    drawn = page.figure(svg(plot, title), title, note)
    return page.section("Audits", said, page.figures([drawn]))


def _samples(names: Mapping[str, str], sides: Mapping[str, Side], real: NDArray[Any]) -> str:
    each = []
    codec = next(iter(sides.values())).codec
    wide = codec.kind != "image" and list(codec.shape) != [2]
    most = _PICTURE_BYTES // (len(names) + 1)
    rows = codec.kind == "rows"
    shown = [(names[name], f"Samples of {names[name]}", sides[name].samples) for name in names]
    if not rows:  # sheets of rows show the real ones, too
        shown.append(("Data", "Data", real))
    with tempfile.TemporaryDirectory() as folder:
        for title, label, samples in shown:
            place = Path(folder) / "sheet.png"
            count = len(samples) if rows else _PICTURES
            sample_sheet(np.asarray(samples[:count]), codec, path=place, real=real)
            each.append(page.figure(page.picture(place, label, most_bytes=most), title))
    note = page.paragraph("Of the checkpoints that are compared, closest first.", "note")
    return page.section("Samples", note, page.figures(each, "figures full" if wide else "figures"))
