"""Two samples, and real against real beside them: one matrix of distances for every measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.transport import cost_matrix

Points = NDArray[np.float64]
_BLOCK_ELEMENTS = 2**25

Args = tuple[Points, ...]


@dataclass(frozen=True)
class Triple:
    """A number, and what it is for real data.

    Attributes:
        value: Samples against real, at the full size.
        floor: Real against other real, at `floor_size`.
        at_floor_size: Samples against real at `floor_size`, which is what `floor` compares with.
    """

    value: float
    floor: float
    at_floor_size: float


@dataclass(frozen=True)
class Sizes:
    """How many samples are compared.

    Attributes:
        size: Samples on each side.
        floor_size: Real samples on each side of the floor: the same, where there are twice as many
            real samples, and else half of those there are.
    """

    size: int
    floor_size: int

    @property
    def fair(self) -> bool:
        """Whether value and floor are of one size."""
        return self.size == self.floor_size

    @property
    def real(self) -> int:
        """Real samples that are needed in all."""
        return max(self.size, 2 * self.floor_size)


def plan_sizes(samples: int, reference: int, more: int, limit: int) -> Sizes:
    """The largest sizes that the data allow.

    Args:
        samples: Judged samples there are.
        reference: Real samples to judge them by.
        more: Further real samples, for the floor only.
        limit: The most to use.
    """
    size = min(samples, reference, limit)
    return Sizes(size, min(size, (reference + more) // 2))


def compare(
    measure: Callable[[Points, Points], float], judged: Points, real: Points, sizes: Sizes
) -> Triple:
    """A measure of two samples, and its floor.

    Args:
        measure: A function of two samples ``[n, dim]``.
        judged: ``[size, dim]`` or more.
        real: ``[sizes.real, dim]`` or more, the reference first.
        sizes: How many to use.
    """
    n, m = sizes.size, sizes.floor_size
    value = measure(judged[:n], real[:n])
    floor = measure(real[:m], real[m : 2 * m])
    return Triple(value, floor, value if sizes.fair else measure(judged[:m], real[:m]))


@dataclass(frozen=True)
class Distances:
    """Euclidean distances among judged samples, among real ones, and across.

    Attributes:
        judged: ``[size, size]``.
        real: ``[sizes.real, sizes.real]``.
        across: ``[size, size]``, from judged to the first real ones.
        sizes: How many there are.
    """

    judged: Points
    real: Points
    across: Points
    sizes: Sizes

    @classmethod
    def between(cls, judged: Points, real: Points, sizes: Sizes) -> Distances:
        """All distances; arguments as in :func:`compare`."""
        x, y = judged[: sizes.size], real[: sizes.real]
        return cls(cost_matrix(x, x), cost_matrix(y, y), cost_matrix(x, y[: sizes.size]), sizes)

    def of(self, n: int) -> Args:
        """``xx, yy, xy`` for the first n of each side."""
        return self.judged[:n, :n], self.real[:n, :n], self.across[:n, :n]

    @property
    def floor(self) -> Args:
        """``xx, yy, xy`` for two disjoint real samples."""
        first, second = (
            slice(0, self.sizes.floor_size),
            slice(self.sizes.floor_size, 2 * self.sizes.floor_size),
        )
        return self.real[first, first], self.real[second, second], self.real[first, second]

    def compare(self, measure: Callable[[Points, Points, Points], float]) -> Triple:
        """A measure of the matrices ``xx, yy, xy``, and its floor."""
        n, m = self.sizes.size, self.sizes.floor_size
        value = measure(*self.of(n))
        return Triple(
            value,
            measure(*self.floor),
            value if self.sizes.fair else measure(*self.of(m)),
        )


def pooled(xx: Points, yy: Points, xy: Points) -> Points:
    """The matrix of the pooled sample ``[n + m, n + m]``."""
    return np.block([[xx, xy], [xy.T, yy]])


def nearest(points: Points, among: NDArray[np.generic], scale: Points | None) -> Points:
    """The distance of each point to the nearest of a large sample, ``[n]``.

    Args:
        points: ``[n, dim]``, already divided by `scale`.
        among: ``[m, *shape]`` in own units; read in blocks, so that it may be a memory map.
        scale: ``[dim]`` or None.
    """
    best = np.full(len(points), np.inf)
    step = max(1, _BLOCK_ELEMENTS // max(len(points), points.shape[1]))
    for start in range(0, len(among), step):
        block = among[start : start + step].reshape(-1, points.shape[1]).astype(np.float64)
        if not np.isfinite(block).all():
            raise UserError("`train` must be finite: it holds NaN or infinity")
        block = block if scale is None else block / scale
        np.minimum(best, _nearest(points, block), out=best)
    return best


def _nearest(points: Points, block: Points) -> Points:
    if points.shape[1] > 8:
        nearest_in_block: Points = cost_matrix(points, block).min(axis=1)
        return nearest_in_block
    from scipy.spatial import cKDTree  # in few dimensions a tree beats the whole matrix

    return np.asarray(cKDTree(block).query(points)[0], dtype=np.float64)
