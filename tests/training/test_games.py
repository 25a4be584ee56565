"""The loop on a game whose every step is a known linear map: generator g, critic c, value g c.

The data are zeros, the generator gives g whatever the latent is, the critic is x -> c x. With
Wasserstein losses the critic descends g c and the generator -g c, with gradients g and -c.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from wgan.data.base import Source
from wgan.data.synthetic import Gaussians8
from wgan.objectives import Wasserstein
from wgan.training import Method, OptimizerSpec, TrainState, train
from wgan.types import Batch

RATE = 0.3
SGD = OptimizerSpec("sgd", RATE)
METHOD = Method(
    Wasserstein(), SGD, SGD, (), 4, 4, latent=1, n_critic=1, average=0.0, clip_norm=None
)
START = torch.tensor([1.0, 0.5], dtype=torch.float64)


class Zeros(Gaussians8):
    def batch(self, indices: Tensor) -> Batch:
        return Batch(torch.zeros(len(indices), 1))


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(START[:1].clone())

    def forward(self, latent: Tensor) -> Tensor:
        return self.place.expand(len(latent), 1)


def game(method: Method) -> tuple[TrainState, Source]:
    critic = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(critic.weight, float(START[1]))
    source = Zeros(0)
    return TrainState.create(method, Point(), critic, source), source


def play(method: Method, steps: int) -> Tensor:
    """(g, c) after so many steps."""
    state, source = game(method)
    list(train(state, source, until=steps))
    assert state.critic is not None
    players = (state.generator, state.critic)
    return torch.cat([p.parameters[0].detach().flatten() for p in players])


CRITIC = torch.tensor([[1.0, 0.0], [-RATE, 1.0]], dtype=torch.float64)  # c <- c - r g
GENERATOR = torch.tensor([[1.0, RATE], [0.0, 1.0]], dtype=torch.float64)  # g <- g + r c
ALTERNATING = GENERATOR @ CRITIC


def test_alternating_steps_go_round_for_ever() -> None:
    expected = torch.linalg.matrix_power(ALTERNATING, 20) @ START
    torch.testing.assert_close(play(METHOD, 20), expected)
    assert torch.linalg.eigvals(ALTERNATING).abs().tolist() == pytest.approx([1, 1])


def test_extragradient_shrinks_by_its_closed_form() -> None:
    """w <- (1 - r^2) w + r J w with J a quarter turn: |w|^2 falls by 1 - r^2 + r^4 a step."""
    method = replace(METHOD, extrapolate=True)
    factor = 1 - RATE**2 + RATE**4
    for steps in (1, 10):
        radius = play(method, steps).square().sum()
        assert float(radius) == pytest.approx(float(START.square().sum()) * factor**steps)
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(play(method, 1), ((1 - RATE**2) * START) + RATE * turn @ START)


def test_extragradient_follows_the_other_critic_updates() -> None:
    """With n_critic = 3, two ordinary updates come before the joint one."""
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    joint = (1 - RATE**2) * torch.eye(2, dtype=torch.float64) + RATE * turn
    method = replace(METHOD, extrapolate=True, n_critic=3)
    torch.testing.assert_close(play(method, 1), joint @ CRITIC @ CRITIC @ START)
    state, source = game(method)
    (record,) = train(state, source, until=1)
    assert record["critic_updates"] == 3
    assert state.drawn == 2 * 4 + 2 * (4 + 4)  # every gradient has fresh batches


def test_lookahead_averages_the_map_of_k_steps() -> None:
    """Every k steps w = ((1 - a) I + a M^k) w, M the map of one step; of both players."""
    method = replace(METHOD, lookahead_every=5, lookahead_share=0.4)
    fast = torch.linalg.matrix_power(ALTERNATING, 5)
    slow = 0.6 * torch.eye(2, dtype=torch.float64) + 0.4 * fast
    torch.testing.assert_close(play(method, 4), torch.linalg.matrix_power(ALTERNATING, 4) @ START)
    torch.testing.assert_close(play(method, 5), slow @ START)
    torch.testing.assert_close(
        play(method, 17), ALTERNATING @ ALTERNATING @ slow @ slow @ slow @ START
    )
    assert float(torch.linalg.eigvals(slow).abs().max()) < 0.95


def test_clipping_counts_every_parameter_once() -> None:
    """Two parameters added up share one gradient tensor, expanded at that: (1, 1) / sqrt(2)."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Parameter(torch.zeros(1)) for _ in range(2))

        def forward(self, latent: Tensor) -> Tensor:
            return (self.a + self.b).expand(len(latent), 1)

    method = replace(
        METHOD, clip_norm=0.1, generator_optimizer=OptimizerSpec("sgd", 1.0), constraints=()
    )
    critic = nn.Linear(1, 1, bias=False)
    nn.init.constant_(critic.weight, 5.0)
    state = TrainState.create(method, twice := Twice(), critic, source := Zeros(0))
    (record,) = train(state, source, until=1)
    assert record["generator_gradient_norm"] == pytest.approx(5 * 2**0.5, rel=1e-4)
    assert [float(twice.a.detach()), float(twice.b.detach())] == pytest.approx(
        [0.1 / 2**0.5] * 2, rel=1e-4
    )
