"""How a critic is kept Lipschitz.

A constraint is a frozen dataclass with up to four hooks, each a no-op by default. To add one,
override what it needs, register it in `wgan.constraints`, and write one closed-form test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from wgan.errors import UserError
from wgan.types import Critic, Draw, Loss


class Constraint:
    """Hooks around a critic's update; subclasses are frozen dataclasses.

    Attributes:
        name: The name on the command line and in the configuration.
        per_sample: Whether the penalty is a function of one sample at a time, which batch
            normalisation would break.
    """

    name: ClassVar[str]
    per_sample: ClassVar[bool] = False

    def prepare(self, critic: nn.Module) -> nn.Module:
        """The critic to train, before its optimizer exists (parametrised, say)."""
        if self.per_sample:
            refuse_batch_norm(critic, self.name)
        return critic

    def draw(self, rng: torch.Generator, shape: tuple[int, ...]) -> Draw:
        """Random tensors for one penalty on a whole batch of this shape ``[batch, *shape]``."""
        return Draw()

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, draw: Draw, step: int
    ) -> Loss | None:
        """What is added to the critic's loss (weight included), or None for nothing."""
        return None

    def project(self, critic: nn.Module) -> None:
        """Move the weights back into the allowed set, after each critic update."""

    def measure(self, critic: nn.Module) -> Mapping[str, Tensor]:
        """Scalars for the record that tell whether the constraint binds."""
        return {}


def refuse_batch_norm(critic: nn.Module, constraint: str) -> None:
    """Raise `UserError` if the critic normalises over the batch.

    A per-sample penalty asks for the gradient of one score with respect to one sample; batch
    normalisation makes every score depend on every sample (Gulrajani et al. 2017, section 4).
    """
    for name, module in critic.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"constraint `{constraint}` penalises each sample by itself, and the critic's layer "
                f"`{name or type(module).__name__}` normalises over the batch; use critic_norm "
                "`none` or `layer`"
            )


def input_gradient(critic: Critic, points: Tensor) -> Tensor:
    """The gradient of each score with respect to its own sample, differentiable once more.

    Args:
        critic: The critic, with any condition bound.
        points: ``[batch, *shape]``; leaves the caller's graph.

    Returns:
        ``[batch, *shape]``, in the unit of a score per unit of data.
    """
    points = points.detach().requires_grad_(True)
    score = critic(points).score
    (gradient,) = torch.autograd.grad(score.sum(), points, create_graph=True)
    return gradient
