"""Sheets that need axes: projections of volumes, scatter and histograms of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgan.data.codec import Codec
from wgan.reports.style import INK, MUTED, REAL, SERIES, literal, new_axes, png, tidy

_MAX_VOLUMES = 12
_VOLUMES_ACROSS = 3
_MAX_COLUMNS = 16
_MAX_POINTS = 20_000
_HEAVY_TAIL = 100.0  # largest over middle value, beyond which colours go by the logarithm

Floats = NDArray[np.float64]


def volume_sheet(samples: NDArray[Any], codec: Codec, real: NDArray[Any] | None) -> bytes:
    """Volumes ``[n, ...]`` as their means along each of the three axes, as a PNG file.

    One scale of colours for all. It is logarithmic where the values are >= 0 and the largest are
    far above the middle ones, as in calorimeter showers, and the title says so.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    shown = samples[:_MAX_VOLUMES]
    views = _projections(shown, codec)
    reference = np.concatenate(
        [view.ravel() for view in (views if real is None else _projections(real[:256], codec))]
    )
    low, high = (float(q) for q in np.quantile(reference, (0.001, 0.9995)))
    positive = reference[reference > 0]
    logarithmic = bool(
        low >= 0 and len(positive) and positive.max() > _HEAVY_TAIL * np.median(positive)
    )
    if logarithmic:
        low = max(high / 1e4, float(np.quantile(positive, 0.02)))
        norm: Normalize = LogNorm(low, high)
        views = [view.clip(low) for view in views]  # nothing at all has a colour, too
    else:
        norm = Normalize(low, high if high > low else low + 1)

    mosaic, centres = _mosaic(views)
    width = 9.6
    height = 1.0 + (width - 1.2) * mosaic.shape[0] / mosaic.shape[1]
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    tidy(axes)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    image = axes.imshow(mosaic, norm=norm, cmap="magma", interpolation="nearest")
    axes.set_yticks([])
    axes.set_xticks(centres, ["along depth", "along height", "along width"] * (len(centres) // 3))
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8.5, labelcolor=MUTED)
    title = f"{len(shown)} of " * (len(samples) > len(shown)) + f"{len(samples):,} samples, "
    title += "means" + ", channels averaged" * (codec.shape[0] > 1)
    title += ", colours on a log scale" * logarithmic
    axes.set_title(title, loc="left", pad=8, fontsize=10, color=INK)
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3.2 / height), pad=0.015, aspect=22)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, colors=MUTED, labelcolor=INK)
    return png(figure)


def _projections(volumes: NDArray[Any], codec: Codec) -> list[Floats]:
    """The means along the three axes, each ``[n, a, b]``; channels are averaged first."""
    values = np.nan_to_num(volumes.astype(np.float64))
    if codec.layout == "channels-first":
        values = values.mean(axis=1)
    elif codec.layout == "channels-last":
        values = values.mean(axis=-1)
    return [values.mean(axis=axis) for axis in (1, 2, 3)]


def _mosaic(views: list[Floats]) -> tuple[Floats, list[float]]:
    """Three views per sample side by side, samples in rows; NaN between them.

    Returns:
        The mosaic, and the horizontal centre of each of its columns of views.
    """
    n = len(views[0])
    across = min(_VOLUMES_ACROSS, n)
    rows = -(-n // across)
    side = max(max(view.shape[1:]) for view in views)
    gap = max(1, side // 16)
    group = 3 * side + 2 * gap
    step = group + 3 * gap
    mosaic = np.full((rows * (side + 2 * gap) - 2 * gap, across * step - 3 * gap), np.nan)
    for i in range(n):
        for j, view in enumerate(views):
            height, width = view.shape[1:]
            top = (i // across) * (side + 2 * gap) + (side - height) // 2
            left = (i % across) * step + j * (side + gap) + (side - width) // 2
            mosaic[top : top + height, left : left + width] = view[i]
    centres = [
        k * step + j * (side + gap) + (side - 1) / 2 for k in range(across) for j in range(3)
    ]
    return mosaic, centres


def row_sheet(samples: NDArray[Any], codec: Codec, real: NDArray[Any] | None) -> bytes:
    """Rows as a scatter of two columns, or as histograms of up to 16, as a PNG file."""
    rows = samples.reshape(len(samples), -1).astype(np.float64)
    compared = None if real is None else real.reshape(len(real), -1).astype(np.float64)
    if rows.shape[1] == 2:
        return _scatter(rows, codec, compared)
    return _histograms(rows, codec, compared)


def _scatter(rows: Floats, codec: Codec, real: Floats | None) -> bytes:
    figure, axes = new_axes(7, 7)
    shown = rows[:_MAX_POINTS]
    axes.scatter(
        shown[:, 0], shown[:, 1], s=point_size(len(shown)), c=SERIES[0], alpha=0.6, linewidths=0
    )
    title = f"{len(shown):,} samples (blue)"
    if real is not None:
        # On top and small: a tight mode would vanish under the samples around it.
        points = real[: len(shown)]
        size = 0.3 * point_size(len(points))
        axes.scatter(points[:, 0], points[:, 1], s=size, c=SERIES[1], linewidths=0)
        title += f", {len(points):,} real (orange)"
    reference = rows if real is None else real
    low, high = reference.min(axis=0), reference.max(axis=0)
    margin = 0.12 * np.where(high > low, high - low, 1.0)
    low, high = low - margin, high + margin
    outside = int(((shown < low) | (shown > high)).any(axis=1).sum())
    if outside:
        title += f"; {outside:,} outside the frame"
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), title=title)
    if codec.columns:
        axes.set(xlabel=literal(codec.columns[0]), ylabel=literal(codec.columns[1]))
    else:
        axes.set_aspect("equal", adjustable="box")
    return png(figure)


def point_size(n: int) -> float:
    """Area of a marker in square points, smaller where there are more of them."""
    return float(np.clip(12_000 / n, 3, 24))


def _histograms(rows: Floats, codec: Codec, real: Floats | None) -> bytes:
    from matplotlib.figure import Figure

    width = rows.shape[1]
    chosen = np.unique(np.linspace(0, width - 1, min(width, _MAX_COLUMNS)).round().astype(int))
    across = min(4, len(chosen)) if len(chosen) != 9 else 3
    down = -(-len(chosen) // across)
    figure = Figure(figsize=(max(2.6 * across, 5.2), 2.1 * down + 0.6), layout="constrained")
    title = f"{len(rows):,} samples (blue)" + (
        "" if real is None else f" against {len(real):,} real ones (grey)"
    )
    if width > len(chosen):
        title += f": {len(chosen)} of {width:,} columns"
    figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    for panel, j in enumerate(chosen):
        axes = figure.add_subplot(down, across, panel + 1)
        tidy(axes, size=8.5)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        drawn = _finite(rows[:, j])
        known = None if real is None else _finite(real[:, j])
        edges = _edges(drawn if known is None else known, drawn)
        if known is not None:
            axes.stairs(_shares(known, edges), edges, fill=True, color=REAL, alpha=0.65)
        axes.stairs(_shares(drawn, edges), edges, color=SERIES[0], linewidth=1.4)
        axes.set_ylim(bottom=0)
        axes.set_xlim(edges[0], edges[-1])
        axes.locator_params(axis="x", nbins=4)
        outside = float(((drawn < edges[0]) | (drawn > edges[-1])).mean())
        axes.set_title(_column_name(codec, int(j)), loc="left", fontsize=9.5, color=INK)
        if outside >= 0.02:
            axes.set_title(f"{outside:.0%} outside", loc="right", fontsize=8, color=MUTED)
    return png(figure)


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _shares(values: Floats, edges: Floats) -> Floats:
    """The share of all values in each bin."""
    return np.histogram(values, edges)[0] / max(len(values), 1)


def _edges(reference: Floats, drawn: Floats) -> Floats:
    """Bin edges over the bulk of the reference and a margin; few whole numbers get a bin each."""
    reference = reference if len(reference) else np.zeros(1)
    low, high = (float(q) for q in np.quantile(reference, (0.002, 0.998)))
    if high - low <= 40 and np.array_equal(reference, np.rint(reference)):
        return np.arange(np.floor(low) - 1.5, np.ceil(high) + 2)
    if len(drawn):
        # Samples that went astray are in sight as far as a quarter of the range on either side.
        margin = 0.25 * (high - low)
        near, far = (float(q) for q in np.quantile(drawn, (0.002, 0.998)))
        low, high = max(min(low, near), low - margin), min(max(high, far), high + margin)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 41)


def _column_name(codec: Codec, j: int) -> str:
    """A column's name, or its place in a sample's own shape."""
    if codec.columns:
        name = codec.columns[j]
        return literal(name if len(name) <= 28 else name[:27] + "…")
    if codec.flattened is not None and len(codec.flattened) > 1:
        return "[" + ", ".join(str(i) for i in np.unravel_index(j, codec.flattened)) + "]"
    return f"column {j}"
