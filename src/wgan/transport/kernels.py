"""Positive definite kernels on the rows of two tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from wgan.errors import UserError
from wgan.transport.cost import squared_distances

Kernel = Callable[[Tensor, Tensor], Tensor]
"""``[n, dim]`` and ``[m, dim]`` to the kernel matrix ``[n, m]``, twice differentiable."""


@dataclass(frozen=True)
class Gaussian:
    """``sum_s exp(-|x - y|^2 / (2 s^2))``, the mixture of Li et al. 2017.

    Attributes:
        bandwidths: Standard deviations s > 0, in the data's unit.
    """

    bandwidths: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)

    def __post_init__(self) -> None:
        _positive("bandwidths", self.bandwidths)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        squared = squared_distances(x, y)
        return sum_of([(-squared / (2 * s * s)).exp() for s in self.bandwidths])


@dataclass(frozen=True)
class RationalQuadratic:
    """``sum_a (1 + |x - y|^2 / (2 a))^-a + linear x.y``, Binkowski et al. 2018.

    Attributes:
        alphas: Exponents a > 0.
        linear: Weight >= 0 of the linear kernel, without which far samples have no gradient.
    """

    alphas: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0)
    linear: float = 0.0

    def __post_init__(self) -> None:
        _positive("alphas", self.alphas)
        if self.linear < 0:
            raise UserError(f"`linear` must be >= 0, got {self.linear}")

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        squared = squared_distances(x, y)
        value = sum_of([(1 + squared / (2 * a)) ** -a for a in self.alphas])
        return value + self.linear * x @ y.T if self.linear else value


@dataclass(frozen=True)
class Polynomial:
    """``(x.y / dim + offset)^degree``, the kernel of the kernel inception distance.

    Attributes:
        degree: A whole number >= 1.
        offset: >= 0.
    """

    degree: int = 3
    offset: float = 1.0

    def __post_init__(self) -> None:
        if self.degree < 1 or self.offset < 0:
            raise UserError(
                f"`degree` must be >= 1 and `offset` >= 0, got {self.degree} and {self.offset}"
            )

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + self.offset) ** self.degree


def sum_of(parts: list[Tensor]) -> Tensor:
    """The elementwise sum of one or more tensors."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _positive(name: str, values: tuple[float, ...]) -> None:
    if not values or min(values) <= 0:
        raise UserError(f"`{name}` must be one or more numbers > 0, got {values}")
