"""The Cramer GAN: the energy distance between critic features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wgan.objectives.base import Objective, features_of, require_pairs
from wgan.shares import whole
from wgan.transport import distances, energy_distance
from wgan.types import Critic, Draw, Loss, Scores, State


@dataclass(frozen=True)
class Cramer(Objective):
    """The generator minimises, and the critic's features h maximise, an energy distance.

    With two independent fake batches y and y' and ``f(u) = E|h(u) - h(y')| - |h(u)|``::

        critic:     -(E f(x) - E f(y)), symmetrised over the roles of y and y'
        generator:  E|h(x) - h(y)| + E|h(x) - h(y')| - E|h(y) - h(y')|

    Means are over all pairs of a batch with another, so both are unbiased. The generator's loss
    leaves out the term ``E|h(x) - h(x')|``, which is constant for it, and so is not 0 at its best.
    The record's ``energy_distance`` has it: unbiased, in feature units, 0 for equal
    distributions, negative by chance.

    The constraints see the witness f. Needs a critic with features ``[batch, k]`` (the paper: 256);
    its score is not used.

    Raises:
        UserError: The critic gives no features, or a batch has one sample.

    Source: Bellemare et al. 2017, Algorithm 1, with the means over all pairs where
    the paper pairs samples one to one (the same expectation, less noise). The critic's surrogate f,
    which drops the second real sample, is the paper's; a revised version penalises
    ``|h(u) - h(y)| - |h(u) - h(x)|`` instead.
    """

    name: ClassVar[str] = "cramer"
    n_fakes: ClassVar[int] = 2
    estimate: ClassVar[str | None] = "energy_distance"
    meaning: ClassVar[str] = "energy distance of the critic's features, unbiased"

    def witness(self, critic: Critic, real: Tensor, fakes: Sequence[Tensor], draw: Draw) -> Critic:
        def score(points: Tensor) -> Scores:
            features = features_of(critic(points), self)
            anchor = whole(features_of(critic(fakes[1]), self), self.name)
            return Scores(distances(features, anchor).mean(1) - _norms(features), features)

        return score

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        x, y, other = self._features(critic, real, fakes)
        require_pairs(self, x, y, other)
        across = (distances(x, y).mean() + distances(x, other).mean()) / 2
        lengths = _norms(x).mean() - (_norms(y).mean() + _norms(other).mean()) / 2
        gap = across - distances(y, other).mean() - lengths
        with torch.no_grad():
            energy = energy_distance(x, torch.cat([y, other]))
        return Loss(-gap, {"energy_distance": energy}), state

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        x, y, other = self._features(critic, real, fakes)
        loss = distances(x, y).mean() + distances(x, other).mean() - distances(y, other).mean()
        return Loss(loss, {}), state

    def _features(
        self, critic: Critic, real: Tensor, fakes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the whole batches: real, fake, fake again."""
        x, y, other = (
            whole(features_of(critic(batch), self), self.name)
            for batch in (real, fakes[0], fakes[1])
        )
        return x, y, other


def _norms(rows: Tensor) -> Tensor:
    """``|v|`` of each row, with gradient 0 at 0."""
    return distances(rows, rows.new_zeros(1, rows.shape[1])).squeeze(1)
