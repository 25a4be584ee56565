from typing import Literal

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor

from wgan.errors import UserError
from wgan.transport import (
    exact,
    max_sliced_direction,
    random_directions,
    sliced_wasserstein,
    wasserstein_1d,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.double)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 2]), st.integers(0, 99))
def test_one_dimension_agrees_with_exact_transport(
    n: int, m: int, p: Literal[1, 2], seed: int
) -> None:
    u, v = normal(n, seed=seed), 2 * normal(m, seed=seed + 1) + 1
    plan = exact(u.numpy(), v.numpy(), cost="euclidean" if p == 1 else "sqeuclidean")
    assert float(wasserstein_1d(u, v, p)) == pytest.approx(plan.primal, rel=1e-10, abs=1e-13)
    assert float(wasserstein_1d(v, u, p)) == pytest.approx(plan.primal, rel=1e-10, abs=1e-13)


def test_columns_are_transported_apart() -> None:
    u, v = normal(20, 4), normal(13, 4, seed=1)
    expected = [wasserstein_distance(u[:, k], v[:, k]) for k in range(4)]
    np.testing.assert_allclose(wasserstein_1d(u, v), expected)


@pytest.mark.parametrize("p", [1, 2])
def test_sliced_agrees_with_pot(p: Literal[1, 2]) -> None:
    x, y, directions = (
        normal(30, 5),
        normal(40, 5, seed=1),
        random_directions(rng(), 50, 5).double(),
    )
    pot = ot.sliced_wasserstein_distance(
        x.numpy(), y.numpy(), projections=directions.numpy().T, p=p
    )
    assert float(sliced_wasserstein(x, y, directions, p)) == pytest.approx(pot**p)


def test_translation_has_a_known_value() -> None:
    """Over the sphere in 3-d the mean of |theta . d| is |d| / 2, and of its square |d|^2 / 3."""
    x, d = normal(50, 3), torch.tensor([3.0, 0.0, 4.0], dtype=torch.double)
    directions = random_directions(rng(), 40_000, 3).double()
    assert float(sliced_wasserstein(x, x + d, directions, 1)) == pytest.approx(2.5, rel=0.01)
    assert float(sliced_wasserstein(x, x + d, directions, 2)) == pytest.approx(25 / 3, rel=0.01)


def test_directions_are_unit_vectors_and_a_function_of_the_generator() -> None:
    directions = random_directions(rng(3), 10, 7)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(10))
    assert torch.equal(directions, random_directions(rng(3), 10, 7))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("m", [6, 9])
def test_gradients(p: Literal[1, 2], m: int) -> None:
    x = normal(6, 3).requires_grad_(True)
    y = normal(m, 3, seed=1).requires_grad_(True)
    directions = random_directions(rng(), 4, 3).double().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x, y, d: sliced_wasserstein(x, y, d, p), (x, y, directions)
    )


@pytest.mark.parametrize("p", [1, 2])
def test_max_sliced_finds_the_axis_that_differs(p: Literal[1, 2]) -> None:
    x, y = normal(500, 20), normal(500, 20, seed=1)
    y[:, 0] += 3
    start = random_directions(rng(), 5, 20).double()
    value, direction = max_sliced_direction(x, y, start, p)
    assert abs(float(direction[0])) > 0.98
    assert float(direction.norm()) == pytest.approx(1)
    assert float(value) == pytest.approx(float(sliced_wasserstein(x, y, direction[None], p)))
    first, _ = max_sliced_direction(x, y, start, p, iterations=0)
    assert first < value
    if p == 1:
        assert value <= exact(x.numpy(), y.numpy()).value


def test_bad_input_is_refused() -> None:
    x = normal(3, 2)
    with pytest.raises(UserError, match="`p` must be 1 or 2"):
        wasserstein_1d(x, x, 3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="share a shape"):
        wasserstein_1d(x, normal(3, 4))
    with pytest.raises(UserError, match="equal dimensions, got 2, 2 and 3"):
        sliced_wasserstein(x, x, random_directions(rng(), 2, 3).double())
    with pytest.raises(UserError, match="must be >= 1"):
        random_directions(rng(), 0, 3)
