"""The vocabulary that every part shares: critics, scores, losses, draws, batches, records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """What a critic says of a batch.

    Attributes:
        score: One real number per sample, ``[batch]``. No unit until the critic is certified.
        features: The last hidden layer, ``[batch, k]``, where the critic gives it.
    """

    score: Tensor
    features: Tensor | None = None


Critic = Callable[[Tensor], Scores]
"""Values ``[batch, *shape]`` to :class:`Scores`, with any condition already bound."""


class Loss(NamedTuple):
    """A scalar to minimise, and what it is made of.

    Attributes:
        value: Scalar tensor, differentiable.
        terms: Detached scalars by name, for the record.
    """

    value: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """The random tensors of one update, drawn before anything is differentiated.

    Attributes:
        rows: Tensors whose first axis is the batch; a rank takes its own rows.
        shared: Tensors that every sample sees (directions of slices, say).
    """

    rows: Mapping[str, Tensor] = field(default_factory=dict)
    shared: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor called ``name``, of either kind."""
        return self.rows[name] if name in self.rows else self.shared[name]

    def take(self, rows: slice) -> Draw:
        """The part of this draw that belongs to some rows of the batch."""
        return Draw({name: value[rows] for name, value in self.rows.items()}, self.shared)

    def to(self, like: Tensor) -> Draw:
        """This draw on the device and in the floating type of ``like`` (integers keep theirs)."""

        def move(value: Tensor) -> Tensor:
            return value.to(like) if value.is_floating_point() else value.to(like.device)

        return Draw(
            {name: move(value) for name, value in self.rows.items()},
            {name: move(value) for name, value in self.shared.items()},
        )


class Batch(NamedTuple):
    """Some real samples.

    Attributes:
        values: ``[batch, *shape]``, in training units (pictures: -1 to 1).
        condition: ``[batch, k]`` in training units, or None for unconditional data.
    """

    values: Tensor
    condition: Tensor | None = None


Value = float | int | str | bool | None
Record = dict[str, Value]
"""One step's numbers by name; `step` counts generator updates from 1."""

State = Mapping[str, Tensor]
"""What an objective remembers between steps; most remember nothing."""
