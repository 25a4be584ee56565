"""Energy and kernel objectives: by hand on linear features, against scipy, and unbiased."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats
from torch import Tensor

from wgan.errors import UserError
from wgan.objectives import Cramer, Energy, GaussianMmd, Objective, RationalQuadraticMmd
from wgan.types import Critic, Draw, Scores

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

REAL = torch.tensor([[1.0, 0.0], [0.5, 1.0], [-1.0, 2.0]], dtype=torch.float64)
FAKE = torch.tensor([[0.0, 1.0], [2.0, 2.0], [-0.5, 0.5]], dtype=torch.float64)
OTHER = torch.tensor([[0.3, 0.2], [1.0, -2.0], [1.5, 0.1]], dtype=torch.float64)
WEIGHT = torch.tensor([1.0, -0.5], dtype=torch.float64)


def linear(weight: Tensor) -> Critic:
    """One feature, h(v) = w . v; the score is 10 + h so that its use would be seen."""
    return lambda values: Scores(10 + values @ weight, (values @ weight).unsqueeze(1))


def identity(values: Tensor) -> Scores:
    return Scores(values.flatten(1).sum(1), values.flatten(1))


def pair_mean(
    f: Function, g: Function, x: Tensor, y: Tensor, *, apart: bool = False
) -> tuple[float, Array]:
    """The mean of f(w . (x_i - y_j)) over pairs, and its gradient in w; g is the slope of f."""
    n, m = len(x), len(y)
    value, gradient = 0.0, np.zeros(2)
    count = 0
    for i in range(n):
        for j in range(m):
            if apart and i == j:
                continue
            difference = (x[i] - y[j]).numpy()
            t = np.asarray(difference @ WEIGHT.numpy())
            value += float(f(t))
            gradient += g(t) * difference
            count += 1
    return value / count, gradient / count


def check(
    loss: Callable[[Critic], Tensor], expected: tuple[float, Array], tolerance: float = 1e-10
) -> None:
    weight = WEIGHT.clone().requires_grad_()
    value = loss(linear(weight))
    assert value.item() == pytest.approx(expected[0], abs=tolerance)
    (gradient,) = torch.autograd.grad(value, weight)
    assert gradient.numpy() == pytest.approx(expected[1], abs=tolerance)


def total(*parts: tuple[float, tuple[float, Array]]) -> tuple[float, Array]:
    """A linear combination of values and gradients."""
    value = sum(factor * part[0] for factor, part in parts)
    gradient = np.zeros(2)
    for factor, part in parts:
        gradient = gradient + factor * part[1]
    return value, gradient


def gap(x: Tensor, y: Tensor, *, apart: bool = False) -> tuple[float, Array]:
    return pair_mean(np.abs, np.sign, x, y, apart=apart)


ORIGIN = torch.zeros(1, 2, dtype=torch.float64)


def test_cramer_on_a_linear_feature_is_the_closed_form() -> None:
    fakes = [FAKE, OTHER]
    critic_loss = total(
        (-0.5, gap(REAL, FAKE)),
        (-0.5, gap(REAL, OTHER)),
        (1.0, gap(FAKE, OTHER)),
        (1.0, gap(REAL, ORIGIN)),
        (-0.5, gap(FAKE, ORIGIN)),
        (-0.5, gap(OTHER, ORIGIN)),
    )
    check(lambda d: Cramer().critic_loss(d, REAL, fakes, Draw(), {}, 1)[0].value, critic_loss)
    generator_loss = total(
        (1.0, gap(REAL, FAKE)), (1.0, gap(REAL, OTHER)), (-1.0, gap(FAKE, OTHER))
    )
    check(lambda d: Cramer().generator_loss(d, REAL, fakes, Draw(), {}, 1)[0].value, generator_loss)


def test_cramer_critic_loss_is_the_gap_of_its_witness_symmetrised() -> None:
    cramer, critic = Cramer(), linear(WEIGHT)

    def one_way(first: Tensor, second: Tensor) -> Tensor:
        f = cramer.witness(critic, REAL, [first, second], Draw())
        return f(REAL).score.mean() - f(first).score.mean()

    loss, _ = cramer.critic_loss(critic, REAL, [FAKE, OTHER], Draw(), {}, 1)
    expected = -(one_way(FAKE, OTHER) + one_way(OTHER, FAKE)) / 2
    assert loss.value.item() == pytest.approx(expected.item(), abs=1e-12)


def test_cramer_witness_by_hand() -> None:
    witness = Cramer().witness(linear(WEIGHT), REAL, [FAKE, OTHER], Draw())
    h = [float(row @ WEIGHT) for row in REAL]
    anchors = [float(row @ WEIGHT) for row in OTHER]
    expected = [np.mean([abs(u - v) for v in anchors]) - abs(u) for u in h]
    assert witness(REAL).score.tolist() == pytest.approx(expected, abs=1e-12)


def rational(alphas: tuple[float, ...]) -> tuple[Function, Function]:
    """The kernel as a function of t = h - h', and its slope."""

    def value(t: Array) -> Array:
        return np.asarray(sum((1 + t * t / (2 * a)) ** -a for a in alphas))

    def slope(t: Array) -> Array:
        return np.asarray(sum(-t * (1 + t * t / (2 * a)) ** (-a - 1) for a in alphas))

    return value, slope


def product(x: Tensor, y: Tensor, *, apart: bool = False) -> tuple[float, Array]:
    """The mean of (w . x_i) (w . y_j) over pairs, and its gradient in w."""
    pairs = [(a, b) for i, a in enumerate(x) for j, b in enumerate(y) if not (apart and i == j)]
    value = np.mean([float(a @ WEIGHT) * float(b @ WEIGHT) for a, b in pairs])
    gradients = [float(a @ WEIGHT) * b.numpy() + float(b @ WEIGHT) * a.numpy() for a, b in pairs]
    return float(value), np.mean(gradients, axis=0)


def test_rational_quadratic_mmd_on_a_linear_feature_is_the_closed_form() -> None:
    f, g = rational((0.2, 0.5, 1.0, 2.0, 5.0))
    mmd2 = total(
        (1, pair_mean(f, g, REAL, REAL, apart=True)),
        (1, pair_mean(f, g, FAKE, FAKE, apart=True)),
        (-2, pair_mean(f, g, REAL, FAKE)),
        (1, product(REAL, REAL, apart=True)),
        (1, product(FAKE, FAKE, apart=True)),
        (-2, product(REAL, FAKE)),
    )
    objective = RationalQuadraticMmd(activation_weight=0.5)
    check(lambda d: objective.generator_loss(d, REAL, [FAKE], Draw(), {}, 1)[0].value, mmd2)
    squares = [(x @ WEIGHT).square().mean().item() for x in (REAL, FAKE)]
    slopes = [(2 * (x @ WEIGHT)[:, None] * x).mean(0).numpy() for x in (REAL, FAKE)]
    critic_loss = total((-1, mmd2), *((0.5, pair) for pair in zip(squares, slopes, strict=True)))
    check(lambda d: objective.critic_loss(d, REAL, [FAKE], Draw(), {}, 1)[0].value, critic_loss)


def test_rational_quadratic_witness_by_hand() -> None:
    f, _ = rational((0.5, 2.0))
    objective = RationalQuadraticMmd(alphas=(0.5, 2.0), linear=0.7)
    witness = objective.witness(linear(WEIGHT), REAL, [FAKE], Draw())
    expected = []
    for u in OTHER @ WEIGHT:
        sides = [
            np.mean([float(f(np.asarray(u - v))) + 0.7 * float(u * v) for v in side @ WEIGHT])
            for side in (REAL, FAKE)
        ]
        expected.append(sides[0] - sides[1])
    assert witness(OTHER).score.tolist() == pytest.approx(expected, abs=1e-12)


def test_gaussian_mmd_on_a_linear_feature_is_the_closed_form() -> None:
    widths = (0.5, 2.0)
    apart = torch.tensor([2.0, -2.0], dtype=torch.float64)  # so that the estimate is positive
    real, fake = REAL + apart, FAKE - apart

    def f(t: Array) -> Array:
        return np.asarray(sum(np.exp(-t * t / (2 * s * s)) for s in widths))

    def g(t: Array) -> Array:
        return np.asarray(sum(-t / s**2 * np.exp(-t * t / (2 * s * s)) for s in widths))

    mmd2 = total(
        (1, pair_mean(f, g, real, real, apart=True)),
        (1, pair_mean(f, g, fake, fake, apart=True)),
        (-2, pair_mean(f, g, real, fake)),
    )
    assert mmd2[0] > 0
    root = np.sqrt(mmd2[0])
    # the code of fakes is above that of reals in the mean for -w, not for w: R binds for -w only
    gap_w = (real.mean(0) - fake.mean(0)).numpy()
    assert gap_w @ WEIGHT.numpy() > 0
    generator_loss = (root, mmd2[1] / (2 * root))
    objective = GaussianMmd(widths)
    check(
        lambda d: objective.generator_loss(d, real, [fake], Draw(), {}, 1)[0].value,
        generator_loss,
        tolerance=1e-7,
    )
    flipped = (root - 16 * gap_w @ WEIGHT.numpy(), mmd2[1] / (2 * root) - 16 * gap_w)
    check(
        lambda d: objective.generator_loss(d, fake, [real], Draw(), {}, 1)[0].value,
        flipped,
        tolerance=1e-7,
    )
    errors = sum(10 + float(x.mean(0) @ WEIGHT) for x in (real, fake))
    slope = 8 * (real.mean(0) + fake.mean(0)).numpy()
    check(
        lambda d: objective.critic_loss(d, real, [fake], Draw(), {}, 1)[0].value,
        total((-1, generator_loss), (8, (errors, slope / 8))),
        tolerance=1e-7,
    )


def test_gaussian_mmd_is_flat_below_zero() -> None:
    same = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    fake = same.clone().requires_grad_()
    objective = GaussianMmd((1.0,), rank_weight=0)
    loss, _ = objective.generator_loss(identity, same, [fake], Draw(), {}, 1)
    assert loss.value.item() == pytest.approx(0, abs=2e-4)
    (gradient,) = torch.autograd.grad(loss.value, fake)
    assert gradient.abs().max() == 0


def test_gaussian_mmd_has_a_bounded_slope_where_it_leaves_zero() -> None:
    real = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    objective = GaussianMmd((1.0,), rank_weight=0)

    def estimate(shift: float) -> float:
        loss, _ = objective.critic_loss(identity, real, [real + shift], Draw(), {}, 1)
        return loss.terms["mmd2"].item()

    low, high = 0.0, 5.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if estimate(middle) <= 0 else (low, middle)
    assert 0 < estimate(high) < 1e-12
    fake = (real + high).requires_grad_()
    loss, _ = objective.generator_loss(identity, real, [fake], Draw(), {}, 1)
    (gradient,) = torch.autograd.grad(loss.value, fake)
    assert 0 < gradient.abs().max() < 5_000


def test_energy_agrees_with_scipy_on_the_biased_form() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=6), rng.normal(1, 2, size=6)
    loss, _ = Energy().generator_loss(
        identity, torch.tensor(x)[:, None], [torch.tensor(y)[:, None]], Draw(), {}, 1
    )

    def within(v: Array) -> float:
        return float(np.abs(v[:, None] - v).mean())

    biased = stats.energy_distance(x, y) ** 2
    expected = biased - (within(x) + within(y)) / 5  # n / (n - 1) = 1 + 1 / 5
    assert loss.value.item() == pytest.approx(expected, abs=1e-12)


def test_energy_gradient_by_hand() -> None:
    fake = FAKE.clone().requires_grad_()
    loss, _ = Energy().generator_loss(identity, REAL, [fake], Draw(), {}, 1)
    (gradient,) = torch.autograd.grad(loss.value, fake)

    def unit(a: Tensor, b: Tensor) -> Array:
        return np.asarray((a - b) / (a - b).norm())

    for j in range(3):
        pull = sum(unit(FAKE[j], x) for x in REAL) * 2 / 9
        push = sum(unit(FAKE[j], FAKE[i]) for i in range(3) if i != j) * 2 / 6
        assert gradient[j].numpy() == pytest.approx(pull - push, abs=1e-12)


def folded(mean: float, deviation: float) -> float:
    """E |t| of a Gaussian."""
    z = mean / deviation
    return float(2 * deviation * stats.norm.pdf(z) + mean * (2 * stats.norm.cdf(z) - 1))


def expected_kernel(kernel: Function, mean: float) -> float:
    """E k(t) for t ~ N(mean, 2), the difference of two unit Gaussians."""
    law = stats.norm(mean, np.sqrt(2))
    return float(integrate.quad(lambda t: float(kernel(t)) * law.pdf(t), -12, 12)[0])


def gaussian_kernel(t: Array) -> Array:
    return np.asarray(np.exp(-t * t / 2))


SHIFT = 0.7
RQ = rational((0.2, 0.5, 1.0, 2.0, 5.0))[0]
UNBIASED = [
    (Energy(), 2 * folded(SHIFT, np.sqrt(2)) - 2 * folded(0, np.sqrt(2))),
    (Cramer(), 2 * folded(SHIFT, np.sqrt(2)) - 2 * folded(0, np.sqrt(2))),
    (
        GaussianMmd((1.0,)),
        2 * expected_kernel(gaussian_kernel, 0) - 2 * expected_kernel(gaussian_kernel, SHIFT),
    ),
    (
        RationalQuadraticMmd(),
        2 * expected_kernel(RQ, 0) - 2 * expected_kernel(RQ, SHIFT) + SHIFT**2,
    ),
]


@pytest.mark.parametrize(("objective", "expected"), UNBIASED, ids=str)
@pytest.mark.parametrize("shift", [SHIFT, 0.0])
def test_estimates_are_unbiased_in_batches_of_three(
    objective: Objective, expected: float, shift: float
) -> None:
    rng = torch.Generator().manual_seed(0)
    found = []
    for _ in range(2_000):
        real, *fakes = torch.randn(3, 3, 1, generator=rng, dtype=torch.float64)
        fakes = [fake + shift for fake in fakes]
        update = objective.critic_loss if objective.uses_critic else objective.generator_loss
        loss, _ = update(identity, real, fakes, Draw(), {}, 1)
        assert objective.estimate is not None
        found.append(loss.terms[objective.estimate].item())
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - (expected if shift else 0)) < 4 * error


def test_cramer_generator_loss_is_unbiased_up_to_its_constant() -> None:
    rng = torch.Generator().manual_seed(1)
    found = []
    for _ in range(2_000):
        real, *fakes = torch.randn(3, 3, 1, generator=rng, dtype=torch.float64)
        fakes = [fake + SHIFT for fake in fakes]
        loss, _ = Cramer().generator_loss(identity, real, fakes, Draw(), {}, 1)
        found.append(loss.value.item())
    expected = 2 * folded(SHIFT, np.sqrt(2)) - folded(0, np.sqrt(2))
    assert abs(np.mean(found) - expected) < 4 * np.std(found) / np.sqrt(len(found))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianMmd(()), "`bandwidths`"),
        (lambda: GaussianMmd((1.0, -1.0)), "`bandwidths`"),
        (lambda: GaussianMmd(rank_weight=-1), "`rank_weight` must be >= 0, got -1"),
        (lambda: GaussianMmd(autoencoder_weight=-1), "`autoencoder_weight` must be >= 0"),
        (lambda: RationalQuadraticMmd(alphas=(0.0,)), "`alphas`"),
        (lambda: RationalQuadraticMmd(linear=-1), "`linear`"),
        (lambda: RationalQuadraticMmd(activation_weight=-1), "`activation_weight`"),
    ],
)
def test_fields_out_of_range_are_refused(make: Callable[[], Objective], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
