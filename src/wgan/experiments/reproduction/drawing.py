"""How the reproduced figures are set: rows of small panels, clouds of points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from wgan.reports.style import INK, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(
    across: int, width: float, height: float, *, down: int = 1, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of this size in inches with tidy axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False, **shared).flat)
    for one in axes:
        tidy(one, size=9)
    return figure, axes


def cloud(axes: Axes, points: NDArray[Any], colour: str, *, size: float = 4) -> None:
    """Points of the plane as pixels, both axes on one scale."""
    axes.scatter(
        points[:, 0], points[:, 1], s=size, c=colour, alpha=0.6, linewidths=0, rasterized=True
    )
    axes.set_aspect("equal", adjustable="box")


def label(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title and names of the axes, with units, in the figure's small type."""
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def legend(axes: Axes, **where: Any) -> None:
    """Names without a frame."""
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, handlelength=1.6, **where)
