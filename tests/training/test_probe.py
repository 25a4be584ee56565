"""When the critic is trained on, and when it is let be."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wgan.data.base import Source
from wgan.data.synthetic import Gaussians8
from wgan.errors import UserError
from wgan.objectives import Sliced, Wasserstein
from wgan.training import Method, OptimizerSpec, TrainState, train
from wgan.training.probe import Probe
from wgan.types import Batch, Loss, State

SGD = OptimizerSpec("sgd", 0.1)
METHOD = Method(Wasserstein(), SGD, SGD, (), 4, 4, latent=1, n_critic=2, n_critic_max=7, average=0)


class Signs(Gaussians8):
    """Batches of one value each: 1 and `other` by turns."""

    other = 1.0

    def batch(self, indices: Tensor) -> Batch:
        odd = (indices // 4) % 2 == 1
        return Batch(torch.where(odd, self.other, 1.0).unsqueeze(1))


class Nowhere(nn.Module):
    """A generator of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, latent: Tensor) -> Tensor:
        return self.gain * latent


class Counting(Wasserstein):
    """Remembers how many losses there were."""

    def init(self) -> State:
        return {"losses": torch.zeros(())}

    def critic_loss(self, *given: Any) -> tuple[Loss, State]:
        loss, _ = super().critic_loss(*given)
        return loss, {"losses": given[4]["losses"] + 1}


def start(source: Source, **changes: Any) -> tuple[TrainState, nn.Linear]:
    critic = nn.Linear(1, 1, bias=False)
    nn.init.constant_(critic.weight, 0.5)
    return TrainState.create(replace(METHOD, **changes), Nowhere(), critic, source), critic


def test_it_compares_with_the_last_look_and_leaves_no_trace() -> None:
    """The loss is -weight: it falls while the weight grows."""
    state, critic = start(source := Signs(0), objective=Counting())
    same = torch.Generator().manual_seed(METHOD.seed)
    torch.randint(2**62, (2,), generator=same)  # two seeds are all that a probe draws
    probe = Probe(state, lambda n: state.next_batch(source, n))
    found = []
    for weight in (1.0, 2.0, 2.0, 1.5):
        nn.init.constant_(critic.weight, weight)
        found.append(probe.gained())
    assert found == [True, True, False, False]
    assert torch.equal(state.rng.get_state(), same.get_state())
    assert int(state.objective["losses"]) == 0
    assert state.drawn == 8


@pytest.mark.parametrize(("other", "gains"), [(0.1, True), (-0.1, False)])
def test_a_gain_counts_where_both_batches_have_it(other: float, gains: bool) -> None:
    """Losses fall by w and `other` w: the mean is .55 or .45 w, half the difference .45 or .55."""
    source = Signs(0)
    source.other = other
    state, critic = start(source)
    probe = Probe(state, lambda n: state.next_batch(source, n))
    nn.init.constant_(critic.weight, 1.0)
    assert probe.gained() is gains


def updates(steps: int = 3, **changes: Any) -> list[Any]:
    state, _ = start(source := Signs(0), **changes)
    return [record["critic_updates"] for record in train(state, source, until=steps)]


def test_the_critic_is_trained_on_while_it_gains() -> None:
    """A free linear critic gains for ever; one that cannot move never does."""
    frozen = OptimizerSpec("sgd", 1e-30)
    assert updates() == [7, 7, 7]
    assert updates(critic_optimizer=frozen) == [2, 2, 2]
    assert updates(critic_passes=3) == [21, 21, 21]
    assert updates(n_critic_max=None) == [2, 2, 2]
    assert updates(warmup=True) == [100, 100, 100]


def test_it_stops_where_the_critic_has_arrived() -> None:
    """The penalty w^2 / 2 in all but name: decay takes half the way to its optimum a step."""

    class Decaying(nn.Linear):
        def forward(self, values: Tensor) -> Tensor:
            return super().forward(values) - self.weight.square() / 2 * values.square()

    critic = Decaying(1, 1, bias=False)
    nn.init.zeros_(
        critic.weight
    )  # the loss is w^2 / 2 - w, its optimum 1: 1/2, 3/4, ... at rate .5
    fast = OptimizerSpec("sgd", 0.5)
    method = replace(METHOD, critic_optimizer=fast, n_critic=1, n_critic_max=100)
    state = TrainState.create(method, Nowhere(), critic, source := Signs(0))
    first, second = (record["critic_updates"] for record in train(state, source, until=2))
    assert isinstance(first, int)
    assert 10 <= first <= 30  # until half of what is left is below a float's grain
    assert second == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_critic_max": 1}, "`n_critic_max` must be at least `n_critic`, 2, got 1"),
        ({"extrapolate": True}, "give one of them"),
        ({"extrapolate": True, "n_critic_max": None, "critic_passes": 2}, "`critic_passes` must"),
        ({"objective": Sliced(), "n_critic": 0}, "has no critic"),
        ({"lookahead_every": 0}, "`lookahead_every` must be >= 1, got 0"),
        ({"lookahead_share": 0.0}, r"`lookahead_share` must be in \(0, 1\], got 0.0"),
    ],
)
def test_ranges(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(METHOD, **change)


def test_what_the_objective_remembers_moves_once_a_step() -> None:
    """Looks ahead and looks of a probe are not counted: one for every update of the critic."""
    for changes, losses in (({"extrapolate": True, "n_critic_max": None}, 2), ({}, 7)):
        state, _ = start(source := Signs(0), objective=Counting(), **changes)
        list(train(state, source, until=1))
        assert int(state.objective["losses"]) == losses
