"""The penalty on the critic's slope near the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wgan.constraints.slopes import SlopePenalty
from wgan.shares import whole
from wgan.types import Draw


@dataclass(frozen=True)
class Dragan(SlopePenalty):
    """``weight E (|grad D(h)|_* - target)^2``, ``h = x + e spread std(batch) u`` around real x.

    ``e ~ U[0, 1]`` per sample, ``u ~ U[0, 1]^d``, ``std(batch)`` one number: the standard deviation
    of all entries of the real batch. So h lies above x on every axis, as in the released code; the
    paper has Gaussian noise. The record's ``dragan_slope`` is the mean of ``|grad D(h)|_*``.

    Args:
        weight: lambda, >= 0 (the paper: 10).
        target: The slope asked for, > 0 (the paper: 1).
        spread: Size of the noise in standard deviations of the batch, >= 0.
        norm, interval, method: See :class:`wgan.constraints.slopes.SlopePenalty`.

    Source: Kodali et al. 2017, algorithm 1; kodalinaveen3/DRAGAN.
    """

    weight: float = 10.0
    target: float = 1.0
    spread: float = 0.5

    name: ClassVar[str] = "dragan"
    term: ClassVar[str] = "dragan_penalty"
    slope_term: ClassVar[str] = "dragan_slope"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("weight", at_least=0)
        self.require("target", above=0)
        self.require("spread", at_least=0)

    def draw(self, rng: torch.Generator, shape: tuple[int, ...]) -> Draw:
        mix = torch.rand(shape[0], generator=rng)
        return Draw(rows={"mix": mix, "noise": torch.rand(shape, generator=rng)})

    def points(self, real: Tensor, fake: Tensor, draw: Draw) -> Tensor:
        mix = draw["mix"].view(-1, *[1] * (real.dim() - 1))
        deviation = whole(real, self.name).std(correction=0)
        return real + mix * (self.spread * deviation) * draw["noise"]

    def price(self, slope: Tensor) -> Tensor:
        return self.weight * (slope - self.target).square()
