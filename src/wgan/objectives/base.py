"""What a critic and a generator minimise.

To add an objective, write one frozen dataclass with the methods of :class:`Objective` (deriving
from it gives the usual defaults), one line in `wgan.recipes`, and one closed-form test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wgan.types import Critic, Draw, Loss, State


class Objective:
    """Two losses that share a critic. Subclasses are frozen dataclasses: fields are hyperparameters.

    Both losses are pure: whatever is random comes in as `draw`, whatever is remembered comes in and
    goes out as `state`. Both are *minimised* and both see real and fake samples, because
    relativistic and kernel objectives need both.

    Attributes:
        name: The name on the command line and in the configuration.
        n_fakes: Independent fake batches that one loss needs.
        meaning: What the estimate in its record means, in words.
    """

    name: ClassVar[str]
    n_fakes: ClassVar[int] = 1
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
