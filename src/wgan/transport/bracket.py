"""W1 between two given samples: exact, or certified from both sides where the time is short.

The cost matrix is never held. A transport plan moves mass between few of the pairs, so the network
simplex is given few: for every point the pairs of least reduced cost ``c_ij - phi_i + psi_j`` under
some potentials. Its own potentials then show, in one pass over tiles of the costs, which pairs were
missing; those are added until none is (column generation, Gilmore and Gomory 1961). The first
potentials are those of a quarter of the points, found in the same way (Schmitzer 2016).

Every pass gives a value below the optimum, for its potentials are c-transforms and so feasible;
every plan one above. When the time is up before they meet, both are still certain. Passes are made
in float32, with costs that are rounded down so that what is feasible for them is feasible, until
only float64 can tell more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.errors import UserError
from wgan.transport.cost import Cost, as_points, cost_matrix
from wgan.transport.exact import exact, exact_on_pairs

EXACT_LIMIT = 2_000
"""Samples on a side up to which the simplex is given all pairs: about a second."""

_TILE = 2**23  # costs held at a time
_PAIRS = 8  # that every point proposes
_MOST_PAIRS = 40  # kept for each point
_FINER = 4  # times as many points on each level as on the one before
_COARSE_GAP = 1e-4  # relative, at which a level hands on
_EXACT_GAP = 1e-9  # relative, of what is called exact
_DIRECT_DIMENSION = 8  # up to which float32 takes differences; beyond, a product is quicker
_SINGLE = 2.0**-24  # relative error of a rounding to float32
_DOUBLE = 6  # times as long as a float32 pass a float64 one takes; only plans the time
_SIMPLEX_SECONDS = 5e-5  # for each point, with `_PAIRS` of its pairs; only plans the time
_NORMS = {"euclidean": 2.0, "l1": 1.0, "linf": math.inf}

Points = NDArray[np.float64]
Keys = NDArray[np.int64]  # of pairs: row * m + column


@dataclass(frozen=True, eq=False)
class SampleDistance:
    """W1 between two finite samples, or what is certain of it.

    Attributes:
        upper: Cost of a feasible plan: W1 is at most this (to float64 rounding).
        lower: Value of feasible potentials: W1 is at least this.
        exact: Whether both are W1: no pair could improve the plan, and they agree to 1e-9.
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
        exact_limit: The larger sample up to which the simplex is given every pair.
        seconds: About how long it may take beyond that, > 0; a first plan and first potentials
            (seconds for 20,000 points) are always found. None: until it is exact.

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
    if max(len(first), len(second)) <= max(1, exact_limit):
        best = exact(first, second, cost=cost)
        return SampleDistance(
            best.primal, best.dual, True, "exact, network simplex", best.phi, best.psi
        )
    centre = second.mean(0)
    unit = max(float(np.abs(points - centre).max()) for points in (first, second)) or 1.0
    rng = np.random.default_rng(0)  # a level is the first of the points, so they are shuffled
    orders = rng.permutation(len(first)), rng.permutation(len(second))
    problem = _Problem(
        (first[orders[0]] - centre) / unit, (second[orders[1]] - centre) / unit, cost
    )
    found = _solve(problem, max(1, exact_limit), _Clock(seconds))
    phi, psi = np.empty(len(first)), np.empty(len(second))
    phi[orders[0]], psi[orders[1]] = found.phi * unit, found.psi * unit
    lower = min(found.lower, found.upper)  # they may cross by a rounding
    met = found.within(_EXACT_GAP)
    method = "exact, network simplex on the pairs that matter"
    if not met:
        method = "between the values of feasible potentials and of a feasible plan"
    return SampleDistance(found.upper * unit, lower * unit, met, method, phi, psi)


class _Clock:
    def __init__(self, seconds: float | None) -> None:
        self.end = math.inf if seconds is None else time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()


@dataclass(frozen=True, eq=False)
class _Problem:
    """Two samples of equal weights, ``[n, dim]`` and ``[m, dim]``, and the costs between them."""

    x: Points
    y: Points
    cost: Cost

    def first(self, share: float) -> _Problem:
        """The first points of both samples."""
        n, m = (max(1, math.ceil(share * len(points))) for points in (self.x, self.y))
        return _Problem(self.x[:n], self.y[:m], self.cost)

    @property
    def points(self) -> int:
        return len(self.x) + len(self.y)

    @property
    def pairs(self) -> int:
        return len(self.x) * len(self.y)

    def tiles(self, precise: bool) -> Iterator[tuple[int, Tensor]]:
        """The costs, some rows at a time, with the first of the rows.

        In float32 they are at most the true ones, but for the differences of `slack`.
        """
        n, m = len(self.x), len(self.y)
        # Several tiles even of few points: a column proposes at most one pair of each.
        rows = max(1, min(_TILE // m, n // (2 * _PAIRS)))
        costs = self._precise if precise else self._single()
        for start in range(0, n, rows):
            yield start, costs(slice(start, start + rows))

    def _precise(self, rows: slice) -> Tensor:
        return torch.from_numpy(cost_matrix(self.x[rows], self.y, self.cost))

    def _single(self) -> Callable[[slice], Tensor]:
        """Costs in float32, rounded down."""
        x, y = self.x.astype(np.float32), self.y.astype(np.float32)
        dim = x.shape[1]
        if self.cost != "euclidean" or dim <= _DIRECT_DIMENSION:
            first, second = torch.from_numpy(x), torch.from_numpy(y)
            mode = "donot_use_mm_for_euclid_dist"
            shrink = 1 - (dim + 8) * _SINGLE

            def by_differences(rows: slice) -> Tensor:
                tile = torch.cdist(first[rows], second, p=_NORMS[self.cost], compute_mode=mode)
                return tile.mul_(shrink)

            return by_differences
        # |x|^2 + |y|^2 - 2 x.y, less the most that roundings of the entries, of the product
        # (dim terms) and of the sums can add to it, all in units of the squared norms.
        shrink = 1 - 1.01 * (dim + 16) * _SINGLE
        norms = (np.einsum("nd,nd->n", points, points) for points in (self.x, self.y))
        squares = [(shrink * norm).astype(np.float32) for norm in norms]

        def by_product(rows: slice) -> Tensor:
            tile = x[rows] @ y.T
            tile *= -2
            tile += squares[1]
            tile += squares[0][rows, None]
            return torch.from_numpy(tile).clamp_(min=0).sqrt_()

        return by_product

    def slack(self, psi: Points) -> float:
        """What roundings of float32 can add to a reduced cost under these potentials."""
        widest = sum(
            float(np.linalg.norm(points, _NORMS[self.cost], axis=1).max())
            for points in (self.x, self.y)
        )
        return 8 * _SINGLE * (widest + 2 * float(np.abs(psi).max()))

    def of_pairs(self, keys: Keys) -> Points:
        """The costs of some pairs, in float64."""
        rows, columns = np.divmod(keys, len(self.y))
        step = max(1, _TILE // self.x.shape[1])
        parts = []
        for start in range(0, len(keys), step):
            part = slice(start, start + step)
            apart = self.x[rows[part]] - self.y[columns[part]]
            parts.append(np.linalg.norm(apart, _NORMS[self.cost], axis=1))
        return np.concatenate(parts)

    def corner(self) -> Keys:
        """The pairs of a feasible plan: in the order along the line between the means."""
        n, m = len(self.x), len(self.y)
        line = self.x.mean(0) - self.y.mean(0)
        turns = np.union1d(np.arange(n) * m, np.arange(m) * n)  # where a row or a column begins
        rows, columns = np.argsort(self.x @ line), np.argsort(self.y @ line)
        return np.unique(rows[turns // m] * m + columns[turns // n])


@dataclass(frozen=True, eq=False)
class _Found:
    """Values of a plan (infinite: none yet) and of potentials, and these."""

    upper: float
    lower: float
    phi: Points
    psi: Points

    def within(self, gap: float) -> bool:
        return math.isfinite(self.upper) and self.upper - self.lower <= gap * self.upper


@dataclass(frozen=True, eq=False)
class _Look:
    """One pass over all costs.

    Attributes:
        phi: ``min_j c_ij + psi_j`` for the given psi, and
        psi: ``max_i phi_i - c_ij``: feasible.
        lower: Their value.
        keys: For each row and column its pairs of least reduced cost.
        costs: Of those pairs, as good as the pass is.
    """

    phi: Points
    psi: Points
    lower: float
    keys: Keys
    costs: Points


def _look(problem: _Problem, psi: Points, *, precise: bool) -> _Look:
    m = len(problem.y)
    heights = torch.from_numpy(psi) if precise else torch.from_numpy(psi).float()
    phi: list[Tensor] = []
    keys: list[Tensor] = []
    costs: list[Tensor] = []
    least = [torch.full((1, m), math.inf, dtype=heights.dtype)]
    rows = [torch.zeros((1, m), dtype=torch.long)]
    for start, tile in problem.tiles(precise):
        reduced = tile + heights
        values, at = reduced.topk(min(_PAIRS, m), 1, largest=False)
        best = values[:, :1]
        phi.append(best[:, 0])
        keys.append(((start + torch.arange(len(tile)))[:, None] * m + at).flatten())
        costs.append(tile.gather(1, at).flatten())
        reduced -= best
        lowest, row = reduced.min(0)
        least.append(lowest[None])
        rows.append(start + row[None])
        if len(least) > 2 * _PAIRS:
            least, rows = _least(least, rows)
    least, rows = _least(least, rows)
    rising, row = least[0], rows[0]
    minima = torch.cat(phi)
    known = rising.isfinite()
    keys.append((row * m + torch.arange(m))[known])
    costs.append((rising + minima[row] - heights)[known])
    feasible = minima.double().numpy() - (0.0 if precise else problem.slack(psi))
    transformed = (heights - rising.amin(0)).double().numpy()
    value = float(feasible.mean() - transformed.mean())
    found, their = torch.cat(keys).numpy(), torch.cat(costs).double().numpy()
    return _Look(feasible, transformed, value, found, their)


def _least(least: list[Tensor], rows: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    values, where = torch.cat(least), torch.cat(rows)
    values, order = values.topk(min(_PAIRS, len(values)), 0, largest=False)
    return [values], [where.gather(0, order)]


def _solve(problem: _Problem, coarsest: int, clock: _Clock) -> _Found:
    """Level by level, as fine as the time allows; what is certain then."""
    shares = [1.0]
    while max(len(problem.x), len(problem.y)) * shares[-1] > coarsest:
        shares.append(shares[-1] / _FINER)
    rate = _rate(problem)
    level = problem.first(shares.pop())
    phi = exact(level.x, level.y, cost=problem.cost).phi
    while shares:
        finer = problem.first(shares.pop())
        if finer.pairs * rate + _SIMPLEX_SECONDS * finer.points > clock.left():
            return _sketch(problem, level, phi, clock, rate)
        found = _grow(finer, _extended(level, phi, finer.y), clock, last=not shares)
        level, phi = finer, found.phi
    return found


def _rate(problem: _Problem) -> float:
    """Seconds of a float32 pass for each pair."""
    few = _Problem(problem.x[:2048], problem.y[:2048], problem.cost)
    began = time.monotonic()
    _look(few, np.zeros(len(few.y)), precise=False)
    return (time.monotonic() - began) / few.pairs


def _extended(level: _Problem, phi: Points, points: Points, *, precise: bool = False) -> Points:
    """``max_i phi_i - c(x_i, .)`` over a level's points, at others: McShane's extension."""
    turned = _Problem(points, level.x, level.cost)
    heights = torch.from_numpy(phi) if precise else torch.from_numpy(phi).float()
    parts = [(heights - tile).amax(1).double() for _, tile in turned.tiles(precise)]
    extended: Points = torch.cat(parts).numpy()
    return extended


def _grow(problem: _Problem, psi: Points, clock: _Clock, *, last: bool) -> _Found:
    """Column generation, until no pair is missing or the time is up.

    Args:
        problem: The samples.
        psi: First potentials.
        clock: The time.
        last: Whether it is to be exact; else it only starts a finer level.
    """
    best = _Found(math.inf, -math.inf, psi, psi)
    support = keys = problem.corner()
    phi: Points | None = None  # with psi the simplex's own, feasible on `keys` only
    precise, purged = False, math.inf
    simplex = _SIMPLEX_SECONDS * problem.points
    while True:
        began = time.monotonic()
        look = _look(problem, psi, precise=precise)
        passed = time.monotonic() - began
        if look.lower > best.lower:
            best = replace(best, lower=look.lower, phi=look.phi, psi=look.psi)
        missing = look.keys
        if phi is not None:
            rows, columns = np.divmod(missing, len(psi))
            reduced = look.costs - phi[rows] + psi[columns]
            allowed = 1e-10 * best.upper if precise else problem.slack(psi)
            missing = missing[reduced < -allowed]
        if best.within(_EXACT_GAP if last else _COARSE_GAP):
            break
        grown = np.union1d(keys, missing)
        if len(grown) == len(keys) and phi is not None:
            if precise or not last or clock.left() < passed * _DOUBLE:
                break
            precise = True
            continue
        if phi is not None and clock.left() < simplex + passed:
            break
        if len(grown) > _MOST_PAIRS * problem.points and phi is not None and best.upper < purged:
            purged = best.upper
            rows, columns = np.divmod(keys, len(psi))
            reduced = problem.of_pairs(keys) - phi[rows] + psi[columns]
            fewer = keys[reduced <= np.median(reduced)]
            grown = np.union1d(np.union1d(fewer, support), missing)
        keys = grown
        began = time.monotonic()
        shape = len(problem.x), len(problem.y)
        value, phi, psi, support = exact_on_pairs(problem.of_pairs(keys), keys, shape)
        best = replace(best, upper=min(best.upper, value))
        simplex = time.monotonic() - began
    return best


def _sketch(problem: _Problem, level: _Problem, phi: Points, clock: _Clock, rate: float) -> _Found:
    """What a time too short for passes over all pairs allows.

    From below McShane's extension of a level's potentials, which is one function of slope 1 and so
    feasible at all points; from above the best plan within blocks of the samples.
    """
    n, m = len(problem.x), len(problem.y)
    spare = max(1e-9, clock.left() - _SIMPLEX_SECONDS * problem.points)
    anchors = min(len(phi), max(200, int(spare / 2 / (_DOUBLE * rate * problem.points))))
    cones = replace(level, x=level.x[:anchors])
    sides = [
        _extended(cones, phi[:anchors], points, precise=True) for points in (problem.x, problem.y)
    ]
    lower = float(sides[0].mean() - sides[1].mean())
    blocks = math.ceil(problem.pairs * rate / (spare / 2))
    blocks = max(1, min(blocks, min(n, m) // (4 * _PAIRS)))
    keys = [problem.corner()]
    edges = [np.linspace(0, size, blocks + 1).astype(np.int64) for size in (n, m)]
    for i in range(blocks):
        rows, columns = (slice(int(edge[i]), int(edge[i + 1])) for edge in edges)
        block = _Problem(problem.x[rows], problem.y[columns], problem.cost)
        look = _look(block, sides[1][columns], precise=False)
        if blocks == 1 and look.lower > lower:
            sides, lower = [look.phi, look.psi], look.lower
        row, column = np.divmod(look.keys, len(block.y))
        keys.append((rows.start + row) * m + columns.start + column)
    pairs = np.unique(np.concatenate(keys))
    upper, _, _, _ = exact_on_pairs(problem.of_pairs(pairs), pairs, (n, m))
    return _Found(upper, lower, sides[0], sides[1])
