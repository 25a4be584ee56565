import numpy as np
import pytest

from wgan.errors import UserError
from wgan.metrics import frechet_distance, kernel_distance
from wgan.transport import Polynomial, gaussian_w2_squared

rng = np.random.default_rng(0)


def test_frechet_is_bures_of_the_moments() -> None:
    x, y = rng.normal(size=(100, 4)), rng.exponential(size=(80, 4))
    expected = gaussian_w2_squared(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_known_gaussians() -> None:
    """Standard deviations 1 and 2 about means 3 apart, in 3 dimensions: 9 + 3 (2 - 1)^2."""
    x, y = rng.normal(size=(200_000, 3)), 2 * rng.normal(size=(200_000, 3)) + [3, 0, 0]
    assert frechet_distance(x, y) == pytest.approx(12, rel=0.01)


def test_frechet_with_fewer_samples_than_features_and_constant_ones() -> None:
    x = rng.normal(size=(20, 300))
    x[:, :10] = 1
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(x, x[::-1] + 2) == pytest.approx(4 * 300)
    assert frechet_distance(x, 3 * x) == pytest.approx(frechet_distance(3 * x, x))


def test_kernel_distance_is_unbiased() -> None:
    """Zero on average for equal distributions, and known for a shift."""
    linear = Polynomial(degree=1)  # MMD^2 is |difference of means|^2 / dim
    equal, apart = [], []
    for seed in range(300):
        local = np.random.default_rng(seed)
        x, y = local.normal(size=(40, 3)), local.normal(size=(40, 3))
        equal.append(kernel_distance(x, y, subsets=5, seed=seed).value)
        shifted = y + np.array([3, 0, 0])
        apart.append(kernel_distance(x, shifted, kernel=linear, subsets=5, seed=seed).value)
    for values, truth in ((equal, 0), (apart, 3)):
        assert abs(np.mean(values) - truth) < 3.5 * np.std(values) / np.sqrt(300)


def test_kernel_distance_of_one_subset_by_definition() -> None:
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)) + 1
    found = {round(kernel_distance(x, y, subsets=1, seed=s).value, 10) for s in range(300)}

    def k(u: np.ndarray, v: np.ndarray) -> float:
        return float((u @ v / 2 + 1) ** 3)

    by_definition = set()
    pairs = [(i, j) for i in range(4) for j in range(i)]
    for a, b in pairs:
        for c, d in pairs:
            across = np.mean([k(x[i], y[j]) for i in (a, b) for j in (c, d)])
            value = k(x[a], x[b]) + k(y[c], y[d]) - 2 * across
            by_definition.add(round(value, 10))
    assert found == by_definition


def test_kernel_distance_reports_what_it_did() -> None:
    x = rng.normal(size=(50, 2))
    result = kernel_distance(x, x + 1, subsets=7, subset_size=1000)
    assert (result.subsets, result.subset_size) == (7, 25)
    assert result.deviation > 0
    assert result == kernel_distance(x, x + 1, subsets=7)
    assert kernel_distance(x, x + 1, subset_size=10).subset_size == 10


def test_bad_input_is_refused() -> None:
    x = rng.normal(size=(5, 2))
    with pytest.raises(UserError, match="at least 4"):
        kernel_distance(x[:3], x)
    with pytest.raises(UserError, match="equal dimension"):
        kernel_distance(x, x[:, :1])
    with pytest.raises(UserError, match="`subsets` >= 1"):
        kernel_distance(x, x, subsets=0)
    with pytest.raises(UserError, match="two or more"):
        frechet_distance(x[:1], x)
    with pytest.raises(UserError, match="must be finite"):
        frechet_distance(x * np.nan, x)
