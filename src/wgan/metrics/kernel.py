"""The kernel distance between features, as KID reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wgan.errors import UserError
from wgan.transport import Kernel, Polynomial, as_points


@dataclass(frozen=True)
class KernelDistance:
    """The mean of an unbiased squared MMD over random subsets.

    Attributes:
        value: The mean; may fall below 0.
        deviation: Standard deviation between subsets (they overlap, so it is no standard error).
        subsets: How many.
        subset_size: Samples of each side in one subset.
    """

    value: float
    deviation: float
    subsets: int
    subset_size: int


def kernel_distance(
    x: Any,
    y: Any,
    *,
    kernel: Kernel | None = None,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """``E k(x, x') + E k(y, y') - 2 E k(x, y)``, unbiased, over subsets of two samples of features.

    Unlike the Frechet distance its expectation does not depend on the sample sizes. All subsets
    share three kernel matrices.

    Args:
        x: Features ``[n, k]``, n >= 4.
        y: Features ``[m, k]``, m >= 4.
        kernel: None: ``(x.y / k + 1)^3``, the published one (Binkowski et al. 2018).
        subsets: >= 1.
        subset_size: >= 2; at most half of the smaller sample is taken, so that subsets differ.
        seed: Seed of the subsets.

    Raises:
        UserError: Samples that are too small, or a value out of its range.
    """
    x, y = as_points(x, "x"), as_points(y, "y")
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 4:
        raise UserError(
            "`x` and `y` must be at least 4 samples each, of equal dimension, "
            f"got {x.shape} and {y.shape}"
        )
    if subsets < 1 or subset_size < 2:
        raise UserError(f"need `subsets` >= 1 and `subset_size` >= 2, got {subsets}, {subset_size}")
    size = min(subset_size, len(x) // 2, len(y) // 2)
    kernel = kernel or Polynomial()
    rows = torch.tensor(x), torch.tensor(y)
    rng = np.random.default_rng(seed)
    # Row k marks the members of subset k; sums over subsets are then matrix products.
    in_x, in_y = (_members(rng, subsets, size, len(u)) for u in (x, y))

    def within(points: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
        matrix = kernel(points, points)
        total = ((members @ matrix) * members).sum(1) - members @ matrix.diagonal()
        return total / (size * (size - 1))

    across = ((in_x @ kernel(*rows)) * in_y).sum(1) / size**2
    values = within(rows[0], in_x) + within(rows[1], in_y) - 2 * across
    return KernelDistance(float(values.mean()), float(values.std(correction=0)), subsets, size)


def _members(rng: np.random.Generator, subsets: int, size: int, n: int) -> torch.Tensor:
    members = np.zeros((subsets, n))
    members[:, :size] = 1
    return torch.from_numpy(rng.permuted(members, axis=1))
