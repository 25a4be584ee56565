"""Penalties that ask for a flat critic at the samples themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from wgan.constraints.slopes import SlopePenalty
from wgan.types import Draw


@dataclass(frozen=True)
class R1(SlopePenalty):
    """``gamma / 2 E |grad D(x)|_*^2`` at real samples.

    Norms and prices are float32 whatever the critic is. The record's ``r1_slope`` is the mean
    of ``|grad D(x)|_*``.

    Args:
        gamma: >= 0 (the paper: 10; its released code omits the half, so its 10 is 20 here).
        norm, interval, method: See :class:`wgan.constraints.slopes.SlopePenalty`.

    Source: Mescheder, Geiger, Nowozin 2018, equation 9; every 16th step: Karras et al. 2019.
    """

    gamma: float = 10.0

    name: ClassVar[str] = "r1"
    term: ClassVar[str] = "r1_penalty"
    slope_term: ClassVar[str] = "r1_slope"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("gamma", at_least=0)

    def points(self, real: Tensor, fake: Tensor, draw: Draw) -> Tensor:
        return real

    def price(self, slope: Tensor) -> Tensor:
        return self.gamma / 2 * slope.square()


@dataclass(frozen=True)
class R2(R1):
    """``gamma / 2 E |grad D(y)|_*^2`` at fake samples; otherwise as :class:`R1`.

    Source: Mescheder, Geiger, Nowozin 2018, equation 10.
    """

    name: ClassVar[str] = "r2"
    term: ClassVar[str] = "r2_penalty"
    slope_term: ClassVar[str] = "r2_slope"

    def points(self, real: Tensor, fake: Tensor, draw: Draw) -> Tensor:
        return fake
