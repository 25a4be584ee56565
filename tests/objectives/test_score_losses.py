"""The objectives that read only scores: values, gradients and the divergences they estimate."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats
from torch import Tensor

from wgan.errors import UserError
from wgan.objectives import (
    BoundaryEquilibrium,
    Hinge,
    LeastSquares,
    Objective,
    Relativistic,
    Standard,
    Wasserstein,
)
from wgan.types import Draw, Scores

Array = NDArray[np.float64]
Slope = Callable[[Array, Array], tuple[Array, Array]]

REAL = torch.tensor([[1.0, 0.0], [0.5, 1.0], [-1.0, 2.0]], dtype=torch.float64)
FAKE = torch.tensor([[0.0, 1.0], [2.0, 2.0], [-0.5, 0.5]], dtype=torch.float64)
WEIGHT = torch.tensor([1.0, -0.5], dtype=torch.float64)
# D(v) = w . v + 1/4 gives these scores
ON_REAL = np.array([1.25, 0.25, -1.75])
ON_FAKE = np.array([-0.25, 1.25, -0.5])


def s(t: Array) -> Array:
    return 1 / (1 + np.exp(-t))


def zero(t: Array) -> Array:
    return np.zeros_like(t)


# objective; its critic loss, and per-sample slopes of it in each score (times the batch size);
# its generator loss, and slopes in each fake score
CLOSED_FORMS = [
    (
        Wasserstein(),
        lambda r, f: f.mean() - r.mean(),
        lambda r, f: (-np.ones(3), np.ones(3)),
        lambda r, f: -f.mean(),
        lambda r, f: (zero(r), -np.ones(3)),
    ),
    (
        Standard(),
        lambda r, f: -np.log(s(r)).mean() - np.log(1 - s(f)).mean(),
        lambda r, f: (s(r) - 1, s(f)),
        lambda r, f: np.log(1 - s(f)).mean(),
        lambda r, f: (zero(r), -s(f)),
    ),
    (
        Standard("non-saturating"),
        lambda r, f: -np.log(s(r)).mean() - np.log(1 - s(f)).mean(),
        lambda r, f: (s(r) - 1, s(f)),
        lambda r, f: -np.log(s(f)).mean(),
        lambda r, f: (zero(r), s(f) - 1),
    ),
    (
        LeastSquares(),
        lambda r, f: (((r - 1) ** 2).mean() + (f**2).mean()) / 2,
        lambda r, f: (r - 1, f),
        lambda r, f: ((f - 1) ** 2).mean() / 2,
        lambda r, f: (zero(r), f - 1),
    ),
    (
        LeastSquares(-1, 1, 0),
        lambda r, f: (((r - 1) ** 2).mean() + ((f + 1) ** 2).mean()) / 2,
        lambda r, f: (r - 1, f + 1),
        lambda r, f: (f**2).mean() / 2,
        lambda r, f: (zero(r), f),
    ),
    (
        Hinge(),
        lambda r, f: np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(),
        lambda r, f: (-(r < 1).astype(float), (f > -1).astype(float)),
        lambda r, f: -f.mean(),
        lambda r, f: (zero(r), -np.ones(3)),
    ),
    (
        Relativistic(),
        lambda r, f: -np.log(s(r - f)).mean(),
        lambda r, f: (s(r - f) - 1, 1 - s(r - f)),
        lambda r, f: -np.log(s(f - r)).mean(),
        lambda r, f: (1 - s(f - r), s(f - r) - 1),
    ),
    (
        BoundaryEquilibrium(),
        lambda r, f: r.mean() - 0.3 * f.mean(),
        lambda r, f: (np.ones(3), -0.3 * np.ones(3)),
        lambda r, f: f.mean(),
        lambda r, f: (zero(r), np.ones(3)),
    ),
]


@pytest.mark.parametrize(
    ("objective", "critic_loss", "critic_slope", "generator_loss", "generator_slope"),
    CLOSED_FORMS,
    ids=lambda value: str(value) if isinstance(value, Objective) else "",
)
def test_linear_critic_gives_the_closed_form(
    objective: Objective,
    critic_loss: Callable[[Array, Array], float],
    critic_slope: Slope,
    generator_loss: Callable[[Array, Array], float],
    generator_slope: Slope,
) -> None:
    state = {"equilibrium": torch.tensor(0.3, dtype=torch.float64)}
    weight = WEIGHT.clone().requires_grad_()

    def critic(values: Tensor) -> Scores:
        return Scores(values @ weight + 0.25)

    loss, _ = objective.critic_loss(critic, REAL, [FAKE], Draw(), state, 1)
    assert loss.value.item() == pytest.approx(critic_loss(ON_REAL, ON_FAKE), abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.value, weight)
    on_real, on_fake = critic_slope(ON_REAL, ON_FAKE)
    expected = (on_real @ REAL.numpy() + on_fake @ FAKE.numpy()) / 3
    assert gradient.numpy() == pytest.approx(expected, abs=1e-12)

    fake = FAKE.clone().requires_grad_()
    loss, _ = objective.generator_loss(critic, REAL, [fake], Draw(), state, 1)
    assert loss.value.item() == pytest.approx(generator_loss(ON_REAL, ON_FAKE), abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.value, fake)
    _, on_fake = generator_slope(ON_REAL, ON_FAKE)
    assert gradient.numpy() == pytest.approx(np.outer(on_fake, WEIGHT.numpy()) / 3, abs=1e-12)


P, Q = stats.norm(0.0, 1.0), stats.norm(1.0, 1.5)


def quantiles(law: stats.rv_continuous, n: int = 40_000) -> Tensor:
    """Equally likely points that stand for the law: a mean over them is an integral."""
    return torch.from_numpy(law.ppf((np.arange(n) + 0.5) / n)).unsqueeze(1)


def estimate_at(objective: Objective, best: Callable[[Array, Array], Array]) -> float:
    """The estimate in the record where the critic is the optimal one, a function of p and q."""

    def critic(values: Tensor) -> Scores:
        points = values[:, 0].numpy()
        return Scores(torch.from_numpy(best(P.pdf(points), Q.pdf(points))))

    assert objective.estimate is not None
    loss, _ = objective.critic_loss(critic, quantiles(P), [quantiles(Q)], Draw(), {}, 1)
    return loss.terms[objective.estimate].item()


def integral(of: Callable[[Array, Array], Array]) -> float:
    return float(integrate.quad(lambda t: of(P.pdf(t), Q.pdf(t)), -12, 16, limit=200)[0])


def test_js_estimate_at_the_optimal_discriminator_is_js() -> None:
    js = integral(lambda p, q: (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))) / 2)
    assert estimate_at(Standard(), lambda p, q: np.log(p / q)) == pytest.approx(js, abs=1e-5)


@pytest.mark.parametrize(("a", "b"), [(-1, 1), (0, 1), (2, -3)])
def test_least_squares_estimate_at_the_optimal_critic_is_chi_squared(a: float, b: float) -> None:
    expected = integral(lambda p, q: (p - q) ** 2 / (p + q))
    found = estimate_at(LeastSquares(a, b, 0), lambda p, q: (b * p + a * q) / (p + q))
    assert found == pytest.approx(expected, abs=1e-5)


def test_mean_squares_of_the_optimal_least_squares_critic_are_the_same_divergence() -> None:
    def best(values: Tensor) -> Array:
        p, q = P.pdf(values.numpy()), Q.pdf(values.numpy())
        return np.asarray((p - q) / (p + q))

    squares = (best(quantiles(P)) ** 2).mean() + (best(quantiles(Q)) ** 2).mean()
    assert squares == pytest.approx(integral(lambda p, q: (p - q) ** 2 / (p + q)), abs=1e-5)


def test_hinge_estimate_at_the_optimal_critic_is_total_variation() -> None:
    expected = integral(lambda p, q: np.abs(p - q) / 2)
    assert estimate_at(Hinge(), lambda p, q: np.sign(p - q)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("objective", "most"),
    [(Standard(), math.log(2)), (Hinge(), 1), (LeastSquares(), 2), (Relativistic(), math.log(2))],
    ids=str,
)
def test_estimates_are_zero_for_a_blind_critic_and_full_for_a_sure_one(
    objective: Objective, most: float
) -> None:
    def estimate(on_real: float, on_fake: float) -> float:
        def critic(values: Tensor) -> Scores:
            return Scores(torch.where(values[:, 0] > 0, on_real, on_fake))

        real, fake = torch.ones(4, 1), -torch.ones(4, 1)
        assert objective.estimate is not None
        loss, _ = objective.critic_loss(critic, real, [fake], Draw(), {}, 1)
        return loss.terms[objective.estimate].item()

    blind = 0.5 if isinstance(objective, LeastSquares) else 0.0
    sure = (1.0, 0.0) if isinstance(objective, LeastSquares) else (50.0, -50.0)
    assert estimate(blind, blind) == pytest.approx(0, abs=1e-6)
    assert estimate(*sure) == pytest.approx(most, abs=1e-6)


def reconstruction(values: Tensor) -> Scores:
    """An 'autoencoder' whose error on a sample is its first number."""
    return Scores(values[:, 0], values)


def began_step(objective: BoundaryEquilibrium, k: float, real: float, fake: float) -> float:
    batch = torch.ones(4, 1, dtype=torch.float64)
    state = {"equilibrium": torch.tensor(k)}
    _, after = objective.critic_loss(reconstruction, real * batch, [fake * batch], Draw(), state, 1)
    assert state["equilibrium"].item() == pytest.approx(k)  # the old state is left alone
    return after["equilibrium"].item()


def test_began_moves_its_equilibrium_by_hand() -> None:
    began = BoundaryEquilibrium(diversity=0.5, rate=0.01)
    assert began.init()["equilibrium"].item() == 0
    assert began_step(began, 0.2, real=2.0, fake=0.4) == pytest.approx(0.2 + 0.01 * (1.0 - 0.4))
    assert began_step(began, 0.2, real=2.0, fake=1.5) == pytest.approx(0.2 - 0.01 * 0.5)


def test_began_clips_its_equilibrium() -> None:
    began = BoundaryEquilibrium(rate=1.0)
    assert began_step(began, 0.2, real=2.0, fake=4.0) == 0
    assert began_step(began, 0.2, real=9.0, fake=1.0) == 1


def test_began_records_its_convergence_measure() -> None:
    real, fake = torch.full((2, 1), 2.0), torch.full((2, 1), 1.6)
    state = {"equilibrium": torch.tensor(0.25)}
    loss, _ = BoundaryEquilibrium().critic_loss(reconstruction, real, [fake], Draw(), state, 1)
    expected = {
        "convergence": 2.0 + 0.6,
        "reconstruction_real": 2.0,
        "reconstruction_fake": 1.6,
        "equilibrium": 0.25,
    }
    assert {name: term.item() for name, term in loss.terms.items()} == pytest.approx(expected)
    assert loss.value.item() == pytest.approx(2.0 - 0.25 * 1.6)


def test_relativistic_refuses_unequal_batches() -> None:
    with pytest.raises(UserError, match="got 3 and 2"):
        Relativistic().critic_loss(reconstruction, REAL, [FAKE[:2]], Draw(), {}, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeastSquares(1, 1, 0), "must differ"),
        (lambda: LeastSquares(a=math.nan), "`a` must be finite"),
        (lambda: BoundaryEquilibrium(diversity=1.5), r"`diversity` must be in \[0, 1\], got 1.5"),
        (lambda: BoundaryEquilibrium(rate=0), "`rate` must be > 0"),
        (lambda: Standard("minmax"), "'minimax' or 'non-saturating'"),  # type: ignore[arg-type]
    ],
)
def test_fields_out_of_range_are_refused(make: Callable[[], Objective], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
