"""Train networks whose layers have orthonormal rows or columns, at the price of plain layers.

A parametrised orthogonal layer (:mod:`wgan.layers.orthogonal`) differentiates through an inverse in
every step, which takes longer than a batch of small vectors does. Here the weights are plain
matrices; the update itself keeps them orthogonal, to rounding. What is certified afterwards is the
norm that they have, so nothing depends on how near they are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wgan.layers import GroupSort

# Odd polynomial whose iterates bring singular values in (0, 1] near to 1 (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


class StiefelMomentum:
    """Steepest descent on the Stiefel manifold in the spectral norm, with momentum.

    For W ``[m, n]`` with orthonormal columns (else its transpose) and gradient G::

        M <- beta M + (1 - beta) G,   T = M - W (W'M + M'W) / 2,   W <- polar(W - rate sign(T))

    T is the part of M that is tangent to the manifold, ``sign(U S V') = U V'`` gives every
    direction in it the same length (Muon, Jordan et al. 2024), and ``polar`` is the nearest matrix
    with orthonormal columns. Both are found by a few products of matrices: `sign` to about 0.3,
    which a direction can bear, `polar` to rounding.

    Args:
        weights: Matrices with orthonormal rows or columns, whichever are fewer; changed in place.
        beta: Of the momentum, in [0, 1).
    """

    def __init__(self, weights: Sequence[Tensor], beta: float = 0.95) -> None:
        self.weights = list(weights)
        self.beta = beta
        self.momenta = [torch.zeros_like(weight) for weight in self.weights]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update from the weights' gradients; `rate` is the largest turn, in radians."""
        for weight, momentum in zip(self.weights, self.momenta, strict=True):
            assert weight.grad is not None
            momentum.lerp_(weight.grad, 1 - self.beta)
            w, m = _tall(weight), _tall(momentum)
            inner = w.mT @ m
            tangent = m - w @ ((inner + inner.mT) / 2)
            moved = polar(w - rate * _sign(tangent))
            weight.copy_(moved if weight.shape[0] >= weight.shape[1] else moved.mT)


def _tall(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


def _sign(matrix: Tensor, iterations: int = 5) -> Tensor:
    """``U V'`` of the singular value decomposition ``U S V'``, roughly; 0 of 0."""
    found: Tensor = matrix / matrix.norm().clamp(min=1e-30)
    if matrix.shape[1] == 1:
        return found
    a, b, c = _QUINTIC
    for _ in range(iterations):
        gram = found.mT @ found
        found = a * found + found @ (b * gram + c * gram @ gram)
    return found


def polar(matrix: Tensor, iterations: int = 2) -> Tensor:
    """The nearest matrix with orthonormal columns, for ``[m, n]`` near to such a one, m >= n.

    Newton and Schulz's iteration: each squares the error, ``(3/4) |W'W - I|^2`` of what it was.
    """
    for _ in range(iterations):
        matrix = 1.5 * matrix - 0.5 * matrix @ (matrix.mT @ matrix)
    return matrix


def scores(network: nn.Sequential, values: Tensor) -> Tensor:
    """What the network gives, its sorts taken by faster ways than the layers' own."""
    for layer in network:
        if isinstance(layer, GroupSort) and layer.size in (None, 2):
            faster = _FullSort if layer.size is None else _MaxMin
            touched = layer.touched(values.shape[1])
            found = faster.apply(values[:, :touched])  # type: ignore[no-untyped-call]
            rest = values[:, touched:]
            values = torch.cat([found, rest], 1) if rest.shape[1] else found
        else:
            values = layer(values)
    return values


class _FullSort(torch.autograd.Function):
    """Rows in ascending order, by NumPy's vectorised sort: several times as fast as torch's."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        order = torch.from_numpy(np.argsort(values.numpy(), axis=1))
        ctx.save_for_backward(order)
        return values.gather(1, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (order,) = ctx.saved_tensors
        return torch.empty_like(gradient).scatter_(1, order, gradient)


class _MaxMin(torch.autograd.Function):
    """Channels i and i + n/2 in ascending order, with one mask for the way back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        first, second = values.chunk(2, 1)
        swapped = first > second
        ctx.save_for_backward(swapped)
        return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (swapped,) = ctx.saved_tensors
        low, high = gradient.chunk(2, 1)
        return torch.cat([torch.where(swapped, high, low), torch.where(swapped, low, high)], 1)
