"""Costs between all pairs of two samples: in float64 for certificates, on tensors for gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.errors import UnknownNameError, UserError

Cost = Literal["euclidean", "sqeuclidean", "l1", "linf"]
COSTS: tuple[Cost, ...] = get_args(Cost)

_SCIPY = {
    "euclidean": "euclidean",
    "sqeuclidean": "sqeuclidean",
    "l1": "cityblock",
    "linf": "chebyshev",
}
# Up to this dimension differences are as quick as a matrix product, and they round better.
_DIRECT_DIMENSION = 64
# Below this share of the squared norms a squared distance from a product has lost too many digits.
_CANCELLED = 1e-5
_BLOCK_ELEMENTS = 2**24
_direct_elements: float = _BLOCK_ELEMENTS


def as_points(values: Any, name: str = "samples") -> NDArray[np.float64]:
    """Samples as rows of finite float64 numbers, ``[n, dim]``.

    Args:
        values: ``[n]`` or ``[n, *shape]``, any real dtype.
        name: What to call them in an error.

    Raises:
        UserError: Not numbers, no samples, no features, or not finite.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise UserError(f"`{name}` must be numbers, got an array of dtype {array.dtype}")
    if array.ndim == 0 or array.size == 0:
        raise UserError(
            f"`{name}` must hold at least one sample [n, *shape], got shape {array.shape}"
        )
    points = array.reshape(len(array), -1).astype(np.float64, copy=False)
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise UserError(
            f"`{name}` must be finite: {bad} of {len(points)} samples hold NaN or infinity"
        )
    return points


def cost_matrix(x: Any, y: Any, cost: Cost = "euclidean") -> NDArray[np.float64]:
    """The cost between every ``x[i]`` and every ``y[j]``, in float64.

    ``euclidean`` ``|x - y|``, ``sqeuclidean`` ``|x - y|^2``, ``l1`` ``sum |x - y|``, ``linf``
    ``max |x - y|``. In more than 64 dimensions the Euclidean costs come from a matrix product, and
    those pairs for which it cancels are taken again as differences, so that equal points are at
    distance exactly 0 and every cost is good to about ten digits.

    Args:
        x: ``[n, *shape]``.
        y: ``[m, *shape]``.
        cost: One of :data:`COSTS`.

    Returns:
        ``[n, m]``, in the data's unit (its square for ``sqeuclidean``).

    Raises:
        UnknownNameError: No such cost.
        UserError: The dimensions differ, or a sample is not finite.
    """
    if cost not in COSTS:
        raise UnknownNameError("cost", cost, COSTS)
    same = x is y
    x = as_points(x, "x")
    y = x if same else as_points(y, "y")
    if x.shape[1] != y.shape[1]:
        raise UserError(
            f"`x` and `y` must have equal dimensions, got {x.shape[1]} and {y.shape[1]}"
        )
    if cost in ("l1", "linf") or x.shape[1] <= _DIRECT_DIMENSION:
        from scipy.spatial.distance import cdist

        result: NDArray[np.float64] = cdist(x, y, _SCIPY[cost])
    else:
        result = _squared_by_product(x, y)
        if cost == "euclidean":
            np.sqrt(result, out=result)
    if not np.isfinite(result).all():
        raise UserError("`x` and `y` are too far apart: their cost overflows float64; rescale them")
    return result


def _squared_by_product(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """``|x|^2 + |y|^2 - 2 x.y`` about the mean of `y`, mended where it cancels."""
    centre = y.mean(axis=0)
    # One array for both where they are one: numpy then does half of the product.
    x, y = (x - centre,) * 2 if x is y else (x - centre, y - centre)
    norms = np.einsum("nd,nd->n", x, x)[:, None] + np.einsum("md,md->m", y, y)
    squared = x @ y.T
    squared *= -2
    squared += norms
    rows, columns = np.nonzero(squared <= _CANCELLED * norms)
    step = max(1, _BLOCK_ELEMENTS // x.shape[1])
    for start in range(0, len(rows), step):
        i, j = rows[start : start + step], columns[start : start + step]
        difference = x[i] - y[j]
        squared[i, j] = np.einsum("kd,kd->k", difference, difference)
    return squared


@contextmanager
def as_for_larger(factor: float) -> Iterator[None]:
    """Take squared distances in the way that samples `factor` times as large would take."""
    global _direct_elements
    before, _direct_elements = _direct_elements, _BLOCK_ELEMENTS / factor**2
    try:
        yield
    finally:
        _direct_elements = before


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """``|x_i - y_j|^2`` for all pairs, differentiable as often as asked.

    Taken as differences while they fit in 2^24 numbers, else from a matrix product about the mean
    of `y`, which in float32 is good to about 1e-6 of the squared spread of the data.

    Args:
        x: ``[n, dim]``.
        y: ``[m, dim]``.

    Returns:
        ``[n, m]``, never negative.
    """
    if x.shape[0] * y.shape[0] * x.shape[1] <= _direct_elements:
        return (x[:, None] - y[None]).square().sum(-1)
    centre = y.detach().mean(0)
    x, y = x - centre, y - centre
    squared = x.square().sum(-1)[:, None] + y.square().sum(-1) - 2 * x @ y.T
    return squared.clamp(min=0)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """``|x_i - y_j|`` for all pairs ``[n, m]``; the gradient of coinciding points is 0."""
    squared = squared_distances(x, y)
    apart = squared > 0
    # The inner `where` keeps the infinite slope of the root at 0 out of the graph.
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)
