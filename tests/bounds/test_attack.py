"""What the attack finds is a slope of the critic, and never steeper than its certificate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from wgan.bounds import certify, empirical_slope
from wgan.errors import UserError
from wgan.layers import GroupSort


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Formula(nn.Module):
    """Any formula of a dense layer of four inputs and the sample."""

    def __init__(self, formula: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.line = nn.Linear(4, 1)
        self.formula = formula

    def forward(self, values: Tensor) -> Any:
        return self.formula(self.line, values)


def test_the_attack_finds_the_slope_of_a_linear_critic() -> None:
    critic = nn.Linear(6, 1)
    x, y = torch.randn(2, 8, 6)
    before = torch.get_rng_state()
    slope = empirical_slope(critic, x, y, steps=0)
    assert slope == pytest.approx(float(critic.weight.detach().double().norm()), rel=1e-9)
    assert slope <= certify(critic, (6,)).constant * (1 + 1e-9)
    assert torch.equal(before, torch.get_rng_state())


def test_ascent_finds_what_the_pairs_do_not() -> None:
    """``tanh(10 (x - 3))`` is flat on the pairs and 10 steep at 3."""
    critic = nn.Sequential(nn.Linear(1, 1), nn.Tanh())
    with torch.no_grad():
        critic.get_parameter("0.weight").fill_(10)
        critic.get_parameter("0.bias").fill_(-30)
    x, y = torch.zeros(4, 1), torch.ones(4, 1)
    flat = empirical_slope(critic, x, y, steps=0)
    found = empirical_slope(critic, x, y, steps=200)
    assert flat < 1e-6
    assert 9 < found <= certify(critic, (1,)).constant
    assert found == empirical_slope(critic, x, y, steps=200)


def test_a_kink_does_not_fool_the_attack() -> None:
    """``2 x + relu(-x) - relu(x)`` is x, whose derivative at 0 autograd gives as 2."""
    critic = Formula(lambda _, x: 2 * x + F.relu(-x) - F.relu(x))
    zero = torch.zeros(1, 1)
    assert empirical_slope(critic, zero, zero, steps=0) == pytest.approx(1, rel=1e-9)


def test_the_attack_in_float64_and_without_a_gradient() -> None:
    def converts(line: nn.Module, x: Tensor) -> Any:
        return line(x.float().to(torch.float32) * torch.ones(4))

    critic = Formula(converts)
    x, y = torch.randn(2, 8, 4)
    slope = empirical_slope(critic, x, y)
    assert slope == pytest.approx(certify(critic, (4,)).constant, rel=1e-9)
    assert empirical_slope(Formula(lambda _, x: torch.ones(len(x))), x, y) == 0


def test_mistakes_of_the_attack() -> None:
    critic, x = nn.Linear(4, 1), torch.randn(3, 4)
    with pytest.raises(UserError, match="`steps` must be >= 0, got -1"):
        empirical_slope(critic, x, x, steps=-1)
    with pytest.raises(UserError, match=r"must be pairs.*\(3, 4\) and \(2, 4\)"):
        empirical_slope(critic, x, x[:2])
    with pytest.raises(UserError, match="must be finite"):
        empirical_slope(critic, x, x * math.inf)
    with pytest.raises(UserError, match="one row per pair, 3, got 2"):
        empirical_slope(critic, x, x, condition=torch.ones(2, 1))
    with pytest.raises(UserError, match="scores on these samples are not finite"):
        empirical_slope(Formula(lambda line, x: line(x) / 0), x, x + 1)


class Branched(nn.Module):
    def __init__(self, inner: nn.Module, joint: str) -> None:
        super().__init__()
        self.inner, self.joint = inner, joint

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.inner(values)
        if self.joint == "add":
            return values + out
        if self.joint == "cat":
            return torch.cat([values, out], 1)[:, ::2]
        return torch.maximum(values, out) if self.joint == "max" else values - 0.5 * out


def layer(kind: str) -> nn.Module:
    """A random layer from 4 channels of width 6 to the same."""
    dense = nn.Sequential(nn.Flatten(), nn.Linear(24, 24), nn.Unflatten(1, (4, 6)))
    norm = nn.BatchNorm1d(4)
    nn.init.uniform_(norm.weight, -2, 2)
    nn.init.uniform_(norm.running_var, 0.1, 2)  # type: ignore[arg-type]
    kinds: dict[str, nn.Module] = {
        "dense": dense,
        "conv": nn.Conv1d(4, 4, 3, padding=1),
        "down and up": nn.Sequential(
            nn.Conv1d(4, 8, 2, 2), nn.LeakyReLU(0.2), nn.ConvTranspose1d(8, 4, 2, 2)
        ),
        "norm": norm,
        "pool": nn.Sequential(nn.MaxPool1d(2, 1, 1), nn.AvgPool1d(2, 1)),
        "upsample": nn.Sequential(nn.Upsample(scale_factor=2), nn.AvgPool1d(3, 2, 1)),
        "relu": nn.ReLU(),
        "silu": nn.SiLU(),
        "gelu": nn.GELU(),
        "sort": GroupSort(2),
        "spectral": parametrizations.spectral_norm(nn.Conv1d(4, 4, 3, padding=1)),
    }
    return kinds[kind]


KINDS = ["dense", "conv", "down and up", "norm", "pool", "upsample", "relu", "silu", "gelu"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*KINDS, "sort", "spectral"]),
            st.sampled_from(["", "", "add", "cat", "max", "subtract"]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 99),
)
def test_no_attack_exceeds_the_certificate(steps: list[tuple[str, str]], seed: int) -> None:
    torch.manual_seed(seed)
    body = [Branched(layer(kind), joint) if joint else layer(kind) for kind, joint in steps]
    critic = nn.Sequential(*body, nn.Flatten(), nn.Linear(24, 1))
    constant = certify(critic, (4, 6)).constant
    x, y = torch.randn(2, 16, 4, 6)
    assert empirical_slope(critic, x, y, steps=10, seed=seed) <= constant * (1 + 1e-9)
