from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, linprog
from scipy.stats import wasserstein_distance

from wgan.errors import UserError
from wgan.transport import COSTS, Cost, Plan, cost_matrix, exact, exact_from_cost

rng = np.random.default_rng(0)


def check_certificate(plan: Plan, cost: NDArray[np.float64]) -> None:
    """Feasible on both sides, with no gap: optimal, whoever found it."""
    a, b = plan.weights
    scale = max(np.abs(cost).max(), 1e-300)
    assert (plan.phi[:, None] - plan.psi - cost).max() <= 1e-12 * scale
    assert abs(plan.gap) <= 1e-12 * scale
    dense = plan.dense()
    assert (dense >= 0).all()
    np.testing.assert_allclose(dense.sum(1), a, atol=1e-14)
    np.testing.assert_allclose(dense.sum(0), b, atol=1e-14)
    assert plan.primal == pytest.approx((dense * cost).sum(), abs=1e-13 * scale)
    assert a @ plan.phi + b @ plan.psi == pytest.approx(0, abs=1e-12 * scale)


@pytest.mark.parametrize("dim", [1, 2, 64])
@pytest.mark.parametrize("cost", ["euclidean", "l1", "linf", "sqeuclidean"])
def test_translation_is_transported_by_its_length(dim: int, cost: Cost) -> None:
    x = rng.normal(size=(40, dim))
    d = rng.normal(size=dim)
    order = {"euclidean": 2, "sqeuclidean": 2, "l1": 1, "linf": np.inf}[cost]
    plan = exact(x, (x + d)[::-1], cost=cost)
    assert plan.value == pytest.approx(np.linalg.norm(d, order), rel=1e-12)
    check_certificate(plan, cost_matrix(x, (x + d)[::-1], cost))


@pytest.mark.parametrize("sizes", [(50, 50), (50, 30), (7, 200)])
def test_one_dimension_is_sorting(sizes: tuple[int, int]) -> None:
    u, v = rng.normal(size=sizes[0]), rng.exponential(size=sizes[1])
    assert exact(u, v).value == pytest.approx(wasserstein_distance(u, v), rel=1e-12)


def test_weights_agree_with_scipy_and_with_a_linear_programme() -> None:
    u, v = rng.normal(size=6), rng.normal(size=9)
    a, b = rng.uniform(size=6), rng.uniform(size=9)
    a[2] = 0
    plan = exact(u, v, a=a, b=b)
    assert plan.value == pytest.approx(wasserstein_distance(u, v, a, b), rel=1e-12)
    check_certificate(plan, cost_matrix(u, v))
    cost = rng.uniform(size=(6, 9))
    a, b = a / a.sum(), b / b.sum()
    rows = np.kron(np.eye(6), np.ones(9)), np.kron(np.ones(6), np.eye(9))
    programme = linprog(cost.ravel(), A_eq=np.vstack(rows), b_eq=np.concatenate([a, b]))
    plan = exact_from_cost(cost, a=a, b=b)
    assert plan.primal == pytest.approx(programme.fun, rel=1e-9)
    check_certificate(plan, cost)
    one_sided = exact_from_cost(cost, a=a)
    check_certificate(one_sided, cost)
    np.testing.assert_allclose(one_sided.weights[1], 1 / 9)


def test_equal_sizes_give_a_matching() -> None:
    x, y = rng.normal(size=(100, 5)), rng.normal(size=(100, 5))
    cost = cost_matrix(x, y)
    plan = exact(x, y)
    rows, columns = linear_sum_assignment(cost)
    assert plan.matching is not None
    assert sorted(plan.matching) == list(range(100))
    assert plan.primal == pytest.approx(cost[rows, columns].mean(), rel=1e-13)
    np.testing.assert_array_equal(plan.mass, 0.01)
    assert exact(x, y[:60]).matching is None


def test_equal_and_constant_samples() -> None:
    x = rng.normal(size=(30, 3))
    assert exact(x, x[::-1]).value == 0
    plan = exact(np.ones((4, 2)), np.ones((4, 2)))
    assert plan.value == plan.gap == 0


def test_two_thousand_points_in_many_dimensions_finish() -> None:
    """POT's own limit of iterations stops here with a plan that is not optimal."""
    x, y = rng.normal(size=(2000, 400)), rng.normal(size=(2000, 400)) + 0.1
    check_certificate(exact(x, y), cost_matrix(x, y))


points = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(-9, 9))


@settings(max_examples=60, deadline=None)
@given(points, points, st.sampled_from(COSTS), st.integers(-6, 6))
def test_certificate_symmetry_and_equivariance(x: Any, y: Any, cost: Cost, exponent: int) -> None:
    plan = exact(x, y, cost=cost)
    check_certificate(plan, cost_matrix(x, y, cost))
    assert exact(y, x, cost=cost).value == pytest.approx(plan.value, abs=1e-12)
    scale = 10.0**exponent
    assert exact(scale * x, scale * y, cost=cost).value == pytest.approx(
        scale * plan.value, rel=1e-9, abs=1e-12 * scale
    )
    moved = exact(x + 3, y + 3, cost=cost).value
    assert moved == pytest.approx(plan.value, abs=1e-12)


@pytest.mark.parametrize(
    ("weights", "match"),
    [([1.0], r"one per sample, \[2\]"), ([1, -1], "not negative"), ([0, 0], "not all 0")],
)
def test_bad_weights_are_refused(weights: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        exact([[0.0], [1.0]], [[0.0]], a=weights)


def test_bad_cost_matrix_is_refused() -> None:
    with pytest.raises(UserError, match="finite matrix"):
        exact_from_cost(np.array([[np.nan]]))
