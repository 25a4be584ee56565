"""The penalty on the critic's slope between real and fake samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wgan.constraints.slopes import SlopePenalty
from wgan.types import Draw


@dataclass(frozen=True)
class GradientPenalty(SlopePenalty):
    """``weight E (|grad D(h)|_* - target)^2``, ``h = e x + (1 - e) y``, ``e ~ U[0, 1]`` per sample.

    Norms and prices are float32 whatever the critic is. The record's ``slope`` is the mean of
    ``|grad D(h)|_*``, in score units per unit of data.

    Args:
        weight: lambda, >= 0 (the paper: 10).
        target: The slope asked for, > 0.
        one_sided: Penalise ``max(0, |grad D(h)|_* - target)^2`` only: the Lipschitz penalty.
        norm, interval, method: See :class:`wgan.constraints.slopes.SlopePenalty`.

    Source: Gulrajani et al. 2017, equation 3; one-sided: Petzka, Fischer, Lukovnicov 2018,
    equation 8; other norms: Adler and Lunz 2018, section 3.
    """

    weight: float = 10.0
    target: float = 1.0
    one_sided: bool = False

    name: ClassVar[str] = "gradient-penalty"
    term: ClassVar[str] = "gradient_penalty"
    slope_term: ClassVar[str] = "slope"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("weight", at_least=0)
        self.require("target", above=0)

    def draw(self, rng: torch.Generator, shape: tuple[int, ...]) -> Draw:
        return Draw(rows={"mix": torch.rand(shape[0], generator=rng)})

    def points(self, real: Tensor, fake: Tensor, draw: Draw) -> Tensor:
        mix = draw["mix"].view(-1, *[1] * (real.dim() - 1))
        return torch.lerp(fake, real, mix)

    def price(self, slope: Tensor) -> Tensor:
        excess = slope - self.target
        if self.one_sided:
            excess = excess.clamp_min(0)
        return self.weight * excess.square()
