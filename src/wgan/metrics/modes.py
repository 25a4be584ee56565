"""Which modes of a known distribution a sample has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.transport import as_points


@runtime_checkable
class KnownModes(Protocol):
    """A distribution made of equally probable clusters; synthetic sources are such.

    Attributes:
        centres: ``[k, dim]``, in the data's unit.
        standard_deviation: Of a cluster, per axis.
    """

    centres: NDArray[np.float64]
    standard_deviation: float


@dataclass(frozen=True)
class ModeCoverage:
    """How a sample falls on the modes.

    Attributes:
        found: Modes that hold at least `min_share` of the samples within `radius` of their centre.
        total: Modes there are.
        near: Share of samples within `deviations` standard deviations of the nearest centre.
        shares: Share of samples within `radius` of each centre, by nearest centre, ``[total]``.
        min_share, radius, deviations: What was asked.
    """

    found: int
    total: int
    near: float
    shares: tuple[float, ...]
    min_share: float
    radius: float
    deviations: float


def mode_coverage(
    samples: Any,
    modes: KnownModes,
    *,
    min_share: float | None = None,
    radius: float | None = None,
    deviations: float = 4.0,
) -> ModeCoverage:
    """Count the modes found and the samples near one.

    Args:
        samples: ``[n, dim]``.
        modes: Centres and standard deviation.
        min_share: In (0, 1]. None: 0.32 / k, which is 4% for eight modes.
        radius: > 0, in the data's unit. None: ten standard deviations.
        deviations: > 0. In two dimensions 4 hold 99.97% of a Gaussian.

    Raises:
        UserError: A value out of its range, or samples of another dimension.
    """
    points, centres = as_points(samples), as_points(modes.centres, "centres")
    min_share = 0.32 / len(centres) if min_share is None else min_share
    radius = 10 * modes.standard_deviation if radius is None else radius
    if points.shape[1] != centres.shape[1]:
        raise UserError(
            f"samples have {points.shape[1]} features and the modes' centres {centres.shape[1]}"
        )
    if not 0 < min_share <= 1 or radius <= 0 or deviations <= 0:
        raise UserError(
            "`min_share` must be in (0, 1], `radius` and `deviations` > 0, "
            f"got {min_share}, {radius}, {deviations}"
        )
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(centres).query(points)
    shares = np.bincount(nearest[distance <= radius], minlength=len(centres)) / len(points)
    return ModeCoverage(
        found=int((shares >= min_share).sum()),
        total=len(centres),
        near=float((distance <= deviations * modes.standard_deviation).mean()),
        shares=tuple(shares.tolist()),
        min_share=min_share,
        radius=radius,
        deviations=deviations,
    )
