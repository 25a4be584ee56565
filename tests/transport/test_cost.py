from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from wgan.errors import UnknownNameError, UserError
from wgan.transport import Cost, as_points, cost_matrix, distances, squared_distances

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("cost", "scipy_name"),
    [
        ("euclidean", "euclidean"),
        ("sqeuclidean", "sqeuclidean"),
        ("l1", "cityblock"),
        ("linf", "chebyshev"),
    ],
)
@pytest.mark.parametrize("dim", [1, 64, 300])
def test_costs_agree_with_scipy(cost: Cost, scipy_name: str, dim: int) -> None:
    x, y = rng.normal(size=(20, dim)) + 1e3, rng.normal(size=(30, dim)) + 1e3
    np.testing.assert_allclose(cost_matrix(x, y, cost), cdist(x, y, scipy_name), rtol=1e-9)


def test_near_and_equal_points_keep_their_digits_in_high_dimension() -> None:
    x = 100 * rng.normal(size=(5, 500))
    y = x.copy()
    y[1] += 1e-7
    result = cost_matrix(x, y)
    assert (np.diag(result)[[0, 2, 3, 4]] == 0).all()
    assert result[1, 1] == pytest.approx(1e-7 * np.sqrt(500), rel=1e-6)


def test_pictures_are_flattened_and_whole_numbers_do_not_wrap() -> None:
    x = np.full((2, 4, 4, 3), 255, np.uint8)
    assert cost_matrix(np.zeros_like(x), x)[0, 0] == pytest.approx(255 * np.sqrt(48))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.array([[0.0, np.nan]]), "1 of 1 samples hold NaN"),
        (np.array(["a"]), "must be numbers"),
        (np.empty((0, 3)), "at least one sample"),
        (np.array(1.0), "at least one sample"),
    ],
)
def test_bad_samples_are_refused(values: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        as_points(values)


def test_bad_costs_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'euclidean'"):
        cost_matrix([[0.0]], [[1.0]], "euclidian")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="equal dimensions, got 1 and 2"):
        cost_matrix([[0.0]], [[1.0, 2.0]])
    with pytest.raises(UserError, match="overflows"):
        cost_matrix([[1e200]], [[-1e200]], "sqeuclidean")


@pytest.mark.parametrize("dim", [3, 3000])  # on both sides of the limit for differences
def test_tensor_distances_agree_with_numpy(dim: int) -> None:
    x, y = torch.randn(80, dim, dtype=torch.double), torch.randn(90, dim, dtype=torch.double)
    torch.testing.assert_close(distances(x, y), torch.from_numpy(cost_matrix(x, y)))
    torch.testing.assert_close(
        squared_distances(x, y), torch.from_numpy(cost_matrix(x, y, "sqeuclidean"))
    )


def test_distance_gradients() -> None:
    x = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    y = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(distances, (x, y))
    assert torch.autograd.gradgradcheck(distances, (x, y))
    (gradient,) = torch.autograd.grad(distances(x, x).sum(), x)  # its diagonal coincides
    assert gradient.isfinite().all()
