"""The one training loop, short enough to read in one sitting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

import torch

from wgan.data.base import Source
from wgan.shares import sharing
from wgan.training import ranks
from wgan.training.losses import Terms
from wgan.training.probe import Probe
from wgan.training.state import TrainState
from wgan.training.step import critic_updates, extragradient_update, generator_update
from wgan.types import Batch, Record

_TOGETHER = 10  # batches for the critic that are in memory at once

Until = Callable[[TrainState], bool]


def train(state: TrainState, source: Source, *, until: Until | int) -> Iterator[Record]:
    """Train, and yield a record after every step.

    One step is ``n_critic`` batches for the critic (more where ``n_critic_max`` allows and a probe
    says that they help) and one update of the generator. The caller may stop consuming at any
    time: between two records the state is complete, and whoever continues it gets the numbers that
    an uninterrupted run would have had. Several processes take every step together, so that they
    must all stop after the same one.

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
    while not done(state):
        started = perf_counter()
        with sharing(ranks.share()):
            terms, updates, waited = _step(state, source)
        values = torch.stack([value.reshape(()).float() for value in terms.values()]).tolist()
        yield {
            "step": state.step,
            **dict(zip(terms, values, strict=True)),
            "critic_updates": updates,
            "data_seconds": waited,
            "step_seconds": perf_counter() - started,
        }


def _step(state: TrainState, source: Source) -> tuple[Terms, int, float]:
    """One step; its terms, the updates of the critic, and the seconds it waited for data."""
    method, feed = state.method, _Feed(state, source)
    state.generator.module.train()
    terms, updates = _train_critic(state, feed)
    if method.extrapolate:
        terms |= extragradient_update(state, feed)
        updates += 1
    else:
        terms |= generator_update(state, feed(method.generator_batch_size))
    if state.critic is not None:
        for constraint in method.constraints:
            terms |= constraint.measure(state.critic.module)
    state.step += 1
    state.look_back()
    state.update_average()
    return terms, updates, feed.seconds


def _train_critic(state: TrainState, feed: _Feed) -> tuple[Terms, int]:
    """The critic's share of a step that is its alone; the last update's terms, and their number."""
    method = state.method
    least = method.critic_batches(state.step + 1)
    if method.extrapolate:
        least -= 1  # the last update is made together with the generator's
    most = max(least, method.n_critic_max or 0)
    probe = Probe(state, feed) if most > least else None
    terms: Terms = {}
    seen = 0
    while True:
        left = min(least, most - seen)
        for start in range(0, left, _TOGETHER):
            together = range(start, min(start + _TOGETHER, left))
            terms = critic_updates(state, [feed(method.batch_size) for _ in together])
        seen += left
        if probe is None or seen == most or not probe.gained():
            return terms, seen * method.critic_passes


class _Feed:
    """The next batches of a source, and the seconds that they were waited for."""

    def __init__(self, state: TrainState, source: Source) -> None:
        self.state, self.source, self.seconds = state, source, 0.0

    def __call__(self, count: int) -> Batch:
        asked = perf_counter()
        batch = self.state.next_batch(self.source, count)
        self.seconds += perf_counter() - asked
        return batch
