"""Has the critic stopped gaining? Asked of batches that it does not train on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wgan.layers import paused_iterations
from wgan.training.state import TrainState
from wgan.training.step import measured_critic_loss
from wgan.types import Batch

_SEEDS = 2**62


class Probe:
    """The critic's loss on two fresh batches, always with the same random numbers.

    Let ``a`` and ``b`` be how far the whole loss, penalties included, has fallen on each since the
    last look. Their mean is the gain and half their difference its noise; the critic has gained if
    ``(a + b) / 2 > |a - b| / 2``, that is, if the loss fell on both. A critic that only wanders
    is so taken for one that gains in a quarter of the looks.

    The latents, mixing weights and dropout masks of a look are those of the first one, so that
    only the weights differ; the state's own random numbers go on as if there had been no look. All
    it remembers ends with the step, so that a checkpoint need not hold it.

    Args:
        state: Its critic is looked at, now and in each :meth:`gained`.
        next_batch: Gives the two batches.
    """

    def __init__(self, state: TrainState, next_batch: Callable[[int], Batch]) -> None:
        self._state = state
        self._batches = [next_batch(state.method.batch_size) for _ in range(2)]
        self._seeds = torch.randint(_SEEDS, (2,), generator=state.rng).tolist()
        self._last = self._losses()

    def gained(self) -> bool:
        """Whether the loss has fallen on both batches since the last look."""
        before, self._last = self._last, self._losses()
        return bool((self._last < before).all())

    def _losses(self) -> Tensor:
        state = self._state
        rng, objective = state.rng.get_state(), state.objective
        losses = []
        for batch, seed in zip(self._batches, self._seeds, strict=True):
            state.rng.manual_seed(seed)
            with paused_iterations():
                losses.append(measured_critic_loss(state, batch))
        state.rng.set_state(rng)
        state.objective = objective
        return torch.stack(losses)
