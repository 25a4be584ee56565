"""W1 of large samples is exact, or lies between two certified numbers."""

from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from wgan.errors import UserError
from wgan.transport import Cost, SampleDistance, bracket, cost_matrix, exact, sample_distance

Points = NDArray[np.float64]


COSTS = ["euclidean", "l1", "linf"]


def feasible(found: SampleDistance, x: Points, y: Points, cost: Cost) -> bool:
    return bool((found.phi[:, None] - found.psi <= cost_matrix(x, y, cost) + 1e-11).all())


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(("n", "m", "dim"), [(300, 300, 2), (300, 200, 16), (101, 307, 1)])
def test_a_few_of_the_pairs_suffice_for_the_truth(n: int, m: int, dim: int, cost: Cost) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, dim)), rng.normal(size=(m, dim)) + 0.5
    truth = exact(x, y, cost=cost).value
    found = sample_distance(x, y, cost=cost, exact_limit=10)
    assert found.exact
    assert (found.lower, found.upper) == pytest.approx((truth, truth), rel=1e-8)
    assert feasible(found, x, y, cost)
    assert found.lower == pytest.approx(found.phi.mean() - found.psi.mean(), abs=1e-9)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dim", [2, 30])
@pytest.mark.parametrize("seconds", [1e-6, 0.12, 0.35])
def test_when_the_time_is_up_the_truth_is_between_them(
    seconds: float, dim: int, cost: Cost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock moves on by 0.01 whenever it is read, so that it stops at three places."""
    ticks = count()
    monkeypatch.setattr("time.monotonic", lambda: 0.01 * next(ticks))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, dim)), rng.normal(size=(220, dim)) + 0.5
    truth = exact(x, y, cost=cost).value
    found = sample_distance(x, y, cost=cost, exact_limit=10, seconds=seconds)
    assert not found.exact, seconds
    assert found.lower * (1 - 1e-9) < truth < found.upper * (1 + 1e-9)
    assert found.gap < (0.4 if seconds == 0.35 else 1.0) * truth
    assert feasible(found, x, y, cost)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dim", [1, 8, 9, 200])
def test_float32_costs_are_rounded_down(dim: int, cost: Cost) -> None:
    """Far from the origin and close together, where products cancel."""
    rng = np.random.default_rng(dim)
    x, y = 1 + 1e-4 * rng.normal(size=(200, dim)), 1 + 1e-4 * rng.normal(size=(100, dim))
    problem = bracket._Problem(x, y, cost)
    tiles = torch.cat([tile for _, tile in problem.tiles(precise=False)]).double().numpy()
    assert (tiles <= cost_matrix(x, y, cost) + problem.slack(np.zeros(100))).all()
    look = bracket._look(problem, rng.normal(size=100), precise=False)
    assert (look.phi[:, None] - look.psi <= cost_matrix(x, y, cost)).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 25),
    st.integers(1, 25),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 99),
    st.sampled_from(["euclidean", "l1", "linf"]),
)
def test_ties_and_odd_sizes_are_solved(
    n: int, m: int, dim: int, top: int, seed: int, cost: Cost
) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(0, top + 1, size=(k, dim)).astype(float) for k in (n, m))
    truth = exact(x, y, cost=cost).value
    found = sample_distance(x, y, cost=cost, exact_limit=0)
    assert (found.lower, found.upper) == pytest.approx((truth, truth), abs=1e-8)
    assert feasible(found, x, y, cost)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_on_a_line_it_is_scipys(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.exponential(size=m)
    found = sample_distance(x, y, exact_limit=5)
    assert found.upper == pytest.approx(wasserstein_distance(x, y), abs=1e-8)


def test_a_sample_is_at_distance_zero_of_itself_in_any_order() -> None:
    x = np.random.default_rng(0).normal(size=(400, 20))
    found = sample_distance(x, x[::-1], exact_limit=10)
    assert found.exact
    assert found.upper == pytest.approx(0, abs=1e-9)


def test_it_is_symmetric() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(210, 3)), rng.normal(size=(150, 3)) + 1
    one, other = (sample_distance(*pair, exact_limit=10) for pair in ((x, y), (y, x)))
    assert one.upper == pytest.approx(other.upper, rel=1e-8)


@pytest.mark.slow
def test_large_samples_are_exact_within_memory() -> None:
    """A shuffled translation has a known answer; the costs alone would be 1.2 GB."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12_000, 32))
    found = sample_distance(x, rng.permutation(x) + np.eye(32)[0])
    assert found.exact
    assert (found.lower, found.upper) == pytest.approx((1, 1), rel=1e-8)


def test_small_samples_are_exact() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    found = sample_distance(x, x + np.array([1.0, 0, 0]))
    assert found.exact
    assert (found.upper, found.lower) == pytest.approx((1, 1))


def test_far_away_and_large_data_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.normal(size=(150, 3)) + 1
    near = sample_distance(x, y, exact_limit=10)
    far = sample_distance(1e6 + 1e3 * x, 1e6 + 1e3 * y, exact_limit=10)
    assert far.upper == pytest.approx(1e3 * near.upper, rel=1e-8)
    assert far.lower == pytest.approx(1e3 * near.lower, rel=1e-8)


def test_mistakes_are_refused() -> None:
    x = np.zeros((5, 2))
    with pytest.raises(UserError, match="finite"):
        sample_distance(np.full((5, 2), np.nan), x)
    with pytest.raises(UserError, match="equal dimensions"):
        sample_distance(np.zeros((5, 3)), x)
    with pytest.raises(UserError, match="`seconds`"):
        sample_distance(x, x, seconds=0)
    with pytest.raises(UserError, match="`cost`"):
        sample_distance(x, x, cost="sqeuclidean")
