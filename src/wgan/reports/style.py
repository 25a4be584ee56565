"""How every picture of this package looks: colours, axes, and the way to SVG and PNG.

Figures are made without pyplot, so that nothing global is opened or left behind.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2430"
MUTED = "#6b7280"
GRID = "#e5e7eb"
REAL = "#9aa1ab"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0579a", "#b88600", "#3a9bd9")
"""Okabe and Ito's colours, which colour-blind readers tell apart, a little darker on white."""

DASHES = ("-", "--", ":", "-.")

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    REAL: "--real",
    **{colour: f"--series-{i}" for i, colour in enumerate(SERIES)},
}
"""Colours that an inline SVG takes from the page, so that they follow its light or dark mode."""


def series_style(i: int) -> dict[str, Any]:
    """Colour and dash of the i-th run; after the last colour the dash changes."""
    return {
        "color": SERIES[i % len(SERIES)],
        "linestyle": DASHES[(i // len(SERIES)) % len(DASHES)],
    }


def new_axes(width: float = 5.6, height: float = 3.3) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one tidy pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    tidy(axes)
    return figure, axes


def tidy(axes: Axes, *, size: float = 9.5) -> None:
    """Two thin spines, a light grid behind the data, text of this size in points."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=size, length=3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=size)
    axes.title.set(color=INK, fontsize=size + 0.5)


def literal(text: str) -> str:
    """Text as matplotlib should draw it: no formulas, and not hidden from a legend."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def png(figure: Figure, *, dpi: int = 100) -> bytes:
    """The figure on white, as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def svg(figure: Figure, title: str) -> str:
    """The figure as an inline ``<svg>`` element whose colours and fonts are the page's.

    Text stays text, the background is left out, the colours in `VARIABLES` become CSS variables
    with the colour itself as the fallback, coordinates have two decimals, and only
    ids that something refers to are kept.

    Args:
        figure: What to draw.
        title: What it shows, for readers who cannot see it; plain text.
    """
    import html

    from matplotlib import rc_context

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "wgan"}):
        figure.savefig(buffer, format="svg", transparent=True, dpi=160, metadata=nothing)
    text = buffer.getvalue()
    opening = re.search(r'<svg [^>]*viewBox="([^"]+)"[^>]*>', text)
    assert opening is not None
    body = text[opening.end() :]
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", body)
    body = re.sub(r' d="[^"]+"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), body)
    body = re.sub(
        "|".join(VARIABLES), lambda m: f"var({VARIABLES[m[0]]}, {m[0]})", body, flags=re.IGNORECASE
    )
    name = html.escape(title)
    return f'<svg viewBox="{opening[1]}" role="img" aria-label="{name}">{body}'


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that a reader never sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
