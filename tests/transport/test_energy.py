import numpy as np
import pytest
import torch
from scipy.stats import energy_distance as scipy_energy
from torch import Tensor

from wgan.errors import UserError
from wgan.transport import (
    Gaussian,
    Kernel,
    Polynomial,
    RationalQuadratic,
    cost_matrix,
    energy_distance,
    energy_statistic,
    mmd_squared,
    permutation_test,
)

KERNELS = [Gaussian((0.5, 2.0)), RationalQuadratic(linear=1.0), Polynomial()]


def normal(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.double)


def test_energy_is_scipys_square_with_the_diagonal_left_out() -> None:
    x, y = normal(30), normal(40, seed=1) + 1
    biased = scipy_energy(x, y) ** 2
    within = [float((u[:, None] - u).abs().mean()) for u in (x, y)]
    excess = within[0] / 29 + within[1] / 39  # n / (n - 1) - 1 of each mean
    value = float(energy_distance(x[:, None], y[:, None]))
    assert value == pytest.approx(biased - excess, rel=1e-12)


def test_energy_of_points_by_hand() -> None:
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
    # across: (1 + 5 + 1 + 3) / 4; within: 2 and 4
    assert float(energy_distance(x, y)) == pytest.approx(2 * 2.5 - 2 - 4)


def test_energy_and_mmd_are_unbiased() -> None:
    """Means over many small samples reach the population's value, 0 for equal distributions."""
    equal, apart, kernel_equal, kernel_apart = [], [], [], []
    kernel = Gaussian((1.0,))
    for seed in range(1500):
        x, y = normal(4, 1, seed=2 * seed), normal(4, 1, seed=2 * seed + 1)
        equal.append(float(energy_distance(x, y)))
        apart.append(float(energy_distance(x, y + 1)))
        kernel_equal.append(float(mmd_squared(x, y, kernel)))
        kernel_apart.append(float(mmd_squared(x, y + 1, kernel)))

    def folded(mu: float) -> float:
        """E|N(mu, 2)|."""
        from scipy.stats import norm

        s = np.sqrt(2)
        return float(2 * s * norm.pdf(mu / s) + mu * (2 * norm.cdf(mu / s) - 1))

    # E exp(-(N(mu, 2))^2 / 2) = exp(-mu^2 / 6) / sqrt(3)
    truths = {
        "equal": (equal, 0.0),
        "apart": (apart, 2 * folded(1) - 2 * folded(0)),
        "kernel equal": (kernel_equal, 0.0),
        "kernel apart": (kernel_apart, 2 / np.sqrt(3) * (1 - np.exp(-1 / 6))),
    }
    for name, (values, truth) in truths.items():
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - truth) < 3.5 * error, name


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_against_the_definition(kernel: Kernel) -> None:
    x, y = normal(5, 3), normal(4, 3, seed=1)

    def k(u: Tensor, v: Tensor) -> float:
        return float(kernel(u[None], v[None]))

    xx = np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    xy = np.mean([k(u, v) for u in x for v in y])
    assert float(mmd_squared(x, y, kernel)) == pytest.approx(xx + yy - 2 * xy)


def test_kernel_values() -> None:
    x, y = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert float(Gaussian((1.0, 2.0))(x, y)) == pytest.approx(np.exp(-2.5) + np.exp(-5 / 8))
    assert float(RationalQuadratic((0.5,), linear=2.0)(x, x)) == pytest.approx(1 + 2)
    assert float(RationalQuadratic((0.5,))(x, y)) == pytest.approx(6**-0.5)
    assert float(Polynomial()(x, x)) == pytest.approx(1.5**3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients(kernel: Kernel) -> None:
    x = normal(4, 2).requires_grad_(True)
    y = normal(3, 2, seed=1).requires_grad_(True)
    assert torch.autograd.gradcheck(energy_distance, (x, y))
    assert torch.autograd.gradgradcheck(energy_distance, (x, y))
    assert torch.autograd.gradcheck(lambda x, y: mmd_squared(x, y, kernel), (x, y))
    assert torch.autograd.gradgradcheck(lambda x, y: mmd_squared(x, y, kernel), (x, y))


def test_statistic_of_a_matrix_agrees_with_the_tensors() -> None:
    x, y = normal(20, 3), normal(30, 3, seed=1)
    pooled = torch.cat([x, y])
    assert energy_statistic(cost_matrix(pooled, pooled), 20) == pytest.approx(
        float(energy_distance(x, y))
    )
    kernel = Gaussian()
    assert energy_statistic(-kernel(pooled, pooled).numpy(), 20) == pytest.approx(
        float(mmd_squared(x, y, kernel))
    )


def test_permutation_test_is_valid_and_has_power() -> None:
    p_values = []
    for seed in range(200):
        pooled = normal(30, 2, seed=seed).numpy()
        p_values.append(permutation_test(cost_matrix(pooled, pooled), 12, permutations=99).p_value)
    # Uniform on 1/100 ... 1: the mean is .505, its error .02.
    assert np.mean(p_values) == pytest.approx(0.505, abs=0.08)
    assert np.mean(np.asarray(p_values) <= 0.05) < 0.11
    pooled = torch.cat([normal(30, 2), normal(30, 2, seed=1) + 2]).numpy()
    test = permutation_test(cost_matrix(pooled, pooled), 30, permutations=99)
    assert test.p_value == 0.01
    assert test.statistic == pytest.approx(energy_statistic(cost_matrix(pooled, pooled), 30))
    assert test == permutation_test(cost_matrix(pooled, pooled), 30, permutations=99)


def test_constant_samples_are_not_told_apart() -> None:
    assert permutation_test(np.zeros((10, 10)), 5).p_value == 1


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="at least 2 points"):
        energy_distance(torch.zeros(1, 2), torch.zeros(3, 2))
    with pytest.raises(UserError, match="equal shape"):
        mmd_squared(torch.zeros(3, 1), torch.zeros(3, 2), Gaussian())
    with pytest.raises(UserError, match="`permutations` must be >= 1"):
        permutation_test(np.zeros((4, 4)), 2, permutations=0)
    with pytest.raises(UserError, match="at least 2 points on each side"):
        permutation_test(np.zeros((4, 4)), 3)
    with pytest.raises(UserError, match="bandwidths"):
        Gaussian((0.0,))
    with pytest.raises(UserError, match="alphas"):
        RationalQuadratic(())
    with pytest.raises(UserError, match="linear"):
        RationalQuadratic(linear=-1)
    with pytest.raises(UserError, match="degree"):
        Polynomial(degree=0)
