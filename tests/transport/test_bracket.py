"""W1 of large samples lies between two certified numbers."""

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wgan.errors import UserError
from wgan.transport import Cost, cost_matrix, exact, sample_distance


@pytest.mark.parametrize("cost", ["euclidean", "l1", "linf"])
@pytest.mark.parametrize(("n", "m", "dim"), [(300, 300, 2), (300, 200, 16), (101, 307, 1)])
def test_the_truth_is_between_them(n: int, m: int, dim: int, cost: str) -> None:
    rng = np.random.default_rng(0)
    x, y, metric = rng.normal(size=(n, dim)), rng.normal(size=(m, dim)) + 0.5, cast(Cost, cost)
    truth = exact(x, y, cost=metric).value
    found = sample_distance(x, y, cost=metric, exact_limit=10)
    assert not found.exact
    assert found.lower <= truth <= found.upper
    assert found.gap < (0.5 if dim == 1 else 0.2) * truth
    assert (found.phi[:, None] - found.psi <= cost_matrix(x, y, metric) + 1e-12).all()
    assert found.lower == pytest.approx(found.phi.mean() - found.psi.mean(), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(0, 3), st.integers(0, 99)
)
def test_ties_and_odd_sizes_are_bracketed(n: int, m: int, dim: int, top: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(0, top + 1, size=(k, dim)).astype(float) for k in (n, m))
    truth = exact(x, y).value
    found = sample_distance(x, y, exact_limit=0)
    assert found.lower <= truth + 1e-9
    assert found.upper >= truth - 1e-9


def test_small_samples_are_exact() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    found = sample_distance(x, x + np.array([1.0, 0, 0]))
    assert found.exact
    assert (found.upper, found.lower) == pytest.approx((1, 1))


def test_far_away_and_large_data_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.normal(size=(150, 3)) + 1
    near = sample_distance(x, y, exact_limit=0)
    far = sample_distance(1e6 + 1e3 * x, 1e6 + 1e3 * y, exact_limit=0)
    assert far.upper == pytest.approx(1e3 * near.upper, rel=1e-4)
    assert far.lower == pytest.approx(1e3 * near.lower, rel=1e-4)


def test_a_short_time_gives_a_wider_bracket() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 3)), rng.normal(size=(300, 3)) + 1
    short = sample_distance(x, y, exact_limit=0, seconds=1e-6)
    full = sample_distance(x, y, exact_limit=0)
    truth = exact(x, y).value
    assert short.lower <= truth <= short.upper
    assert full.gap < short.gap


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
