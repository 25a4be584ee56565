"""Looks at the critic that leave the run as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from wgan.constraints.base import input_gradient
from wgan.constraints.slopes import dual_norm
from wgan.data.base import Source
from wgan.errors import NonFiniteError
from wgan.training import TrainState, bind_critic
from wgan.training.player import Player
from wgan.training.step import critic_update, critic_updates, generator_update
from wgan.types import Batch


def critic_estimate(state: TrainState, batch: Batch, fakes: Sequence[Tensor], seed: int) -> float:
    """What the critic says of samples that it does not train on, in its own scale.

    The objective's estimate of a distance; where it has none, its loss with the sign turned.

    Args:
        state: Its critic is asked, in evaluation mode; nothing of it changes.
        batch: Real samples.
        fakes: As many batches of fakes as the objective needs, each as long as `batch`.
        seed: Of the objective's own draws.
    """
    assert state.critic is not None
    module, objective = state.critic.module, state.method.objective
    rng = torch.Generator().manual_seed(seed)
    draw = objective.draw(rng, tuple(batch.values.shape)).to(state.like)
    with _evaluating(module):
        loss, _ = objective.critic_loss(
            bind_critic(module, batch.condition),
            batch.values,
            [fake.detach() for fake in fakes],
            draw,
            state.objective,
            state.step + 1,
        )
    if objective.estimate is not None:
        return float(loss.terms[objective.estimate])
    return -float(loss.value.detach())


def optimality_gap(
    state: TrainState,
    next_batch: Callable[[int], Batch],
    estimate: Callable[[], float],
    updates: int,
) -> tuple[float, float]:
    """How far the critic's estimate still rises when it trains on alone, the generator frozen.

    The critic makes up to `updates` updates on the batches that would come next; then everything
    that they changed is put back, to the bit.

    Args:
        state: Its critic is trained on and restored.
        next_batch: The run's own batches, by their number.
        estimate: The estimate to watch, on data that is not trained on.
        updates: >= 1.

    Returns:
        The estimate before and after, in the critic's scale. After is NaN where training on failed.
    """
    before = estimate()
    tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
    plain = deepcopy(state.plain())
    try:
        for _ in range(updates):
            critic_updates(state, [next_batch(state.method.batch_size)])
        return before, estimate()
    except NonFiniteError:
        return before, float("nan")
    finally:
        state.load(tensors, plain)


def slopes_between(state: TrainState, batch: Batch, fakes: Sequence[Tensor], seed: int) -> Tensor:
    """The critic's slopes between real samples and fakes, ``[batch]``.

    ``|grad D(h)|`` at ``h = t x + (1 - t) y`` with t uniform, the points of the gradient penalty;
    in score per unit of training data. A critic that is 1-Lipschitz has none above 1.

    Args:
        state: Its critic, in evaluation mode while it is asked.
        batch: Real samples x.
        fakes: As many batches as the objective needs; y is the first.
        seed: Of t.
    """
    assert state.critic is not None
    module, objective = state.critic.module, state.method.objective
    rng = torch.Generator().manual_seed(seed)
    x, y = batch.values, fakes[0].detach()
    t = torch.rand(len(x), *[1] * (x.dim() - 1), generator=rng).to(x)
    draw = objective.draw(rng, tuple(x.shape)).to(state.like)
    with _evaluating(module):
        critic = bind_critic(module, batch.condition)
        witness = objective.witness(critic, x, [fake.detach() for fake in fakes], draw)
        return dual_norm(input_gradient(witness, t * x + (1 - t) * y), 2).detach()


def strides(state: TrainState, source: Source) -> tuple[float, float]:
    """How far one update moves the critic, and then one the generator; both are made.

    ``|w' - w| / |w|`` over all of a player's weights.

    Args:
        state: Moves on by the two updates.
        source: What it trains on.

    Raises:
        NonFiniteError: A loss or a gradient is not finite.
    """

    def stride(player: Player, update: Callable[[], object]) -> float:
        before = [p.detach().clone() for p in player.parameters]
        update()
        return moved(player.parameters, before)

    method, critic = state.method, 0.0
    if state.critic is not None:
        batch = state.next_batch(source, method.batch_size)
        critic = stride(state.critic, lambda: critic_update(state, batch))
    other = state.next_batch(source, method.generator_batch_size)
    return critic, stride(state.generator, lambda: generator_update(state, other))


def moved(now: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """How far weights are from where they were, as a share of their norm then."""
    away = norm([a.detach() - b for a, b in zip(now, before, strict=True)])
    return away / (norm(before) or 1.0)


def norm(tensors: Sequence[Tensor]) -> float:
    """The Euclidean norm of all numbers together."""
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout, and without what batch and spectral norms learn from a pass."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
