from typing import Any, Literal

import numpy as np
import ot
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from wgan.errors import UserError
from wgan.transport import cost_matrix, entropic_transport, exact, sinkhorn_divergence


def normal(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.double)


@pytest.mark.parametrize("p", [1, 2])
def test_value_and_plan_agree_with_pot(p: Literal[1, 2]) -> None:
    x, y, blur = normal(12, 2), normal(17, 2, seed=1) + 1, 0.6
    cost = cost_matrix(x, y) if p == 1 else cost_matrix(x, y, "sqeuclidean") / 2
    a, b = np.full(12, 1 / 12), np.full(17, 1 / 17)
    plan = ot.sinkhorn(a, b, cost, blur**p, method="sinkhorn_log", stopThr=1e-13, numItermax=10**5)
    kl = (plan * np.log(plan / np.outer(a, b))).sum()
    result = entropic_transport(x, y, blur=blur, p=p, iterations=2000)
    assert float(result.value) == pytest.approx((plan * cost).sum() + blur**p * kl, rel=1e-8)
    assert float(result.marginal_error) < 1e-10
    phi, psi = result.phi.numpy(), result.psi.numpy()
    own = np.exp((phi[:, None] - psi - cost) / blur**p) / (12 * 17)
    np.testing.assert_allclose(own, plan, atol=1e-10)


def test_unbalanced_value_agrees_with_pot_and_with_the_closed_dual() -> None:
    x, y, blur, reach = normal(10, 2), normal(14, 2, seed=1) + 1, 0.5, 1.2
    epsilon, rho = blur**2, reach**2
    cost = cost_matrix(x, y, "sqeuclidean") / 2
    a, b = np.full(10, 0.1), np.full(14, 1 / 14)
    plan = ot.unbalanced.sinkhorn_unbalanced(
        a, b, cost, epsilon, rho, reg_type="kl", stopThr=1e-14, numItermax=10**5
    )

    def kl(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
        return float((p * np.log(p / q) - p + q).sum())

    primal = (plan * cost).sum() + epsilon * kl(plan, np.outer(a, b))
    primal += rho * (kl(plan.sum(1), a) + kl(plan.sum(0), b))
    result = entropic_transport(x, y, blur=blur, reach=reach, iterations=1000)
    assert float(result.value) == pytest.approx(primal, rel=1e-8)
    f, g = result.phi, -result.psi
    # At the optimum the entropic term can be shared out: the formula of Sejourne et al. 2019.
    closed = -(rho + epsilon / 2) * ((-f / rho).expm1().mean() + (-g / rho).expm1().mean())
    assert float(result.value) == pytest.approx(float(closed), rel=1e-8)


def test_unbalanced_becomes_balanced_and_forgets_the_far() -> None:
    x, y = normal(20, 2), normal(20, 2, seed=1)
    balanced = sinkhorn_divergence(x, y, blur=0.3, iterations=400)
    wide = sinkhorn_divergence(x, y, blur=0.3, reach=300.0, iterations=400)
    assert float(wide) == pytest.approx(float(balanced), rel=1e-3)
    # Far samples are destroyed and made again: rho for each unit of mass, and epsilon for the plan.
    far = entropic_transport(x, y + 1e4, blur=0.3, reach=1.0).value
    assert float(far) == pytest.approx(2 + 0.09, rel=1e-6)


def test_entropic_transport_of_gaussians_has_its_closed_form() -> None:
    """Janati et al. 2020, theorem 1, in one dimension, on quantile grids."""
    levels = (np.arange(600) + 0.5) / 600
    grid = torch.from_numpy(norm.ppf(levels))[:, None]
    s, t, shift, epsilon = 1.0, 0.5, 0.7, 0.5
    result = entropic_transport(s * grid, t * grid + shift, blur=epsilon**0.5, iterations=200)
    # Their cost is |x - y|^2 with weight 2 sigma^2, twice ours: sigma^2 = epsilon.
    d = np.sqrt(4 * s**2 * t**2 + epsilon**2)
    bures = s**2 + t**2 - d + epsilon * (1 - np.log(2 * epsilon)) + epsilon * np.log(d + epsilon)
    assert float(result.value) == pytest.approx((shift**2 + bures) / 2, rel=5e-3)


def test_divergence_of_translates_is_half_the_squared_length() -> None:
    """For p = 2 translation adds |d|^2 / 2 to the transport and leaves the self-terms."""
    x, d = normal(25, 3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)
    for blur in (0.7, 2.0):
        value = sinkhorn_divergence(x, x + d, blur=blur, iterations=500)
        assert float(value) == pytest.approx(float(d @ d) / 2, rel=1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_small_blur_is_exact_transport(p: Literal[1, 2]) -> None:
    x, y = normal(15, 2), normal(15, 2, seed=1) + 1
    plan = exact(x, y, cost="euclidean" if p == 1 else "sqeuclidean")
    value = sinkhorn_divergence(x, y, blur=0.01 if p == 1 else 0.1, p=p, iterations=4000)
    assert float(value) == pytest.approx(plan.primal / p, rel=0.02)


@pytest.mark.parametrize("reach", [None, 1.0])
@pytest.mark.parametrize("p", [1, 2])
def test_zero_symmetric_positive(p: Literal[1, 2], reach: float | None) -> None:
    x, y = normal(20, 2), normal(25, 2, seed=1)

    def divergence(u: Tensor, v: Tensor) -> float:
        return float(sinkhorn_divergence(u, v, blur=0.3, p=p, reach=reach, iterations=500))

    assert divergence(x, x) == 0
    assert divergence(x, x[torch.randperm(20)]) == pytest.approx(0, abs=1e-12)
    assert divergence(x, y) == pytest.approx(divergence(y, x), rel=1e-12)
    assert divergence(x, y) > 0


@pytest.mark.parametrize("reach", [None, 1.0])
@pytest.mark.parametrize("p", [1, 2])
def test_gradient_is_that_of_the_optimum(p: Literal[1, 2], reach: float | None) -> None:
    x = normal(4, 2).requires_grad_(True)
    y = (normal(3, 2, seed=1) + 0.5).requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x, y: sinkhorn_divergence(x, y, blur=1.5, p=p, reach=reach, iterations=100), (x, y)
    )


def test_float32_and_coinciding_points() -> None:
    x = torch.zeros(8, 3, requires_grad=True)
    value = sinkhorn_divergence(x, torch.ones(8, 3), blur=0.05)
    (gradient,) = torch.autograd.grad(value, x)
    assert float(value.detach()) == pytest.approx(1.5, rel=1e-4)
    torch.testing.assert_close(gradient, torch.full((8, 3), -1 / 8), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"blur": 0}, "`blur`"),
        ({"reach": 0}, "`reach`"),
        ({"p": 3}, "`p`"),
        ({"iterations": 1}, "`iterations`"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], match: str) -> None:
    x = normal(3, 2)
    with pytest.raises(UserError, match=match):
        sinkhorn_divergence(x, x, **{"blur": 0.1, **change})
    with pytest.raises(UserError, match="share a shape"):
        sinkhorn_divergence(x, normal(3, 3), blur=0.1)
