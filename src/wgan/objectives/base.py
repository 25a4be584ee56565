"""What a critic and a generator minimise.

To add an objective, write one frozen dataclass with the methods of :class:`Objective` (deriving
from it gives the usual defaults), one line in `wgan.recipes`, and one closed-form test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wgan.errors import UserError
from wgan.types import Critic, Draw, Loss, Scores, State


class Objective:
    """Two losses that share a critic. Subclasses are frozen dataclasses of hyperparameters.

    Both losses are pure: whatever is random comes in as `draw`, whatever is remembered comes in and
    goes out as `state`. Both are *minimised* and both see real and fake samples, because
    relativistic and kernel objectives need both.

    Where several processes share out a batch, `real` and `fakes` are this one's rows. The losses of
    the processes are averaged, which is right by itself for a mean over samples; whatever compares
    samples, or is no linear function of a mean, takes its rows from :func:`wgan.shares.whole`.

    Attributes:
        name: The name on the command line and in the configuration.
        n_fakes: Independent fake batches that one loss needs.
        estimate: The record's key of the number that says how far fake is from real, or None.
        meaning: What that number means, in words.
    """

    name: ClassVar[str]
    n_fakes: ClassVar[int] = 1
    estimate: ClassVar[str | None] = None
    meaning: ClassVar[str] = "no estimate"

    @property
    def uses_critic(self) -> bool:
        """False for a loss on the data itself: its critic is the identity, its `n_critic` is 0."""
        return True

    def init(self) -> State:
        """The state before the first step."""
        return {}

    def draw(self, rng: torch.Generator, shape: tuple[int, ...]) -> Draw:
        """Random tensors for one loss on a whole batch of this shape ``[batch, *shape]``."""
        return Draw()

    def witness(self, critic: Critic, real: Tensor, fakes: Sequence[Tensor], draw: Draw) -> Critic:
        """The function whose slope the constraints penalise: the critic, unless the loss says more.

        Objectives on features compare them through a function of one sample, ``score``; it may be
        built from the batch, and is differentiable in the critic's weights.
        """
        return critic

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        """The critic's loss; `fakes` carry no gradient."""
        raise NotImplementedError

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor,
        fakes: Sequence[Tensor],
        draw: Draw,
        state: State,
        step: int,
    ) -> tuple[Loss, State]:
        """The generator's loss; gradients flow through `fakes`."""
        raise NotImplementedError


def features_of(scores: Scores, objective: Objective) -> Tensor:
    """The critic's features as rows ``[batch, k]``, in float32 or wider.

    Raises:
        UserError: The critic gives none.
    """
    if scores.features is None:
        raise UserError(
            f"objective `{objective.name}` compares critic features, and this critic gives none; "
            "return `Scores(score, features)` with features [batch, k]"
        )
    return rows_of(scores.features)


def rows_of(values: Tensor) -> Tensor:
    """Samples ``[batch, *shape]`` as rows ``[batch, k]``, in float32 or wider.

    Sums over pairs, sorting and transport lose too much in half precision.
    """
    rows = values.flatten(1) if values.dim() > 1 else values.unsqueeze(1)
    return rows if rows.dtype in (torch.float32, torch.float64) else rows.float()


def require_pairs(objective: Objective, *batches: Tensor) -> None:
    """Raise `UserError` for a batch of one, where the unbiased estimator needs two."""
    smallest = min(len(batch) for batch in batches)
    if smallest < 2:
        raise UserError(
            f"objective `{objective.name}` averages over pairs within a batch and needs a batch "
            f"size of at least 2, got {smallest}"
        )
