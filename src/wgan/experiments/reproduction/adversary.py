"""A critic against a generator that does not learn: what several figures train to optimality."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from wgan.constraints import Constraint
from wgan.data.base import Source
from wgan.experiments.reproduction.base import Budget
from wgan.objectives import Objective
from wgan.training import Method, OptimizerSpec, TrainState
from wgan.training.step import critic_update


class Fixed(nn.Module):
    """A generator that maps its latents by a function of them, with nothing to learn."""

    def __init__(self, samples: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.samples = samples
        self.nothing = nn.Parameter(torch.zeros(()))  # what an optimizer can hold

    def forward(self, latent: Tensor) -> Tensor:
        return self.samples(latent)


def train_critic(
    critic: nn.Module,
    source: Source,
    fakes: Callable[[Tensor], Tensor],
    objective: Objective,
    optimizer: OptimizerSpec,
    constraints: Sequence[Constraint],
    *,
    updates: int,
    batch_size: int,
    latent: int,
    seed: int,
    budget: Budget,
) -> TrainState:
    """The state after so many updates of the critic alone, against `fakes` of normal latents."""
    method = Method(
        objective,
        OptimizerSpec("sgd", 1.0),
        optimizer,
        tuple(constraints),
        batch_size=batch_size,
        generator_batch_size=batch_size,
        latent=latent,
        average=0,
        seed=seed,
    )
    state = TrainState.create(method, Fixed(fakes), critic, source)
    for _ in range(updates):
        budget.check()
        critic_update(state, state.next_batch(source, batch_size))
    return state
