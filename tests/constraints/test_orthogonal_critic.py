from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from wgan.constraints import Orthogonal
from wgan.errors import UserError
from wgan.layers import Dropout, GroupSort, orthogonalise
from wgan.types import Scores


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Plain(nn.Module):
    """A critic in the usual style: a body, a head, scores with features."""

    def __init__(self, body: nn.Module, hidden: int) -> None:
        super().__init__()
        self.body = body
        self.score = nn.Linear(hidden, 1)

    def forward(self, values: Tensor, condition: Tensor | None = None) -> Scores:
        if condition is not None:
            values = torch.cat([values, condition], 1)
        features = F.relu(self.body(values)).view(values.shape[0], -1)
        return Scores(self.score(features).squeeze(1), features)


def mlp() -> nn.Module:
    layers = [nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 33), nn.Tanh(), nn.Linear(33, 32)]
    return Plain(nn.Sequential(nn.Flatten(), *layers, nn.LeakyReLU(0.2)), 32)


def dcgan() -> nn.Module:
    layers = [nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU()]
    return Plain(nn.Sequential(*layers, nn.Flatten()), 64)


def volumes() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1))


CRITICS: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (mlp, (2, 3)),
    (dcgan, (1, 8, 8)),
    (volumes, (1, 4, 4, 4)),
]


def score(critic: nn.Module, values: Tensor) -> Tensor:
    out: Scores | Tensor = critic(values)
    return out.score if isinstance(out, Scores) else out.squeeze(1)


def train(critic: nn.Module, shape: tuple[int, ...]) -> None:
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.02)
    for _ in range(20):
        real, fake = torch.randn(16, *shape) + 1, torch.randn(16, *shape)
        loss = score(critic, fake).mean() - score(critic, real).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


@pytest.mark.parametrize(("make", "shape"), CRITICS)
def test_no_slope_exceeds_one_after_training_either(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    critic = Orthogonal().prepare(make())
    train(critic, shape)
    double = deepcopy(critic).eval()
    a, b = torch.randn(256, *shape) + 1, torch.randn(256, *shape)
    with torch.no_grad():
        apart = (a - b).flatten(1).norm(dim=1)
        assert float(((score(double, a) - score(double, b)).abs() / apart).max()) <= 1 + 1e-5
    # The steepest points: the gradient's norm, pushed up by ascent on its square.
    points = torch.randn(64, *shape)
    for _ in range(10):
        points = points.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(score(double, points).sum(), points)
        points = points + 0.5 * gradient
    assert 0.5 < float(gradient.flatten(1).norm(dim=1).max()) <= 1 + 1e-5


def test_layers_and_activations_are_converted_and_biases_kept() -> None:
    critic = mlp()
    bias = critic.get_parameter("body.1.bias").clone()
    critic = Orthogonal(group=4).prepare(critic)
    parametrised = [n for n, m in critic.named_modules() if parametrize.is_parametrized(m)]
    assert parametrised == ["body.1", "body.3", "body.5", "score"]
    sorts = {n: m for n, m in critic.named_modules() if isinstance(m, GroupSort)}
    assert list(sorts) == ["body.2", "body.4", "body.6"]
    assert {(m.size, m.axis) for m in sorts.values()} == {(4, -1)}
    assert torch.equal(critic.get_parameter("body.1.bias"), bias)
    last = critic.get_submodule("score").weight
    assert isinstance(last, Tensor)
    assert float(last.detach().norm()) == pytest.approx(1, abs=1e-6)


def test_channels_of_a_convolution_are_on_axis_one() -> None:
    critic = Orthogonal().prepare(dcgan())
    axes = [m.axis for m in critic.modules() if isinstance(m, GroupSort)]
    assert axes == [1, 1]


def test_pooling_that_keeps_the_slope_is_left_alone() -> None:
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.AvgPool2d(3, 1, 1), nn.Flatten()]
    critic = Orthogonal().prepare(nn.Sequential(*layers, nn.Linear(64, 1)))
    a = torch.randn(64, 1, 8, 8)
    b = a + 0.01 * torch.randn_like(a)
    with torch.no_grad():
        slopes = (critic(a) - critic(b)).squeeze(1).abs() / (a - b).flatten(1).norm(dim=1)
    assert float(slopes.max()) <= 1 + 1e-5


def test_a_critic_of_one_layer() -> None:
    critic = Orthogonal().prepare(nn.Linear(5, 1))
    assert isinstance(critic.weight, Tensor)
    assert float(critic.weight.detach().norm()) == pytest.approx(1, abs=1e-6)


def test_equal_critics_become_equal_without_the_global_generator() -> None:
    one = dcgan()
    other = deepcopy(one)
    before = torch.random.get_rng_state()
    one, other = Orthogonal().prepare(one), Orthogonal().prepare(other)
    assert torch.equal(torch.random.get_rng_state(), before)
    values = torch.randn(2, 1, 8, 8)
    assert torch.equal(one(values).score, other(values).score)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = values + self.inner(values)
        return out


class Doubling(Residual):
    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = 2 * self.inner(values)
        return out


class Deciding(Residual):
    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.inner(values) if values.sum() > 0 else values
        return out


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.BatchNorm1d(4), r"layer `1` \(BatchNorm1d\)"),
        (nn.LayerNorm(4), r"layer `1` \(LayerNorm\)"),
        (nn.Dropout(), r"layer `1` \(Dropout\)"),
        (Dropout(), r"layer `1` \(Dropout\)"),
        (nn.Upsample(scale_factor=2), r"layer `1` \(Upsample\)"),
        (nn.MaxPool1d(3, 1), r"layer `1` \(MaxPool1d\)"),
        (nn.AvgPool1d(2, 2, ceil_mode=True), r"layer `1` \(AvgPool1d\)"),
        (Residual(), "joins 2 tensors by `add`"),
        (Doubling(), "calls `mul`"),
        (Deciding(), "cannot follow"),
        (orthogonalise(nn.Linear(4, 4)), "`1` has a parametrised weight already"),
        (nn.Conv1d(1, 2, 3, padding=1, padding_mode="reflect"), "'reflect'"),
    ],
)
def test_refusals_name_the_layer(layer: nn.Module, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        Orthogonal().prepare(nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 1)))


def test_a_group_has_at_least_two() -> None:
    with pytest.raises(UserError, match="orthogonal: `group` must be >= 2, got 1"):
        Orthogonal(1)
