"""Gradient penalty, DRAGAN, R1 and R2: closed forms, and what they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wgan.constraints import R1, R2, Dragan, GradientPenalty, input_gradient
from wgan.constraints.slopes import Method, Norm, SlopePenalty, dual_norm, steepest
from wgan.errors import UserError
from wgan.layers import Dropout, spectral_normalise
from wgan.types import Critic, Draw, Loss, Scores

SHAPES = [(1, 3), (7, 1), (4, 2, 5), (2, 3, 4, 4), (3, 1, 2, 2, 2)]
METHODS = get_args(Method)
EVERY: list[Callable[..., SlopePenalty]] = [GradientPenalty, Dragan, R1, R2]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def linear(slope: float, shape: tuple[int, ...], norm: Norm = 2) -> Critic:
    """A linear critic with this slope in the data's norm."""
    direction = torch.randn(shape, dtype=torch.float64)
    direction = direction / dual_norm(direction.unsqueeze(0), norm) * slope
    return lambda values: Scores((values * direction).flatten(1).sum(1) + 3)


def wrap(network: nn.Module) -> Critic:
    return lambda values: Scores(network(values).reshape(len(values)))


def penalise(
    constraint: SlopePenalty,
    critic: Critic,
    shape: tuple[int, ...],
    real: Tensor | None = None,
    fake: Tensor | None = None,
) -> Loss:
    real = torch.randn(shape, dtype=torch.float64) if real is None else real
    fake = torch.randn(shape, dtype=torch.float64) if fake is None else fake
    draw = constraint.draw(torch.Generator().manual_seed(0), shape).to(real)
    loss = constraint.penalty(critic, real, fake, draw, 1)
    assert loss is not None
    return loss


def gradients(loss: Loss, network: nn.Module) -> dict[str, Tensor]:
    """Of the parameters that the loss depends on, by name."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss.value, parameters, allow_unused=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", [1, 2, "inf"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [GradientPenalty, Dragan])
def test_slope_s_costs_s_minus_1_squared(
    kind: Any, method: Any, norm: Norm, shape: tuple[int, ...]
) -> None:
    constraint = kind(weight=10, norm=norm, method=method)
    unit = penalise(constraint, linear(1.0, shape[1:], norm), shape)
    assert unit.value.item() == pytest.approx(0, abs=1e-18)
    for slope in (0.25, 3.0):
        loss = penalise(constraint, linear(slope, shape[1:], norm), shape)
        assert loss.value.item() == pytest.approx(10 * (slope - 1) ** 2)
        assert float(loss.terms[constraint.slope_term]) == pytest.approx(slope)


def test_one_sided_lets_small_slopes_go() -> None:
    constraint = GradientPenalty(weight=2, one_sided=True)
    assert penalise(constraint, linear(0.5, (3,)), (4, 3)).value.item() == 0
    assert penalise(constraint, linear(3.0, (3,)), (4, 3)).value.item() == pytest.approx(8)


def test_target() -> None:
    loss = penalise(GradientPenalty(weight=1, target=5), linear(2.0, (3,)), (4, 3))
    assert loss.value.item() == pytest.approx(9)


def test_dual_norms_by_hand() -> None:
    gradient = torch.tensor([[[3.0], [-4.0]], [[0.0], [0.0]]])
    assert dual_norm(gradient, 1).tolist() == [4, 0]
    assert dual_norm(gradient, "inf").tolist() == [7, 0]
    torch.testing.assert_close(dual_norm(gradient, 2), torch.tensor([5.0, 1e-6]))


@pytest.mark.parametrize("norm", [1, 2, "inf"])
def test_the_steepest_step_has_unit_length_and_attains_the_dual_norm(norm: Norm) -> None:
    gradient = torch.randn(6, 2, 3, dtype=torch.float64)
    step = steepest(gradient, norm)
    length = step.flatten(1).norm(p=math.inf if norm == "inf" else norm, dim=1)
    torch.testing.assert_close(length, torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close((step * gradient).flatten(1).sum(1), dual_norm(gradient, norm))
    assert torch.equal(steepest(torch.zeros(1, 3), norm), torch.zeros(1, 3))


def test_interpolates_lie_where_the_draw_says() -> None:
    seen = []

    def critic(values: Tensor) -> Scores:
        seen.append(values.detach())
        return Scores(values.flatten(1).sum(1))

    real, fake = torch.randn(3, 2, 2), torch.randn(3, 2, 2)
    draw = Draw(rows={"mix": torch.tensor([1.0, 0.0, 0.25])})
    GradientPenalty().penalty(critic, real, fake, draw, 1)
    expected = torch.stack([real[0], fake[1], 0.25 * real[2] + 0.75 * fake[2]])
    torch.testing.assert_close(seen[0], expected)


def test_dragan_by_hand() -> None:
    # D = sum of cubes: |grad| = 3 |h^2|; std of (0, 2) is 1, so h = x + e / 2 u.
    real = torch.tensor([[0.0], [2.0]])
    draw = Draw(rows={"mix": torch.tensor([1.0, 0.5]), "noise": torch.tensor([[0.5], [1.0]])})

    def critic(values: Tensor) -> Scores:
        return Scores((values**3).flatten(1).sum(1))

    loss = Dragan(weight=1).penalty(critic, real, torch.zeros(2, 1), draw, 1)
    assert loss is not None
    expected = ((3 * 0.25**2 - 1) ** 2 + (3 * 2.25**2 - 1) ** 2) / 2
    assert float(loss.terms["dragan_penalty"]) == pytest.approx(expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "at"), [(R1, "real"), (R2, "fake")])
@pytest.mark.parametrize("method", METHODS)
def test_r1_and_r2_of_a_quadratic(method: Any, kind: Any, at: str, shape: tuple[int, ...]) -> None:
    points = torch.randn(shape, dtype=torch.float64)
    real, fake = (points, None) if at == "real" else (None, points)
    constraint = kind(gamma=6, method=method)
    loss = penalise(
        constraint, lambda v: Scores(2 * v.square().flatten(1).sum(1)), shape, real, fake
    )
    # grad D = 4 x, so gamma / 2 |grad D|^2 = 48 |x|^2.
    assert loss.value.item() == pytest.approx(48 * float(points.flatten(1).square().sum(1).mean()))


@pytest.mark.parametrize("kind", EVERY)
def test_interval(kind: Any) -> None:
    lazy = kind(interval=4)
    critic, batch = linear(3.0, (2,)), torch.zeros(5, 2, dtype=torch.float64)
    draw = lazy.draw(torch.Generator(), (5, 2)).to(batch)
    total = 0.0
    due = []
    for step in range(1, 17):
        loss = lazy.penalty(critic, batch, batch, draw, step)
        if loss is not None:
            due.append(step)
            total += loss.value.item()
    every_step = kind().penalty(critic, batch, batch, draw, 1)
    assert due == [1, 5, 9, 13]
    assert total == pytest.approx(16 * every_step.value.item())


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", [1, 2, "inf"])
def test_moves_the_weights_and_is_finite_at_a_zero_gradient(
    norm: Norm, method: Any, kind: Any
) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    constraint = kind(norm=norm, method=method)
    moved = gradients(penalise(constraint, wrap(network), (6, 3)), network)
    assert float(moved["0.weight"].abs().sum()) > 0
    for p in network.parameters():
        nn.init.zeros_(p)
    loss = penalise(constraint, wrap(network), (6, 3))
    assert math.isfinite(loss.value.item())
    assert all(bool(g.isfinite().all()) for g in gradients(loss, network).values())


@pytest.mark.parametrize("norm", [1, 2, "inf"])
def test_finite_differences_give_the_exact_penalty_and_its_gradient(norm: Norm) -> None:
    network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    real, fake = (torch.randn(8, 3, dtype=torch.float64) for _ in range(2))
    exact, approximate = (
        penalise(GradientPenalty(norm=norm, method=method), wrap(network), (8, 3), real, fake)
        for method in get_args(Method)
    )
    torch.testing.assert_close(approximate.value, exact.value, rtol=1e-4, atol=0)
    expected, actual = gradients(exact, network), gradients(approximate, network)
    for name in ("0.weight", "0.bias", "2.weight"):
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=1e-4)


def test_finite_differences_with_a_critic_that_changes_from_pass_to_pass() -> None:
    network = spectral_normalise(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)))
    constraint = GradientPenalty(method="finite-difference")
    real, fake = torch.randn(9, 3), torch.randn(9, 3)
    slope = penalise(constraint, wrap(network), (9, 3), real, fake).terms["slope"]
    assert 0 < float(slope) <= 1.01


@pytest.mark.parametrize("method", METHODS)
def test_the_penalty_takes_no_power_iteration(method: Any) -> None:
    network = spectral_normalise(nn.Linear(3, 1))
    before = {name: value.clone() for name, value in network.named_buffers()}
    assert before
    with torch.no_grad():
        network.get_parameter("parametrizations.weight.original").add_(1)
    real, fake = torch.randn(9, 3), torch.randn(9, 3)
    penalise(GradientPenalty(method=method), wrap(network), (9, 3), real, fake)
    assert all(torch.equal(before[name], value) for name, value in network.named_buffers())
    network(real)
    assert not torch.equal(
        network.get_buffer("parametrizations.weight.0.v"), before["parametrizations.weight.0.v"]
    )


def test_gradient_of_the_penalty_is_right() -> None:
    real, fake = (torch.randn(4, 2, dtype=torch.float64) for _ in range(2))
    draw = Draw(rows={"mix": torch.rand(4, dtype=torch.float64)})
    shapes = [(5, 2), (1, 5)]
    weights = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    for constraint in (GradientPenalty(), GradientPenalty(norm="inf"), R1()):

        def penalty(first: Tensor, second: Tensor, constraint: SlopePenalty = constraint) -> Tensor:
            def critic(values: Tensor) -> Scores:
                return Scores(((values @ first.mT).tanh() @ second.mT).squeeze(1))

            loss = constraint.penalty(critic, real, fake, draw, 2)
            assert loss is not None
            return loss.value

        assert torch.autograd.gradcheck(penalty, weights)


def test_input_gradient_leaves_the_callers_graph_and_can_be_differentiated_again() -> None:
    points = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    gradient = input_gradient(lambda v: Scores(scale * (v**2).sum(1)), points)
    torch.testing.assert_close(gradient, 4 * points.detach())
    (again,) = torch.autograd.grad(gradient.sum(), scale)
    torch.testing.assert_close(again, 2 * points.detach().sum())


def test_runs_in_float32_under_autocast_and_for_half_precision_points() -> None:
    network = nn.Linear(4, 1)
    points = torch.randn(3, 4)
    expected = network.weight.detach().expand(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(input_gradient(wrap(network), points), expected)
    assert input_gradient(wrap(network), points.bfloat16()).dtype == torch.float32
    assert input_gradient(wrap(network.double()), points.double()).dtype == torch.float64


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 12)

    def forward(self, values: Tensor) -> Tensor:
        query, key, value = self.project(values).unsqueeze(1).chunk(3, -1)
        return F.scaled_dot_product_attention(query, key, value).sum((1, 2, 3))


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 5, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        hidden: Tensor = self.rnn(values)[0]
        return hidden.sum((1, 2))


@pytest.mark.parametrize("kind", [Attention, Recurrence])
def test_fused_attention_and_recurrence(kind: type[nn.Module]) -> None:
    network = GradientPenalty().prepare(kind())
    real, fake = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    found = gradients(penalise(GradientPenalty(), wrap(network), (2, 3, 4), real, fake), network)
    assert all(bool(g.isfinite().all()) for g in found.values())
    assert sum(float(g.abs().sum()) for g in found.values()) > 0


def test_recurrence_runs_without_cudnn_and_gives_it_back() -> None:
    network = Recurrence()
    for kind in (GradientPenalty, R1):
        kind().prepare(network)
    seen = []
    network.rnn.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.enabled))
    assert torch.backends.cudnn.enabled
    network(torch.randn(1, 2, 4))
    assert seen == [False]
    assert torch.backends.cudnn.enabled
    with pytest.raises(RuntimeError):
        network(torch.randn(1, 2, 7))
    assert torch.backends.cudnn.enabled


class _OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        cube: Tensor = values**3
        return cube

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        product: Tensor = 3 * values**2 * gradient
        return product


@pytest.mark.parametrize("kind", EVERY)
def test_a_critic_without_a_second_derivative(kind: Any) -> None:
    last = nn.Linear(3, 1).double()

    def critic(values: Tensor) -> Scores:
        return Scores(last(_OnceOnly.apply(values)).squeeze(1))  # type: ignore[no-untyped-call]

    with pytest.raises(UserError, match="method=finite-difference"):
        penalise(kind(), critic, (4, 3))
    loss = penalise(kind(method="finite-difference"), critic, (4, 3))
    assert "weight" in gradients(loss, last)


@pytest.mark.parametrize("kind", EVERY)
def test_batch_norm_is_refused_by_name(kind: Any) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(UserError, match=f"`{kind.name}` .* layer `1` normalises over the batch"):
        kind().prepare(network)
    kind().prepare(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))


@pytest.mark.parametrize("layer", [nn.Dropout(), Dropout()])
def test_dropout_is_refused_with_finite_differences(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(2, 2), layer)
    GradientPenalty().prepare(network)
    with pytest.raises(UserError, match="dropout `1`"):
        GradientPenalty(method="finite-difference").prepare(network)


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (GradientPenalty, {"weight": -1.0}, "`weight` must be >= 0, got -1.0"),
        (GradientPenalty, {"weight": math.nan}, "`weight` must be >= 0, got nan"),
        (GradientPenalty, {"target": 0.0}, "`target` must be > 0, got 0.0"),
        (GradientPenalty, {"norm": 3}, "`norm` must be one of 1, 2, 'inf', got 3"),
        (GradientPenalty, {"method": "magic"}, "`method` must be one of 'exact'"),
        (R1, {"interval": 0}, "r1: `interval` must be >= 1, got 0"),
        (R2, {"gamma": math.inf}, "r2: `gamma` must be >= 0, got inf"),
        (Dragan, {"spread": -0.5}, "dragan: `spread` must be >= 0"),
    ],
)
def test_refused_fields(kind: Any, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        kind(**fields)


@pytest.mark.parametrize("constraint", [GradientPenalty(norm=1), R1(interval=2), Dragan()])
def test_compiled_whole_it_gives_the_same_gradients(constraint: SlopePenalty) -> None:
    network = spectral_normalise(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)))
    real, fake = torch.randn(4, 3), torch.randn(4, 3)
    draw = constraint.draw(torch.Generator().manual_seed(0), (4, 3))

    def penalty(real: Tensor, fake: Tensor) -> Tensor:
        loss = constraint.penalty(wrap(network), real, fake, draw, 1)
        assert loss is not None
        return loss.value

    compiled = torch.compile(penalty, backend="aot_eager", fullgraph=True)
    parameters = [p for name, p in network.named_parameters() if "bias" not in name]
    expected = torch.autograd.grad(penalty(real, fake), parameters)
    actual = torch.autograd.grad(compiled(real, fake), parameters)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)
