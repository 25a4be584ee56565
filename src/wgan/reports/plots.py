"""Curves over steps, and the plane with the critic's level lines. Pure functions to figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wgan.reports.panels import point_size
from wgan.reports.style import INK, MUTED, SERIES, literal, new_axes, series_style
from wgan.types import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_POINTS = 1200  # a line of more points only makes the file larger
_WIDE = 30.0  # largest over smallest positive value, beyond which a log axis shows more
_BULK = (0.01, 0.99)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One number over the steps of a run.

    Attributes:
        steps: Ascending, ``[n]``.
        values: Finite, ``[n]``.
    """

    steps: NDArray[np.int64]
    values: Floats

    @classmethod
    def empty(cls) -> Curve:
        """No values."""
        return cls(np.empty(0, dtype=np.int64), np.empty(0))

    def scaled(self, factor: float) -> Curve:
        """The values in another unit."""
        return Curve(self.steps, factor * self.values)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def window(self) -> int:
        """Length of the median filter for this many values: odd, about a fortieth of them."""
        return 2 * (len(self) // 80) + 1

    def median(self) -> Curve:
        """The running median over `window` values; beyond the ends the values are reflected.

        Source: Arjovsky, Chintala, Bottou 2017, figures 3 and 4. The usual filter of such figures
        (scipy's `medfilt`) takes zeros beyond the ends, and so pulls them to zero.
        """
        from scipy.ndimage import median_filter

        if self.window == 1:
            return self
        return Curve(self.steps, median_filter(self.values, self.window, mode="reflect"))

    def thinned(self, most: int = _MOST_POINTS) -> Curve:
        """At most `most` points that keep the outline: the extremes of each stretch of steps."""
        if len(self) <= most:
            return self
        kept: list[int] = []
        for part in np.array_split(np.arange(len(self)), most // 2):
            values = self.values[part]
            kept += sorted({int(part[values.argmin()]), int(part[values.argmax()])})
        return Curve(self.steps[kept], self.values[kept])

    @property
    def final(self) -> float | None:
        """The median of the last `window` values, or None for an empty curve."""
        return float(np.median(self.values[-self.window :])) if len(self) else None


def curves_of(records: Sequence[Record]) -> dict[str, Curve]:
    """Every finite number of the records over the steps, by its key."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for record in records:
        step = record["step"]
        assert isinstance(step, int)
        for key, value in record.items():
            if (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and math.isfinite(value)
            ):
                steps, values = found.setdefault(key, ([], []))
                steps.append(step)
                values.append(value)
    return {
        key: Curve(np.array(steps), np.array(values, float))
        for key, (steps, values) in found.items()
    }


def over_steps(
    curves: Mapping[str, Curve],
    label: str,
    *,
    log: bool = False,
    floor: float | None = None,
    zero: bool = False,
    marks: bool = False,
    bands: Mapping[str, tuple[Curve, Curve]] | None = None,
) -> Figure:
    """One or several curves on shared axes: the values thin, their running median thick.

    A few values far outside the rest do not set the scale; the plot then says how many lie outside.

    Args:
        curves: By name; the name is drawn where there are several.
        label: Of the vertical axis, with the unit.
        log: Use a logarithmic axis if all values are positive and they span a wide range.
        floor: Where the vertical axis begins, or None for where the values do.
        zero: Draw the line at 0 where values lie on both sides of it.
        marks: Draw every value as a point on a line, without a median: for few values.
        bands: Lower and upper ends around some of them, at the same steps; with `marks`.
    """
    many = len(curves) > 1
    figure, axes = new_axes(height=3.3 + 0.17 * max(0, len(curves) - 2))
    drawn = {name: curve for name, curve in curves.items() if len(curve)}
    for i, (name, curve) in enumerate(curves.items()):
        if not len(curve):
            continue
        style = series_style(i)
        if marks or curve.window == 1:
            few = len(curve) <= 60
            if bands and name in bands:
                below, above = bands[name]
                axes.fill_between(
                    curve.steps, below.values, above.values, color=style["color"], alpha=0.15, lw=0
                )
            axes.plot(
                curve.steps,
                curve.values,
                **style,
                lw=1.6,
                label=literal(name),
                marker="o" * few,
                ms=3.5,
            )
            continue
        raw, median = curve.thinned(), curve.median().thinned()
        thin = {**style, "lw": 0.6, "alpha": 0.2 if many else 0.4, "linestyle": "-"}
        axes.plot(raw.steps, raw.values, **thin, label="_" if many else "each step")
        named = literal(name) if many else f"median of {curve.window}"
        axes.plot(median.steps, median.values, **style, lw=1.8, label=named)
    axes.set(xlabel="step", ylabel=label)
    spanned = [*drawn.values(), *(end for pair in (bands or {}).values() for end in pair)]
    _scale(axes, [curve for curve in spanned if len(curve)], log=log, floor=floor)
    if zero and drawn:
        low, high = axes.get_ylim()
        if low < 0 and min(float(curve.values.min()) for curve in spanned) >= 0:
            axes.set_ylim(bottom=0)
        elif low < 0 < high:
            axes.axhline(0, color=MUTED, lw=0.8)
    if not drawn:
        axes.text(
            0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", color=MUTED
        )  # fmt: skip
    elif many or any(not marks and curve.window > 1 for curve in drawn.values()):
        _legend(figure, axes)
    return figure


def _scale(axes: Axes, curves: Sequence[Curve], *, log: bool, floor: float | None) -> None:
    """Set both axes' limits and ticks, from the bulk of the values."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if not curves:
        axes.set(xticks=[], yticks=[])
        return
    last = max(int(curve.steps[-1]) for curve in curves)
    axes.set_xlim(-0.02 * last, 1.02 * last)
    values = np.concatenate([curve.values for curve in curves])
    low = min(float(np.quantile(curve.values, _BULK[0])) for curve in curves)
    high = max(float(np.quantile(curve.values, _BULK[1])) for curve in curves)
    if log and values.min() > 0 and high > _WIDE * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        return
    reach = (high - low) or abs(high) or 1.0
    if values.max() - values.min() > 3 * reach:
        low, high = low - 0.15 * reach, high + 0.15 * reach
        low = low if floor is None else floor
        outside = int(((values < low) | (values > high)).sum())
        axes.set_ylim(low, high)
        axes.text(
            1, 1.01, f"{outside:,} of {len(values):,} values lie outside", ha="right", va="bottom",
            transform=axes.transAxes, fontsize=8, color=MUTED,
        )  # fmt: skip
    elif floor is not None:
        top = float(values.max())
        axes.set_ylim(floor, top + 0.06 * ((top - floor) or 1.0))


def _legend(figure: Figure, axes: Axes) -> None:
    """Names above the axes, where they hide nothing: in a row if they are short."""
    handles, names = axes.get_legend_handles_labels()
    short = sum(len(name) + 6 for name in names) <= 60
    figure.legend(
        handles, names, loc="outside upper left", ncols=len(names) if short else 1,
        frameon=False, fontsize=9, labelcolor=INK, handlelength=1.8, borderpad=0.1,
        markerscale=2 if len(axes.collections) else 1,
    )  # fmt: skip


@dataclass(frozen=True)
class Plane:
    """Real and fake points of the plane and the critic over it, all in the data's own units.

    Attributes:
        real: ``[n, 2]``.
        fake: ``[n, 2]``.
        x: Ascending, ``[gx]``.
        y: Ascending, ``[gy]``.
        score: The critic's score at (x[j], y[i]), ``[gy, gx]``, or None without a critic.
    """

    real: NDArray[Any]
    fake: NDArray[Any]
    x: NDArray[Any]
    y: NDArray[Any]
    score: NDArray[Any] | None


def plane_plot(plane: Plane, names: tuple[str, str] | None = None) -> Figure:
    """Real points, fake points and the critic's level lines; a deeper tint is a higher score.

    The scores' unit is arbitrary, so the lines are evenly spaced between the lowest and the highest
    score and carry no numbers.

    Args:
        plane: What to draw; the grid sets the frame.
        names: Of the two axes; without them both axes have one scale.

    Source: Gulrajani et al. 2017, figure 1b.
    """
    figure, axes = new_axes(5.6, 5.2)
    axes.grid(visible=False)
    if plane.score is not None and np.ptp(plane.score) > 0:
        levels = np.linspace(float(plane.score.min()), float(plane.score.max()), 15)
        tint = [(*_rgb(SERIES[3]), 0.34 * i / 13) for i in range(14)]
        axes.contourf(plane.x, plane.y, plane.score, levels, colors=tint, zorder=0)
        axes.contour(
            plane.x, plane.y, plane.score, levels[1:-1],
            colors=SERIES[3], linewidths=0.7, alpha=0.55, linestyles="solid", zorder=1,
        )  # fmt: skip
    for points, colour, name, share in (
        (plane.fake, SERIES[0], "samples", 0.7),
        (plane.real, SERIES[1], "real", 0.25),  # small and on top: samples would hide a tight mode
    ):
        # As pixels: thousands of circles would make the page heavy.
        axes.scatter(
            points[:, 0], points[:, 1], s=share * point_size(len(points)), c=colour, alpha=0.75,
            linewidths=0, rasterized=True, label=f"{name} ({len(points):,})",
        )  # fmt: skip
    axes.set(xlim=(plane.x[0], plane.x[-1]), ylim=(plane.y[0], plane.y[-1]))
    if names is None:
        axes.set_aspect("equal", adjustable="box")
    else:
        axes.set(xlabel=literal(names[0]), ylabel=literal(names[1]))
    _legend(figure, axes)
    return figure


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)
