"""A picture of a distance: where the mass must move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wgan.bounds.critics import Points
from wgan.transport import exact, max_sliced_direction, random_directions

if TYPE_CHECKING:
    from wgan.bounds.distance import Distance

_ARROWS = 300
_FIRST, _SECOND = "#1f77b4", "#d95f02"


def draw_distance(distance: Distance, x: Points, y: Points, path: str | Path | None) -> Any:
    """The plan's arrows for points in the plane; else both samples along their best direction.

    Args:
        distance: For the title and the critic.
        x, y: ``[n, dim]`` and ``[m, dim]``.
        path: Where to save it; None: nowhere.

    Returns:
        The matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    if x.shape[1] == 2:
        _arrows(left, x, y, distance.metric)
    else:
        _along(left, x, y)
    if distance.critic is None:
        right.set_axis_off()
    else:
        scores = distance.critic(x), distance.critic(y)
        _histograms(right, *scores)
        right.set_xlabel(f"score of the critic ({distance.unit})")
        right.set_title(f"{distance.method}\nseparates them by {distance.estimate:.4g}")
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _arrows(axes: Any, x: Points, y: Points, metric: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = (points[rng.permutation(len(points))[:_ARROWS]] for points in (x, y))
    plan = exact(x, y, cost=metric)
    moves = y[plan.target] - x[plan.source]
    axes.quiver(
        *x[plan.source].T,
        *moves.T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.002,
        color="0.6",
    )
    axes.scatter(*x.T, s=6, color=_FIRST, label="a")
    axes.scatter(*y.T, s=6, color=_SECOND, label="b")
    axes.set_aspect("equal", "datalim")
    axes.legend()
    axes.set_title(f"the optimal plan of {len(x)} of a to {len(y)} of b")


def _along(axes: Any, x: Points, y: Points) -> None:
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.from_numpy(points[:2_000]) for points in (x, y))
    starts = random_directions(rng, 32, x.shape[1]).double()
    value, direction = max_sliced_direction(first, second, starts)
    unit = direction.numpy()
    _histograms(axes, x @ unit, y @ unit)
    axes.set_xlabel("position along the line (the data's units)")
    axes.set_title(f"the line along which they differ most: {float(value):.4g}")


def _histograms(axes: Any, first: Points, second: Points) -> None:
    both = np.concatenate([first, second])
    edges = np.linspace(both.min(), both.max() + 1e-12, 61)
    for values, name, color in ((first, "a", _FIRST), (second, "b", _SECOND)):
        axes.hist(values, edges, density=True, alpha=0.5, label=name, color=color)
    axes.set_yticks([])
    axes.legend()
