"""Exact transport between two weighted samples, with its certificate."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.transport.cost import Cost, cost_matrix

_ITERATIONS = 10**9  # the simplex ends by itself; POT's default of 10^5 stops it at 2,000 points


@dataclass(frozen=True, eq=False)
class Plan:
    """An optimal plan, and the potentials that prove it.

    The potentials are signed as a critic is: `phi` at the first sample and `psi` at the second
    satisfy ``phi_i - psi_j <= c_ij`` (to one rounding), and ``a.phi - b.psi`` is the dual value.
    One constant is free, and chosen so that ``a.phi + b.psi = 0``.

    Attributes:
        value: The distance: the primal value, or its square root for the squared Euclidean cost
            (W1 or W2, in the data's unit).
        primal: The cost of the plan.
        dual: The value of the potentials, at most the true optimum.
        phi: ``[n]``, potentials at the first sample, in the cost's unit.
        psi: ``[m]``, potentials at the second sample.
        source, target, mass: The plan's entries, ordered by `source`: `mass` goes from that row of
            the first sample to row `target` of the second. At most n + m - 1; the mass sums to 1.
        weights: The weights ``(a, b)`` of the two samples, each summing to 1.
    """

    value: float
    primal: float
    dual: float
    phi: NDArray[np.float64]
    psi: NDArray[np.float64]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    mass: NDArray[np.float64]
    weights: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def gap(self) -> float:
        """Primal minus dual: how far from optimal the plan can be, at most; rounding when it is."""
        return self.primal - self.dual

    @property
    def matching(self) -> NDArray[np.int64] | None:
        """For each first point the second point it goes to ``[n]``, or None if mass is split."""
        one_to_one = len(self.phi) == len(self.psi) == len(self.source)
        return self.target if one_to_one else None

    def dense(self) -> NDArray[np.float64]:
        """The plan as a matrix ``[n, m]`` of masses."""
        matrix = np.zeros((len(self.phi), len(self.psi)))
        matrix[self.source, self.target] = self.mass
        return matrix


def exact(
    x: Any, y: Any, *, cost: Cost = "euclidean", a: Any | None = None, b: Any | None = None
) -> Plan:
    """The optimal transport between two finite samples, by network simplex (POT).

    ``min sum_ij P_ij c(x_i, y_j)`` over plans P >= 0 with marginals a and b. In memory and time for
    up to about 5,000 points on each side (2,000: a second; 5,000: 20 seconds).

    Args:
        x: ``[n, *shape]``, in the data's unit.
        y: ``[m, *shape]``.
        cost: ``euclidean``, ``l1`` and ``linf`` give W1 for that norm; ``sqeuclidean`` gives W2.
        a: Weights of `x`, ``[n]``, not negative; normalised. None: uniform.
        b: Weights of `y`, ``[m]``. None: uniform.

    Raises:
        UserError: Shapes that do not fit, values or weights that are not finite or negative.
        UnknownNameError: No such cost.
    """
    plan = exact_from_cost(cost_matrix(x, y, cost), a=a, b=b)
    if cost != "sqeuclidean":
        return plan
    return replace(plan, value=math.sqrt(max(plan.primal, 0.0)))


def exact_from_cost(
    cost: NDArray[np.float64], *, a: Any | None = None, b: Any | None = None
) -> Plan:
    """As :func:`exact`, for a given cost matrix ``[n, m]``; `value` is the primal value."""
    cost = np.ascontiguousarray(cost, dtype=np.float64)
    if cost.ndim != 2 or cost.size == 0 or not np.isfinite(cost).all():
        raise UserError(f"`cost` must be a finite matrix [n, m], got shape {cost.shape}")
    n, m = cost.shape
    # Whole numbers make every step of the simplex on the masses exact.
    common = math.lcm(n, m)
    flow_a = np.full(n, common / n) if a is None else _weights(a, n, "a")
    flow_b = np.full(m, common / m) if b is None else _weights(b, m, "b")
    if (a is None) != (b is None):
        flow_a, flow_b = flow_a / flow_a.sum(), flow_b / flow_b.sum()
    weights = flow_a / flow_a.sum(), flow_b / flow_b.sum()

    # The solver's tolerances are absolute, so it is given costs of the order of 1.
    scale = float(np.abs(cost).max()) or 1.0
    flow, phi = _simplex(flow_a, flow_b, cost / scale)

    # The c-transform of the solver's potential: feasible by construction, where its own pair is
    # so only to its tolerance, and no worse.
    phi = phi * scale
    psi = (phi[:, None] - cost).max(axis=0)
    constant = (weights[0] @ phi + weights[1] @ psi) / 2
    phi, psi = phi - constant, psi - constant

    source, target = np.nonzero(flow)
    mass = flow[source, target] / flow_a.sum()
    primal = float(mass @ cost[source, target])
    dual = float(weights[0] @ phi - weights[1] @ psi)
    return Plan(primal, primal, dual, phi, psi, source, target, mass, weights)


def exact_on_pairs(
    costs: NDArray[np.float64], keys: NDArray[np.int64], shape: tuple[int, int]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The best plan between equal weights that uses some pairs only, by network simplex (POT).

    Args:
        costs: ``[k]``, of the pairs.
        keys: ``[k]``, the pairs, ``row * m + column``, each once; a feasible plan must exist.
        shape: ``(n, m)``.

    Returns:
        The plan's cost; potentials ``[n]`` and ``[m]``, signed as in :class:`Plan` and feasible on
        these pairs; and the pairs that carry mass.
    """
    import ot
    from scipy.sparse import coo_matrix

    n, m = shape
    common = math.lcm(n, m)  # whole numbers, as in `exact_from_cost`
    scale = float(np.abs(costs).max()) or 1.0
    # What POT is given as no cost at all it would leave out.
    table = coo_matrix((costs / scale, np.divmod(keys, m)), shape=shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flow, log = ot.emd(
            np.full(n, common / n),
            np.full(m, common / m),
            table,
            numItermax=_ITERATIONS,
            log=True,
            center_dual=False,
        )
    if log["warning"] is not None:
        raise RuntimeError(f"transport on {len(keys)} pairs did not finish: {log['warning']}")
    flow = flow.tocoo()
    used = flow.data > 0
    mass, rows, columns = flow.data[used], flow.row[used], flow.col[used]
    for side, sums in ((rows, common / n), (columns, common / m)):
        if not np.array_equal(np.bincount(side, mass), np.full(common // int(sums), sums)):
            raise RuntimeError(f"transport on {len(keys)} pairs gave a plan that is not feasible")
    order = np.searchsorted(keys, rows.astype(np.int64) * m + columns)
    value = float(mass @ costs[order]) / common
    return value, log["u"] * scale, -log["v"] * scale, keys[order]


def _weights(weights: Any, n: int, name: str) -> NDArray[np.float64]:
    array: NDArray[np.float64] = np.asarray(weights, dtype=np.float64)
    if array.shape != (n,):
        raise UserError(f"weights `{name}` must be one per sample, [{n}], got shape {array.shape}")
    if not np.isfinite(array).all() or (array < 0).any() or array.sum() <= 0:
        raise UserError(f"weights `{name}` must be finite, not negative, and not all 0")
    normalised: NDArray[np.float64] = array / array.sum()
    return normalised


def _simplex(
    a: NDArray[np.float64], b: NDArray[np.float64], cost: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """POT's network simplex: the flow ``[n, m]`` and the first potential ``[n]``."""
    import ot

    with warnings.catch_warnings():
        # POT warns of a failed solve; the result code below says the same and is not ignored.
        warnings.simplefilter("ignore")
        flow, log = ot.emd(a, b, cost, numItermax=_ITERATIONS, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"exact transport of {cost.shape} did not finish: {log['warning']}")
    u: NDArray[np.float64] = log["u"]
    return flow, u
