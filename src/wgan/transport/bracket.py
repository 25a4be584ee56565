"""W1 between two given samples: exact while they are small, certified from both sides beyond.

Beyond the simplex's reach the entropic problem is solved in tiles of the cost matrix, so that it is
never held, with the regularisation falling until the time is up (Cuturi 2013; Schmitzer 2019 for
the falling). Its result is then made feasible in float64: the potentials by two c-transforms, which
gives a value below the optimum, and the plan by scaling its columns down and adding what is missing
as a product (Altschuler, Weed, Rigollet 2017, algorithm 2), which gives one above.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.transport.cost import Cost, as_points, cost_matrix
from wgan.transport.exact import exact

EXACT_LIMIT = 4_000
"""Samples on a side up to which the simplex is used: about ten seconds."""

_TILE = 2**23  # costs held at a time
_FIRST, _LAST, _FACTOR = 0.1, 2e-4, 0.7  # of the regularisation, in units of the mean cost
_PASSES = 3  # with each regularisation
_CERTIFICATE = 8  # passes of the search that the float64 certificate takes as long as
_NORMS = {"euclidean": 2.0, "l1": 1.0, "linf": math.inf}

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SampleDistance:
    """W1 between two finite samples, or what is certain of it.

    Attributes:
        upper: Cost of a feasible plan: W1 is at most this (to float64 rounding).
        lower: Value of feasible potentials: W1 is at least this.
        exact: Whether both are W1, by the network simplex.
        method: How it was found, in words.
        phi: ``[n]`` and
        psi: ``[m]``, the potentials, ``phi_i - psi_j <= c_ij``.
    """

    upper: float
    lower: float
    exact: bool
    method: str
    phi: Points
    psi: Points

    @property
    def gap(self) -> float:
        """Upper minus lower."""
        return self.upper - self.lower


def sample_distance(
    x: object,
    y: object,
    *,
    cost: Cost = "euclidean",
    exact_limit: int = EXACT_LIMIT,
    seconds: float | None = None,
) -> SampleDistance:
    """W1 of two samples with equal weights, between two certified numbers.

    Args:
        x: ``[n, *shape]``, in the data's unit.
        y: ``[m, *shape]``; the sizes may differ.
        cost: The ground metric: ``euclidean``, ``l1`` or ``linf``.
        exact_limit: The larger sample up to which it is exact.
        seconds: About how long the search beyond it may take, > 0; the certificate itself always
            runs. None: until the regularisation is 2e-4 of the mean cost.

    Raises:
        UserError: Shapes that do not fit, values that are not finite, a time that is not > 0.
    """
    if cost not in _NORMS:
        raise UserError(f"`cost` must be euclidean, l1 or linf, got {cost}")
    if seconds is not None and not seconds > 0:
        raise UserError(f"`seconds` must be > 0, got {seconds}")
    first, second = as_points(x, "x"), as_points(y, "y")
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"`x` and `y` must have equal dimensions, got {first.shape[1]} and {second.shape[1]}"
        )
    if max(len(first), len(second)) <= exact_limit:
        best = exact(first, second, cost=cost)
        return SampleDistance(
            best.primal, best.dual, True, "exact, network simplex", best.phi, best.psi
        )
    centre = second.mean(0)
    first, second = first - centre, second - centre
    unit = float(np.abs(np.concatenate([first, second])).max()) or 1.0
    first, second = first / unit, second / unit
    g, plan = _search(first, second, cost, seconds)
    upper, lower, phi, psi = _certify(first, second, cost, g, plan)
    return SampleDistance(
        upper * unit,
        lower * unit,
        False,
        "between the values of feasible potentials and of a feasible plan (entropic, rounded)",
        phi * unit,
        psi * unit,
    )


def _search(x: Points, y: Points, cost: Cost, seconds: float | None) -> tuple[Points, _Plan]:
    """The second potential ``[m]`` of the best dual value on the way, and the best plan.

    One pass over the tiles makes both updates, rows exactly and columns by what the rows then miss,
    and says what the potentials and the plan before it were worth: a regularisation too small for
    the passes it got makes both worse.
    """
    began = time.monotonic()
    first, second = torch.from_numpy(x).float(), torch.from_numpy(y).float()
    n, m = len(first), len(second)
    rows = max(1, _TILE // m)
    g = torch.zeros(m)
    mean = float(torch.cdist(first[:1000], second[:1000], p=_NORMS[cost]).mean()) or 1.0
    epsilon = _FIRST * mean
    dual, plan = (-math.inf, g), (math.inf, _Plan(g.double().numpy(), epsilon))
    passes = 0
    while True:
        sums = torch.zeros(m, dtype=torch.float64)
        highest = torch.full((m,), -math.inf)
        heights = moved = 0.0
        for start in range(0, n, rows):
            tile = torch.cdist(first[start : start + rows], second, p=_NORMS[cost])
            phi = (tile - g).amin(1)
            heights += float(phi.sum(dtype=torch.float64))
            highest = torch.maximum(highest, (phi[:, None] - tile).amax(0))
            part = torch.softmax((g - tile).mul_(1 / epsilon), 1)
            sums += part.sum(0, dtype=torch.float64)
            moved += float((part * tile).sum(dtype=torch.float64))
        value = heights / n - float(highest.mean(dtype=torch.float64))
        missing = float((1 / m - sums / n).clamp(min=0).sum())
        if value > dual[0]:
            dual = value, g
        if moved / n + missing * mean < plan[0]:
            plan = moved / n + missing * mean, _Plan(g.double().numpy(), epsilon)
        g = g - epsilon * (sums * (m / n)).clamp(min=1e-30).log().float()
        passes += 1
        spent = time.monotonic() - began
        if seconds is not None and spent * (passes + 1 + _CERTIFICATE) / passes > seconds:
            break
        if epsilon <= _LAST * mean:
            break
        if passes % _PASSES == 0:
            epsilon *= _FACTOR
    return dual[1].double().numpy(), plan[1]


@dataclass(frozen=True, eq=False)
class _Plan:
    """An entropic plan with exact rows: ``softmax_j((g_j - c_ij) / epsilon) / n``."""

    g: Points
    epsilon: float

    def rows(self, tile: Points, n: int) -> Points:
        logs = torch.from_numpy((self.g - tile) / self.epsilon)
        return torch.softmax(logs, 1).numpy() / n


def _certify(
    x: Points, y: Points, cost: Cost, g: Points, plan: _Plan
) -> tuple[float, float, Points, Points]:
    """A plan's cost, potentials' value, and the potentials; two passes in float64."""
    n, m = len(x), len(y)
    rows = max(1, _TILE // m)
    phi = np.empty(n)
    psi = np.full(m, -np.inf)
    sums = np.zeros(m)
    for start in range(0, n, rows):
        tile = cost_matrix(x[start : start + rows], y, cost)
        sums += plan.rows(tile, n).sum(0)
        part = (tile - g).min(1)
        phi[start : start + rows] = part
        np.maximum(psi, (part[:, None] - tile).max(0), out=psi)
    lower = float(phi.mean() - psi.mean())

    kept = np.minimum(1.0, 1 / (m * np.maximum(sums, 1e-300)))
    missing = np.maximum(1 / m - sums * kept, 0.0)
    moved, rest, product = 0.0, 0.0, 0.0
    for start in range(0, n, rows):
        tile = cost_matrix(x[start : start + rows], y, cost)
        part = plan.rows(tile, n) * kept
        moved += float((part * tile).sum())
        left = np.maximum(1 / n - part.sum(1), 0.0)
        rest += float(left.sum())
        product += float(left @ (tile @ missing))
    total = float(missing.sum())
    # What rows and columns miss is one number but for rounding; the smaller errs upwards.
    upper = moved + (product / min(rest, total) if min(rest, total) > 0 else 0.0)
    return max(upper, lower), lower, phi, psi
