"""The energy distance between the samples themselves, without a critic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wgan.objectives.base import Objective, require_pairs, rows_of
from wgan.shares import whole
from wgan.transport import energy_distance
from wgan.types import Critic, Draw, Loss, State


@dataclass(frozen=True)
class Energy(Objective):
    """``generator: 2 E|x - y| - E|x - x'| - E|y - y'|``, Euclidean on the data, unbiased.

    There is no critic. The record's ``energy_distance`` is the loss: in the data's unit, 0 for
    equal distributions, and negative by chance.

    Raises:
        UserError: A batch has one sample.

    Source: Szekely and Rizzo 2013, "Energy statistics", section 2.
    """

    name: ClassVar[str] = "energy"
    estimate: ClassVar[str | None] = "energy_distance"
    meaning: ClassVar[str] = "energy distance, unbiased, in the data's unit"

    @property
    def uses_critic(self) -> bool:
        return False

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        x, y = (whole(rows_of(batch), self.name) for batch in (real, fakes[0]))
        require_pairs(self, x, y)
        loss = energy_distance(x, y)
        return Loss(loss, {"energy_distance": loss.detach()}), state
