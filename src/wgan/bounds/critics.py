"""Critics that are provably 1-Lipschitz, whatever they have learned.

Each is a function of points ``[n, dim]`` in float64 and is 1-Lipschitz in its ground metric by its
form: along a line, by a cone at every anchor, or by orthogonal layers. How they are found does not
matter to what is certified; see :mod:`wgan.bounds.fitting`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.errors import UserError
from wgan.transport import Cost, cost_matrix

Points = NDArray[np.float64]

_BLOCK = 4096


class LipschitzCritic(Protocol):
    """A function that is 1-Lipschitz in a ground metric.

    Attributes:
        name: What it is, in a few words.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, points: Points) -> Points:
        """Scores ``[n]`` of ``[n, dim]``, in the data's unit."""
        ...

    def gradient(self, points: Points) -> Points:
        """Of the score at ``[n, dim]``, ``[n, dim]``; one of its sides where there is a kink."""
        ...


@dataclass(frozen=True, eq=False)
class Line:
    """``f(x) = scale g(x . theta)``, |theta| = 1, g piecewise linear with slopes in [-1, 1].

    Attributes:
        direction: ``[dim]``.
        knots: ``[k]``, ascending, where g may turn.
        values: ``[k]``, g at the knots; beyond them g is constant.
        scale: The Lipschitz constant of ``x . theta`` in the ground metric, inverted.
    """

    direction: Points
    knots: Points
    values: Points
    scale: float = 1.0
    name: str = "max-sliced"

    def __call__(self, points: Points) -> Points:
        scores: Points = np.interp(points @ self.direction, self.knots, self.values)
        return self.scale * scores

    def gradient(self, points: Points) -> Points:
        """See `LipschitzCritic`."""
        slopes = np.concatenate([[0.0], np.diff(self.values) / np.diff(self.knots), [0.0]])
        at = np.searchsorted(self.knots, points @ self.direction)
        return self.scale * slopes[at][:, None] * self.direction


@dataclass(frozen=True, eq=False)
class Anchored:
    """``f(x) = max_i (h_i - c(x, z_i))``, or ``min_i (h_i + c(x, z_i))``: McShane's extension.

    A maximum of cones of slope 1 in the ground metric c, so 1-Lipschitz in it for any heights.

    Attributes:
        anchors: ``[k, dim]``.
        heights: ``[k]``, in the data's unit.
        cost: The ground metric.
        above: Whether it is the maximum (cones that point up).
    """

    anchors: Points
    heights: Points
    cost: Cost = "euclidean"
    above: bool = True
    name: str = "McShane extension"

    def __call__(self, points: Points) -> Points:
        parts = []
        for start in range(0, len(points), _BLOCK):
            costs = cost_matrix(points[start : start + _BLOCK], self.anchors, self.cost)
            if self.above:
                parts.append((self.heights - costs).max(1))
            else:
                parts.append((self.heights + costs).min(1))
        return np.concatenate(parts)

    def gradient(self, points: Points) -> Points:
        """See `LipschitzCritic`; for the Euclidean metric.

        Raises:
            UserError: Another ground metric.
        """
        if self.cost != "euclidean":
            raise UserError(f"only Euclidean cones have a gradient here, not those of {self.cost}")
        parts = []
        for start in range(0, len(points), _BLOCK):
            part = points[start : start + _BLOCK]
            costs = cost_matrix(part, self.anchors)
            sign = -1.0 if self.above else 1.0
            i = (costs + sign * self.heights).argmin(1)
            away = part - self.anchors[i]
            parts.append(sign * away / np.maximum(costs[np.arange(len(part)), i], 1e-300)[:, None])
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Scaled:
    """``f(x) = unit g((x - centre) / unit) / constant`` for a module g.

    Attributes:
        module: ``[n, *shape]`` to ``[n]``, in float64.
        shape: Of one sample.
        constant: A certified upper bound of the module's Lipschitz constant in the Euclidean norm,
            times that of the Euclidean norm in the ground metric.
        centre, unit: Where and in which unit the module sees the data.
    """

    module: nn.Module
    shape: tuple[int, ...]
    constant: float
    centre: Points
    unit: float
    name: str

    def __call__(self, points: Points) -> Points:
        parts = []
        with torch.no_grad():
            for start in range(0, len(points), _BLOCK):
                seen = (points[start : start + _BLOCK] - self.centre) / self.unit
                values = torch.from_numpy(seen).reshape(-1, *self.shape)
                parts.append(score_of(self.module(values)).double().reshape(-1).numpy())
        scores: Points = np.concatenate(parts) * (self.unit / self.constant)
        return scores

    def gradient(self, points: Points) -> Points:
        """See `LipschitzCritic`."""
        parts = []
        for start in range(0, len(points), _BLOCK):
            seen = (points[start : start + _BLOCK] - self.centre) / self.unit
            values = torch.from_numpy(seen).requires_grad_(True)
            with torch.enable_grad():
                score = score_of(self.module(values.reshape(-1, *self.shape))).sum()
                (slope,) = torch.autograd.grad(score, values)
            parts.append(slope.numpy() / self.constant)
        return np.concatenate(parts)


def score_of(out: object) -> Tensor:
    """The score of what a critic returns: a tensor, or `Scores`."""
    score = out if isinstance(out, Tensor) else out.score  # type: ignore[attr-defined]
    assert isinstance(score, Tensor)
    return score


def metric_ratio(cost: Cost, dim: int) -> float:
    """``sup |x|_2 / |x|`` in the ground metric: by so much a Euclidean critic is too steep."""
    return math.sqrt(dim) if cost == "linf" else 1.0


Draw = Callable[[torch.Generator, int], tuple[Tensor, Tensor]]
"""Independent float64 batches ``[n, dim]`` of both populations, for fitting."""
