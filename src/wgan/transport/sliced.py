"""Transport along lines, where sorting solves it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wgan.errors import UserError


def random_directions(rng: torch.Generator, n: int, dim: int) -> Tensor:
    """`n` unit vectors drawn uniformly from the sphere, ``[n, dim]``, on the generator's device."""
    if n < 1 or dim < 1:
        raise UserError(f"`n` and `dim` must be >= 1, got {n} and {dim}")
    normal = torch.randn(n, dim, generator=rng, device=rng.device)
    return F.normalize(normal, dim=1)


def wasserstein_1d(u: Tensor, v: Tensor, p: Literal[1, 2] = 1) -> Tensor:
    """``W_p^p`` of one-dimensional samples: ``integral over q in [0, 1] of |U(q) - V(q)|^p``.

    U and V are the quantile functions, steps of height given by the sorted samples; where the sizes
    differ, the integral is over the merged steps and is still exact.

    Args:
        u: ``[n, ...]``, transported along the first axis.
        v: ``[m, ...]``, the same trailing shape.
        p: 1 or 2.

    Returns:
        ``[...]``, in the data's unit to the power p; differentiable.
    """
    if p not in (1, 2):
        raise UserError(f"`p` must be 1 or 2, got {p}")
    if u.shape[1:] != v.shape[1:] or min(len(u), len(v)) < 1:
        raise UserError(f"samples must share a shape, got {tuple(u.shape)} and {tuple(v.shape)}")
    n, m = len(u), len(v)
    u, v = u.sort(dim=0).values, v.sort(dim=0).values
    if n == m:
        return _power(u - v, p).mean(0)
    # Steps end at i / n and j / m: in units of 1 / (n m) these are whole numbers.
    ends = np.union1d(m * np.arange(n + 1), n * np.arange(m + 1))
    width = torch.from_numpy(np.diff(ends) / (n * m)).to(u).reshape(-1, *[1] * (u.ndim - 1))
    first, second = (torch.from_numpy(ends[:-1] // k).to(u.device) for k in (m, n))
    return (width * _power(u[first] - v[second], p)).sum(0)


def _power(difference: Tensor, p: int) -> Tensor:
    return difference.abs() if p == 1 else difference.square()


def sliced_wasserstein(x: Tensor, y: Tensor, directions: Tensor, p: Literal[1, 2] = 1) -> Tensor:
    """The mean over directions of the one-dimensional ``W_p^p`` of the projections.

    ``mean_k W_p^p(x . theta_k, y . theta_k)``: the sliced W1 for p = 1, the *square* of the sliced
    W2 for p = 2 (Bonneel et al. 2015). For p = 1 every direction gives a lower bound of W1, and so
    does their mean.

    Args:
        x: ``[n, *shape]``.
        y: ``[m, *shape]``; the sizes may differ.
        directions: ``[k, dim]``, of unit length for the value above (:func:`random_directions`).
        p: 1 or 2.

    Returns:
        A scalar, in the data's unit to the power p; differentiable.
    """
    return _projected(x, y, directions, p).mean()


def _projected(x: Tensor, y: Tensor, directions: Tensor, p: Literal[1, 2]) -> Tensor:
    x, y = x.flatten(1), y.flatten(1)
    if not x.shape[1] == y.shape[1] == directions.shape[1]:
        raise UserError(
            "samples and directions must have equal dimensions, got "
            f"{x.shape[1]}, {y.shape[1]} and {directions.shape[1]}"
        )
    return wasserstein_1d(x @ directions.T, y @ directions.T, p)


def sliced_potentials(
    x: Tensor, y: Tensor, directions: Tensor
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The sliced W1 with the potentials behind it: ``mean phi - mean psi``, exactly.

    Along one direction the optimal potential f has slope ``sign(F_y - F_x)`` between neighbouring
    points of the pooled sample, and ``W1 = mean f(x) - mean f(y)``. `phi` and `psi` are the means
    over directions of f at the two samples: how much each sample contributes, which is what a
    standard error or a bootstrap of the sliced W1 needs.

    Args:
        x: ``[n, *shape]``.
        y: ``[m, *shape]``.
        directions: ``[k, dim]`` of unit length.

    Returns:
        The sliced W1; phi ``[n]``; psi ``[m]``; in the data's unit.
    """
    x, y = x.detach().flatten(1).double(), y.detach().flatten(1).double()
    n, m, lines = len(x), len(y), directions.double().T
    at, order = torch.cat([x @ lines, y @ lines]).sort(dim=0)
    mine = order < n
    below = torch.where(mine, -1 / n, 1 / m).cumsum(0)[:-1]  # F_y - F_x from this point to the next
    # Where both are level the sum is a rounding away from 0, and any slope is optimal.
    slope = torch.where(below.abs() > 1e-12, below.sign(), 0.0)
    f = torch.cat([at.new_zeros(1, at.shape[1]), (slope * at.diff(dim=0)).cumsum(0)])
    f = torch.empty_like(f).scatter_(0, order, f)
    f = f - f.mean(0)
    values = f.mean(1).numpy()
    phi, psi = values[:n], values[n:]
    return float(phi.mean() - psi.mean()), phi, psi


def max_sliced_direction(
    x: Tensor, y: Tensor, start: Tensor, p: Literal[1, 2] = 1, *, iterations: int = 50
) -> tuple[Tensor, Tensor]:
    """The direction along which two samples differ most, by ascent from several at once.

    Each start follows the normalised gradient of its one-dimensional ``W_p^p`` on the sphere, with
    steps from 0.5 down to 0, and the best point ever met is kept: the result is never below the
    best start. The problem is not concave, so more starts find more (Deshpande et al. 2019).

    Args:
        x: ``[n, *shape]``.
        y: ``[m, *shape]``.
        start: ``[k, dim]`` unit vectors.
        p: 1 or 2.
        iterations: Ascent steps, >= 0.

    Returns:
        The value ``W_p^p`` along the best direction, and that direction ``[dim]``, both detached.
    """
    x, y = x.detach(), y.detach()
    directions = start.detach()
    best = _projected(x, y, directions, p)
    best_directions = directions
    for k in range(iterations):
        with torch.enable_grad():
            moving = directions.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(_projected(x, y, moving, p).sum(), moving)
        tangent = gradient - (gradient * directions).sum(1, keepdim=True) * directions
        step = 0.5 * (1 - k / iterations)
        directions = F.normalize(directions + step * F.normalize(tangent, dim=1), dim=1)
        value = _projected(x, y, directions, p)
        better = value > best
        best = torch.where(better, value, best)
        best_directions = torch.where(better[:, None], directions, best_directions)
    i = int(best.argmax())
    return best[i], best_directions[i]
