"""Sliced, Sinkhorn, two-step and quadratic objectives against sorting, POT and hand-made plans."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import ot
import pytest
import torch
from scipy import optimize
from scipy.spatial.distance import cdist
from torch import Tensor

from wgan.errors import UserError
from wgan.objectives import MaxSliced, Objective, QuadraticCost, Sinkhorn, Sliced, TwoStep
from wgan.objectives.potentials import transport_targets
from wgan.types import Critic, Draw, Scores

P = Literal[1, 2]


def samples(n: int, *shape: int, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=rng, dtype=torch.float64) + shift


def untouchable(values: Tensor) -> Scores:
    raise AssertionError("this objective has no critic")


def drawn(objective: Objective, like: Tensor, seed: int = 0) -> Draw:
    return objective.draw(torch.Generator().manual_seed(seed), tuple(like.shape)).to(like)


def generator_loss(objective: Objective, real: Tensor, fake: Tensor) -> tuple[Tensor, float]:
    """The loss, and the estimate in its record."""
    draw = drawn(objective, real)
    loss, _ = objective.generator_loss(untouchable, real, [fake], draw, {}, 1)
    assert objective.estimate is not None
    return loss.value, loss.terms[objective.estimate].item()


@pytest.mark.parametrize("p", [1, 2])
def test_sliced_agrees_with_pot_on_the_same_directions(p: P) -> None:
    real, fake = samples(8, 3), samples(8, 3, seed=1, shift=1.0)
    objective = Sliced(p=p, n_directions=50)
    directions = drawn(objective, real)["directions"]
    assert directions.norm(dim=1).numpy() == pytest.approx(1.0, abs=1e-6)
    loss, distance = generator_loss(objective, real, fake)
    expected = ot.sliced_wasserstein_distance(
        real.numpy(), fake.numpy(), projections=directions.T.numpy(), p=p
    )
    assert distance == pytest.approx(expected, abs=1e-10)
    assert loss.item() == pytest.approx(expected**p, abs=1e-10)


@pytest.mark.parametrize("p", [1, 2])
def test_sliced_gradient_in_one_dimension_follows_the_sorted_pairs(p: P) -> None:
    real = torch.tensor([[0.0], [1.0], [5.0]], dtype=torch.float64)
    fake = torch.tensor([[4.0], [-1.0], [1.5]], dtype=torch.float64, requires_grad=True)
    loss, _ = generator_loss(Sliced(p=p, n_directions=3), real, fake)
    differences = np.array([-1.0, -1.0, 0.5])  # fakes in their order, less their partners 5, 0, 1
    (gradient,) = torch.autograd.grad(loss, fake)
    assert loss.item() == pytest.approx((np.abs(differences) ** p).mean(), abs=1e-6)
    expected = differences * 2 / 3 if p == 2 else np.sign(differences) / 3
    assert gradient[:, 0].numpy() == pytest.approx(expected, abs=1e-6)


def test_sliced_of_a_translation_averages_its_projections() -> None:
    real = samples(6, 2)
    shift = torch.tensor([3.0, 4.0], dtype=torch.float64)
    loss, _ = generator_loss(Sliced(p=2, n_directions=4_000), real, real + shift)
    assert loss.item() == pytest.approx(25 / 2, rel=0.05)  # E (t . d)^2 = |d|^2 / dim


@pytest.mark.parametrize("p", [1, 2])
def test_max_sliced_of_a_translation_is_its_length(p: P) -> None:
    real = samples(6, 2)
    fake = (real + torch.tensor([3.0, 4.0])).requires_grad_()
    loss, distance = generator_loss(MaxSliced(p=p), real, fake)
    assert distance == pytest.approx(5.0, abs=1e-4)
    (gradient,) = torch.autograd.grad(loss, fake)
    expected = np.array([3.0, 4.0]) / 5 / 6 * (1 if p == 1 else 2 * 5)
    assert gradient.numpy() == pytest.approx(np.tile(expected, (6, 1)), abs=1e-2)


def test_max_sliced_is_at_least_sliced() -> None:
    real, fake = samples(16, 5), 2 * samples(16, 5, seed=1)
    _, worst = generator_loss(MaxSliced(), real, fake)
    _, mean = generator_loss(Sliced(n_directions=500), real, fake)
    assert worst > 1.2 * mean


def features(values: Tensor) -> Scores:
    rows = values.flatten(1)
    return Scores(rows.sum(1), torch.cat([rows, rows.square()], 1))


def test_sliced_on_features_compares_what_the_critic_gives() -> None:
    real, fake = samples(6, 2), samples(6, 2, seed=1)
    on_features = Sliced(on="features", n_features=4, n_directions=20)
    draw = drawn(on_features, real)
    assert draw["directions"].shape == (20, 4)
    loss, _ = on_features.generator_loss(features, real, [fake], draw, {}, 1)
    x, y = (features(batch).features for batch in (real, fake))
    assert x is not None
    assert y is not None
    on_data, _ = Sliced(n_directions=20).generator_loss(untouchable, x, [y], draw, {}, 1)
    assert loss.value.item() == on_data.value.item()


def test_sliced_on_features_trains_a_classifier() -> None:
    real, fake = samples(6, 2), samples(6, 2, seed=1)
    objective = Sliced(on="features", n_features=4)
    assert objective.uses_critic
    loss, _ = objective.critic_loss(features, real, [fake], Draw(), {}, 1)
    s_real, s_fake = (torch.sigmoid(batch.sum(1)) for batch in (real, fake))
    expected = -s_real.log().mean() - (1 - s_fake).log().mean()
    assert loss.value.item() == pytest.approx(expected.item(), abs=1e-12)


def test_sliced_says_which_number_of_features_it_wants() -> None:
    objective = Sliced(on="features", n_features=3, n_directions=5)
    real = samples(6, 2)
    with pytest.raises(UserError, match="`n_features` is 3, and the critic gives 4 features"):
        objective.generator_loss(features, real, [real], drawn(objective, real), {}, 1)


@pytest.mark.parametrize("blur", [0.1, 3.0])
def test_sinkhorn_of_a_translation_is_half_its_square_for_any_blur(blur: float) -> None:
    real = samples(8, 2)
    fake = (real + torch.tensor([0.6, -0.8])).requires_grad_()
    loss, _ = generator_loss(Sinkhorn(blur=blur, iterations=500), real, fake)
    assert loss.item() == pytest.approx(0.5, abs=1e-6)
    (gradient,) = torch.autograd.grad(loss, fake)
    expected = np.tile(np.array([0.6, -0.8]) / 8, (8, 1))
    assert gradient.numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_sinkhorn_agrees_with_pot(p: P) -> None:
    real, fake = samples(7, 2), samples(7, 2, seed=1, shift=0.5)
    blur = 0.7

    def entropic(x: Tensor, y: Tensor) -> float:
        cost = cdist(x.numpy(), y.numpy()) ** p / p
        uniform = np.full(7, 1 / 7)
        plan = ot.sinkhorn(uniform, uniform, cost, blur**p, stopThr=1e-13, numItermax=20_000)
        divergence = (plan * np.log(plan * 49)).sum()
        return float((plan * cost).sum() + blur**p * divergence)

    expected = entropic(real, fake) - (entropic(real, real) + entropic(fake, fake)) / 2
    loss, _ = generator_loss(Sinkhorn(blur=blur, p=p, iterations=2_000), real, fake)
    assert loss.item() == pytest.approx(expected, abs=1e-8)


def test_sinkhorn_with_a_small_blur_is_half_the_squared_w2() -> None:
    real, fake = samples(6, 2), samples(6, 2, seed=1, shift=2.0)
    loss, _ = generator_loss(Sinkhorn(blur=0.01, iterations=2_000), real, fake)
    cost = cdist(real.numpy(), fake.numpy(), "sqeuclidean") / 2
    expected = cost[optimize.linear_sum_assignment(cost)].mean()
    assert loss.item() == pytest.approx(expected, abs=1e-3)


def test_reach_lets_an_outlier_go() -> None:
    real = samples(6, 2)
    fake = samples(6, 2, seed=1).index_fill(0, torch.tensor([0]), 50.0).requires_grad_()

    def pull(reach: float | None) -> float:
        loss, _ = generator_loss(Sinkhorn(blur=0.5, reach=reach, iterations=200), real, fake)
        (gradient,) = torch.autograd.grad(loss, fake)
        return float(gradient[0].norm())

    assert pull(None) == pytest.approx(50 * math.sqrt(2) / 6, rel=0.1)
    assert pull(1e4) == pytest.approx(pull(None), rel=1e-3)
    assert pull(2.0) < 1e-6


def test_sinkhorn_features_are_trained_against_the_generator() -> None:
    real, fake = samples(6, 2), samples(6, 2, seed=1)
    objective = Sinkhorn(blur=0.5, on="features")
    assert objective.uses_critic
    critic, _ = objective.critic_loss(features, real, [fake], Draw(), {}, 1)
    generator, _ = objective.generator_loss(features, real, [fake], Draw(), {}, 1)
    assert critic.value.item() == -generator.value.item()


@pytest.mark.parametrize("cost", ["l1", "sqeuclidean"])
def test_potentials_certify_the_plan(cost: Literal["l1", "sqeuclidean"]) -> None:
    real, fake = samples(9, 2, 3), samples(9, 2, 3, seed=1, shift=0.5)
    targets = transport_targets(real, fake, cost)
    metric = "cityblock" if cost == "l1" else "sqeuclidean"
    costs = torch.from_numpy(cdist(real.flatten(1).numpy(), fake.flatten(1).numpy(), metric))
    rows, columns = optimize.linear_sum_assignment(costs.numpy())
    best = costs[rows, columns].mean().item()
    slack = costs - (targets.phi[:, None] - targets.psi)
    assert slack.min().item() >= -1e-12
    assert (targets.phi.mean() - targets.psi.mean()).item() == pytest.approx(best, abs=1e-12)
    assert targets.cost.item() == pytest.approx(best, abs=1e-12)
    assert (targets.phi.mean() + targets.psi.mean()).item() == pytest.approx(0, abs=1e-12)
    assert torch.equal(targets.partner[columns], real[rows])


REAL = torch.tensor([[0.0, 0.0], [10.0, 1.0]], dtype=torch.float64)
FAKE = torch.tensor([[10.0, 3.0], [1.0, -1.0]], dtype=torch.float64)  # matched crosswise


def linear(weight: Tensor) -> Critic:
    return lambda values: Scores(values @ weight)


def test_two_step_on_a_linear_critic_is_the_closed_form() -> None:
    weight = torch.tensor([0.2, -0.3], dtype=torch.float64, requires_grad=True)
    loss, _ = TwoStep().critic_loss(linear(weight), REAL, [FAKE], Draw(), {}, 1)
    (gradient,) = torch.autograd.grad(loss.value, weight)

    targets = transport_targets(REAL, FAKE, "l1")
    points = torch.cat([REAL, FAKE]).numpy()
    wanted = torch.cat([targets.phi, targets.psi]).numpy()
    w = weight.detach().numpy()
    errors = points @ w - wanted
    signs = np.array([[0.0, -1.0], [-1.0, 1.0]])
    expected = (errors**2).mean() + 10 * ((w - signs) ** 2).sum(1).mean()
    slope = 2 * (errors[:, None] * points).mean(0) + 20 * (w - signs).mean(0)
    assert loss.value.item() == pytest.approx(expected, abs=1e-12)
    assert gradient.numpy() == pytest.approx(slope, abs=1e-12)
    assert loss.terms["transport_cost"].item() == pytest.approx((2 + 2) / 2)
    estimate = (REAL.mean(0) - FAKE.mean(0)).numpy() @ w
    assert loss.terms["wasserstein_estimate"].item() == pytest.approx(estimate, abs=1e-12)


@pytest.mark.parametrize("curvature", [None, 3.0])
def test_quadratic_on_a_linear_critic_is_the_closed_form(curvature: float | None) -> None:
    k = curvature or 0.5
    weight = torch.tensor([0.2, -0.3], dtype=torch.float64, requires_grad=True)
    objective = QuadraticCost(curvature, slope_weight=0.4)
    loss, _ = objective.critic_loss(linear(weight), REAL, [FAKE], Draw(), {}, 1)
    (gradient,) = torch.autograd.grad(loss.value, weight)

    targets = transport_targets(REAL, FAKE, "sqeuclidean")
    w = weight.detach().numpy()
    steep = np.linalg.norm(w)
    mean_real = REAL.numpy().mean(0)
    error_real = mean_real @ w - k / 2 * targets.phi.mean().item()
    errors = FAKE.numpy() @ w - k / 2 * targets.psi.numpy()
    misfit = steep - k * np.array([2.0, math.sqrt(2)])
    factor = 0.4 / (2 * math.sqrt(k))
    expected = error_real**2 / 2 + (errors**2).mean() / 2 + factor * (misfit**2).mean()
    slope = (
        error_real * mean_real
        + (errors[:, None] * FAKE.numpy()).mean(0)
        + factor * 2 * misfit.mean() * w / steep
    )
    assert loss.value.item() == pytest.approx(expected, abs=1e-9)
    assert gradient.numpy() == pytest.approx(slope, abs=1e-9)
    assert loss.terms["transport_cost"].item() == pytest.approx(k / 2 * (4 + 2) / 2)


def test_a_critic_that_is_the_potential_has_no_loss_left() -> None:
    real, fake = samples(1, 3), samples(1, 3, seed=1)
    weight = (real - fake)[0].sign()
    offset = (real + fake)[0] @ weight / 2
    loss, _ = TwoStep().critic_loss(
        lambda v: Scores(v @ weight - offset), real, [fake], Draw(), {}, 1
    )
    assert loss.value.item() == pytest.approx(0, abs=1e-12)
    distance = (real - fake).abs().sum().item()
    assert loss.terms["transport_cost"].item() == pytest.approx(distance)
    assert loss.terms["wasserstein_estimate"].item() == pytest.approx(distance)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sliced(p=3), "sliced: `p` must be 1 or 2, got 3"),  # type: ignore[arg-type]
        (lambda: Sliced(on="images"), "'data' or 'features'"),  # type: ignore[arg-type]
        (lambda: Sliced(n_directions=0), "`n_directions` must be >= 1"),
        (lambda: Sliced(on="features"), "`n_features` must be the length"),
        (lambda: MaxSliced(n_features=3), "max-sliced: `n_features` needs `on='features'`"),
        (lambda: MaxSliced(iterations=-1), "`iterations` must be >= 0"),
        (lambda: Sinkhorn(blur=0), "`blur` must be > 0"),
        (lambda: Sinkhorn(p=0), "`p` must be 1 or 2"),  # type: ignore[arg-type]
        (lambda: Sinkhorn(reach=0), "`reach` must be > 0"),
        (lambda: Sinkhorn(iterations=1), "`iterations` must be >= 2"),
        (lambda: Sinkhorn(on="pixels"), "'data' or 'features'"),  # type: ignore[arg-type]
        (lambda: TwoStep(slope_weight=-1), "two-step: `slope_weight` must be >= 0"),
        (lambda: QuadraticCost(slope_weight=-1), "quadratic-cost: `slope_weight`"),
        (lambda: QuadraticCost(curvature=0), "`curvature` must be > 0"),
    ],
)
def test_fields_out_of_range_are_refused(make: Callable[[], Objective], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
