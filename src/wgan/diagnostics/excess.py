"""By how much samples are further from data than other data are: a distance that compares.

A critic's estimate has a scale of its own, and a lower bound only rejects. What stops, chooses and
compares runs here is the *excess*: the exact distance of equal-size samples of the generator and
of held-out data, minus the same between two disjoint held-out samples. It is 0 on average for a
generator that has found the distribution, whatever the sample size does to the distances
themselves. Its mean lies between ``W1 - E d(A, B)`` and W1, by the triangle inequality, so that it
is a distance that errs on the small side; one value of it is no bound on anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.transport import exact, random_directions, sliced_potentials

Points = NDArray[np.float64]

FEWEST = 10
"""Samples in each half of the held-out data below which there is no excess."""

LEVEL = 0.95
"""Of the interval."""

_RESAMPLES = 500
_DIRECTIONS = 256
_ROOM = 0.3  # of the distance to one point, beyond which chance leaves W1 no room to tell


class Dual(NamedTuple):
    """A distance of two samples as a difference of means, ``value = mean phi - mean psi``.

    Attributes:
        value: The distance.
        phi: ``[n]``, what each of the first samples contributes.
        psi: ``[m]``, what each of the second does.
    """

    value: float
    phi: Points
    psi: Points


@dataclass(frozen=True)
class Space:
    """Where samples are compared.

    Attributes:
        name: ``raw``, ``slices``, or the name of a feature space.
        reason: Why it was chosen, in words; empty where the user chose it.
        distance: Of two samples ``[n, dim]`` and ``[m, dim]``.
    """

    name: str
    reason: str
    distance: Callable[[Points, Points], Dual]


def raw(x: Points, y: Points) -> Dual:
    """The exact W1 of two samples, Euclidean, by the network simplex."""
    plan = exact(x, y)
    return Dual(plan.primal, plan.phi, plan.psi)


def slices(dim: int) -> Callable[[Points, Points], Dual]:
    """The sliced W1 along 256 directions, the same in every run on data of this length."""
    lines = random_directions(torch.Generator().manual_seed(0), _DIRECTIONS, dim)
    return lambda x, y: Dual(*sliced_potentials(torch.from_numpy(x), torch.from_numpy(y), lines))


def choose_space(first: Points, second: Points) -> Space:
    """Raw W1 where it can tell samples apart at this size, else slices.

    In many dimensions two samples of one population are nearly as far apart as each is from a
    single point in its middle: a generator that has collapsed to that point would then be as near
    to the data as the data. Slices converge at the rate of one dimension.

    Args:
        first, second: Disjoint held-out samples ``[n, dim]``.
    """
    floor = raw(first, second).value
    point = float(np.linalg.norm(first - first.mean(0), axis=1).mean())
    said = f"two held-out samples are {floor:.3g} apart, and {point:.3g} from a single point"
    if floor <= _ROOM * point:
        return Space("raw", said, raw)
    return Space("slices", said, slices(first.shape[1]))


@dataclass(frozen=True)
class Excess:
    """How much further samples are from held-out data than other held-out data are.

    Attributes:
        value: ``(d(G, A) + d(G', B)) / 2 - d(A, B)`` for fakes G, G' and held-out A, B; 0 on
            average where the generator has the data's distribution. In the data's unit.
        low, high: Its 95% interval; see :class:`Yardstick`.
        distance: ``(d(G, A) + d(G', B)) / 2``.
        floor: ``d(A, B)``.
        size: Samples in each of the four.
        space: Where they were compared.
    """

    value: float
    low: float
    high: float
    distance: float
    floor: float
    size: int
    space: str
    _fake: tuple[Points, ...] = field(repr=False)
    _real: tuple[Points, ...] = field(repr=False)

    @property
    def error(self) -> float:
        """The standard error of `value`."""
        return _error((*self._fake, *self._real))

    def minus(self, other: Excess, *, seed: int = 0) -> tuple[float, float, float]:
        """The difference to another generator's on the same held-out data: value, low, high.

        The held-out samples are resampled together, so what chance did to them cancels.
        """
        value = self.value - other.value
        return value, *_interval(value, self._against(other), np.random.default_rng(seed))

    def p_value(self, other: Excess) -> float:
        """How often chance alone makes so large a difference, either way, of two equals.

        By the normal distribution of the linearised difference; asymptotic, as the intervals are.
        """
        error = _error(self._against(other))
        return math.erfc(abs(self.value - other.value) / max(error, 1e-300) / math.sqrt(2))

    def _against(self, other: Excess) -> tuple[Points, ...]:
        """What each sample contributes to the difference."""
        if other.floor != self.floor or other.size != self.size or other.space != self.space:
            raise UserError("only excesses on the same held-out data and in one space compare")
        shared = (a - b for a, b in zip(self._real, other._real, strict=True))
        return (*self._fake, *(-part for part in other._fake), *shared)


class Yardstick:
    """Held-out data in two halves, for generators to be held against.

    Args:
        held: ``[2 size, dim]``, in random order.
        space: Where to compare; None: :func:`choose_space` decides.
    """

    def __init__(self, held: Points, space: Space | None = None) -> None:
        self.size = len(held) // 2
        if self.size < FEWEST:
            raise UserError(
                f"an excess needs at least {2 * FEWEST} held-out samples, got {len(held)}"
            )
        self.halves = held[: self.size], held[self.size : 2 * self.size]
        self.space = space or choose_space(*self.halves)
        self.between = self.space.distance(*self.halves)

    def __call__(self, fake: Points, *, seed: int = 0) -> Excess:
        """The excess of samples ``[2 size, dim]``.

        The interval is a bootstrap of the linearised statistic: a transport distance moves with
        its samples as the mean of its optimal potentials does, to first order (del Barrio and
        Loubes 2019), so the contributions of the four samples are resampled instead of solving
        hundreds of transport problems. It is asymptotic, and about the mean excess at this size.
        """
        size, (first, second) = self.size, self.halves
        a, b = self.space.distance(fake[:size], first), self.space.distance(fake[size:], second)
        distance = (a.value + b.value) / 2
        value = distance - self.between.value
        fakes = a.phi / 2, b.phi / 2
        reals = -a.psi / 2 - self.between.phi, -b.psi / 2 + self.between.psi
        low, high = _interval(value, (*fakes, *reals), np.random.default_rng(seed))
        return Excess(
            value,
            low,
            high,
            distance,
            self.between.value,
            size,
            self.space.name,
            fakes,
            reals,
        )


def _interval(
    value: float, parts: Sequence[Points], rng: np.random.Generator
) -> tuple[float, float]:
    """Quantiles of ``value + sum of means of resampled, centred parts``."""
    moved = np.zeros(_RESAMPLES)
    for part in parts:
        rows = rng.integers(len(part), size=(_RESAMPLES, len(part)))
        moved += part[rows].mean(1) - part.mean()
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(moved, [tail, 1 - tail])
    return value + float(low), value + float(high)


def _error(parts: Sequence[Points]) -> float:
    return float(np.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)))
