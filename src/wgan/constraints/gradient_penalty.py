"""Penalties on the critic's slope between real and fake samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wgan.constraints.base import Constraint, input_gradient
from wgan.errors import UserError
from wgan.types import Critic, Draw, Loss

_EPSILON = 1e-12  # inside the root: its derivative at a zero gradient is finite, not NaN


@dataclass(frozen=True)
class GradientPenalty(Constraint):
    """``weight E (|grad D(h)| - target)^2``, ``h = e x + (1 - e) y``, ``e ~ U[0, 1]`` per sample.

    The norm is Euclidean over all axes of one sample. Computed in float32 whatever the precision of
    the critic. The record's ``slope`` is the mean of ``|grad D(h)|``, in score units per unit of
    data.

    Args:
        weight: lambda, >= 0 (the paper: 10).
        target: The slope asked for, > 0.
        one_sided: Penalise ``max(0, |grad D(h)| - target)^2`` only: the Lipschitz penalty.

    Source: Gulrajani et al. 2017, equation 3; one-sided: Petzka, Fischer, Lukovnicov 2018,
    equation 8.
    """

    weight: float = 10.0
    target: float = 1.0
    one_sided: bool = False

    name: ClassVar[str] = "gradient-penalty"
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise UserError(f"gradient-penalty: `weight` must be >= 0, got {self.weight}")
        if not self.target > 0:
            raise UserError(f"gradient-penalty: `target` must be > 0, got {self.target}")

    def draw(self, rng: torch.Generator, shape: tuple[int, ...]) -> Draw:
        return Draw(rows={"mix": torch.rand(shape[0], generator=rng)})

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, draw: Draw, step: int
    ) -> Loss | None:
        mix = draw["mix"].view(-1, *[1] * (real.dim() - 1))
        gradient = input_gradient(critic, torch.lerp(fake, real, mix)).flatten(1)
        slope = (gradient.square().sum(1) + _EPSILON).sqrt()
        excess = slope - self.target
        if self.one_sided:
            excess = excess.clamp_min(0)
        penalty = self.weight * excess.square().mean()
        return Loss(penalty, {"gradient_penalty": penalty.detach(), "slope": slope.detach().mean()})
