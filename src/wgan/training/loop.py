"""The one training loop, short enough to read in one sitting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

import torch

from wgan.data.base import Source
from wgan.training.state import TrainState
from wgan.training.step import Terms, critic_update, generator_update
from wgan.types import Record

Until = Callable[[TrainState], bool]


def train(state: TrainState, source: Source, *, until: Until | int) -> Iterator[Record]:
    """Train, and yield a record after every step.

    One step is ``n_critic`` batches for the critic and one update of the generator. The caller may
    stop consuming at any time: between two records the state is complete, and whoever continues it
    gets the numbers that an uninterrupted run would have had.

    Args:
        state: Where to start; changed in place.
        source: The real samples.
        until: The step to stop after, or a function of the state that says when to stop.

    Yields:
        The numbers of the step: the losses apart, the estimate with the paper's sign, gradient
        norms, and times (names that end in ``_seconds``).

    Raises:
        NonFiniteError: A loss, penalty or gradient is not finite; before the update.
    """
    done: Until = (lambda state: state.step >= until) if isinstance(until, int) else until
    method = state.method
    while not done(state):
        started = perf_counter()
        waited = 0.0
        state.generator.module.train()
        terms: Terms = {}
        batches = method.critic_batches(state.step + 1)
        for _ in range(batches):
            asked = perf_counter()
            batch = state.next_batch(source, method.batch_size)
            waited += perf_counter() - asked
            for _ in range(method.critic_passes):
                terms = critic_update(state, batch)
        asked = perf_counter()
        batch = state.next_batch(source, method.generator_batch_size)
        waited += perf_counter() - asked
        terms |= generator_update(state, batch)
        if state.critic is not None:
            for constraint in method.constraints:
                terms |= constraint.measure(state.critic.module)
        state.step += 1
        state.update_average()
        values = torch.stack([value.reshape(()).float() for value in terms.values()]).tolist()
        yield {
            "step": state.step,
            **dict(zip(terms, values, strict=True)),
            "critic_updates": batches * method.critic_passes,
            "data_seconds": waited,
            "step_seconds": perf_counter() - started,
        }
