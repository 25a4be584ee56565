import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from wgan.errors import UserError
from wgan.transport import exact, gaussian_w2_squared, sample_bures_squared

rng = np.random.default_rng(0)


def random_covariance(dim: int) -> NDArray[np.float64]:
    a = rng.normal(size=(dim, dim))
    return a @ a.T


def test_bures_formula() -> None:
    A, B = random_covariance(5), random_covariance(5)
    root = sqrtm(A)
    cross = np.trace(sqrtm(root @ B @ root).real)
    expected = 5 * 4 + np.trace(A) + np.trace(B) - 2 * cross
    assert gaussian_w2_squared(np.zeros(5), A, np.full(5, 2), B) == pytest.approx(expected)


def test_commuting_and_one_dimensional_cases() -> None:
    assert gaussian_w2_squared(0, 4, 3, 1) == pytest.approx(9 + (2 - 1) ** 2)
    A, B = np.diag([4.0, 0.0]), np.diag([1.0, 9.0])
    assert gaussian_w2_squared([0, 0], A, [0, 0], B) == pytest.approx(1 + 9)


@pytest.mark.parametrize(("n", "dim"), [(50, 5), (5, 50)])  # full rank, and singular
def test_sample_form_agrees_with_the_covariances(n: int, dim: int) -> None:
    x, y = rng.normal(size=(n, dim)), rng.normal(size=(n + 3, dim)) + 1
    expected = gaussian_w2_squared(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert sample_bures_squared(x, y) == pytest.approx(expected, rel=1e-7)
    assert sample_bures_squared(x, x) == pytest.approx(0, abs=1e-12)
    assert sample_bures_squared(x, x + 1) == pytest.approx(dim)


def test_it_bounds_the_transport_of_the_samples_from_below() -> None:
    """Gelbrich: W2 is at least that of the Gaussians with the same moments."""
    x, y = rng.exponential(size=(200, 3)), rng.normal(size=(200, 3)) * [1, 2, 3]
    moments = gaussian_w2_squared(
        x.mean(0), np.cov(x.T, bias=True), y.mean(0), np.cov(y.T, bias=True)
    )
    assert moments <= exact(x, y, cost="sqeuclidean").primal


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="positive semi-definite"):
        gaussian_w2_squared([0, 0], np.diag([1.0, -1.0]), [0, 0], np.eye(2))
    with pytest.raises(UserError, match="positive semi-definite"):
        gaussian_w2_squared([0, 0], np.array([[1.0, 0.5], [0.0, 1.0]]), [0, 0], np.eye(2))
    with pytest.raises(UserError, match=r"\[2, 2\]"):
        gaussian_w2_squared([0, 0], np.eye(3), [0, 0], np.eye(2))
    with pytest.raises(UserError, match="different dimensions"):
        gaussian_w2_squared([0, 0], np.eye(2), [0], 1)
    with pytest.raises(UserError, match="two or more"):
        sample_bures_squared([[0.0]], [[1.0], [2.0]])
