"""Layers whose weight is orthogonal, exactly and at every moment of training.

Why Cayley's form: measured in one run on one CPU core, forward and backward of a weight n x n, n
from 64 to 512, against the form here a QR factor takes 0.45 to 0.7 of the time, twelve
Newton-Schulz iterations 4 to 8 times and a matrix exponential 5 to 15 times as long. Of critics
trained for equal numbers of updates on mixtures in 16 and 64 dimensions, at the best of several
learning rates each, those in Cayley's form ended 0.4 to 1% above those by QR, which does not treat
columns alike, and 3% above Newton-Schulz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from wgan.errors import UserError
from wgan.layers import convolution as conv


class SemiOrthogonal(nn.Module):
    """A parametrization by matrices with orthonormal columns (or rows, where those are fewer).

    For ``m >= n`` and a free tensor ``[U; V]``, U ``[n, n]`` and V ``[m - n, n]``::

        A = U - U' + V'V,   M = (I + A)^-1,   W = B [2 M - I; -2 V M]

    The stacked matrix is Cayley's form of a point on the Stiefel manifold (Trockman and Kolter
    2021, section 3.4). ``I + A`` has symmetric part ``>= I``, so the inverse always exists. B is
    a fixed orthogonal matrix whose first columns are the initial weight's QR factor: the free
    tensor starts at 0, where the map is best conditioned. One step of ``W <- W (W'W)^(-1/2)``,
    the root to first or second order and outside the graph because it only mends rounding, brings
    the singular values to 1 within 1e-6 in float32 where the inverse has lost several digits.

    Args:
        weight: The initial weight ``[out, in]``; only its Q factor survives.
    """

    base: Tensor
    y: Tensor
    t: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        tall = _tall(weight.detach().double())
        rows, columns = tall.shape
        # B is dense where that costs less than the compact form I - Y T Y' of its reflections.
        self.compact = rows > 2 * columns
        if not self.compact:
            parts = {"base": torch.linalg.qr(tall, mode="complete").Q}
        else:
            reflectors, scales = torch.geqrf(tall)
            y = reflectors.tril(-1)
            y.diagonal().fill_(1)
            y = y * (scales != 0)  # a reflection of scale 0 is the identity
            gram = y.mT @ y
            half = gram.triu(1) + torch.diag(torch.where(scales != 0, gram.diagonal() / 2, 1.0))
            parts = {"y": y, "t": torch.linalg.inv(half)}
        for name, part in parts.items():
            self.register_buffer(name, part.to(weight))

    def forward(self, free: Tensor) -> Tensor:
        with torch.autocast(free.device.type, enabled=False):
            tall = _tall(free)
            columns = tall.shape[1]
            eye = torch.eye(columns, dtype=free.dtype, device=free.device)
            u, v = tall[:columns], tall[columns:]
            if len(v):
                inverse = torch.linalg.inv(eye + u - u.mT + v.mT @ v)
                point = self._turn(torch.cat([2 * inverse - eye, -2 * v @ inverse]))
            else:
                point = self._turn(2 * torch.linalg.inv(eye + u - u.mT) - eye)
            with torch.no_grad():
                error = eye - point.mT @ point
                half = error / 2
                if len(v):  # V'V squares the condition of the inverse
                    half = half + 0.375 * error @ error
                mend = point @ half
            point = point + mend
        return point if free.shape[0] >= free.shape[1] else point.mT

    def _turn(self, point: Tensor) -> Tensor:
        """``B @ point``."""
        if self.compact:
            return point - self.y @ (self.t @ (self.y.mT @ point))
        return self.base @ point

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The free tensor at which training starts: 0."""
        return torch.zeros_like(weight)


class OrthogonalKernel(nn.Module):
    """A parametrization of a convolution's weight that makes the convolution orthogonal.

    On the infinite grid, or a large enough torus, the convolution has all singular values 1 (rows
    or columns orthonormal, whichever are fewer); under zero padding, for every picture size, all
    are at most 1. The kernel in polyphase form (see :mod:`wgan.layers.convolution`) is the product

        ``K(z) = prod_axis prod_j (P_j + (I - P_j) z_axis) H``

    of a semi-orthogonal H and projections ``P_j = U_j U_j'`` of half rank: every factor is unitary
    at ``|z| = 1``, so the product is (Li et al. 2019, BCOP; Su, Byeon, Huang 2022 for the separable
    form). With stride s only the first ``s floor(taps / s)`` taps of an axis are used, the largest
    kernel that is whole blocks; taps <= s give one block.

    Args:
        layer: The convolution, plain or transposed; its weight's first block starts H.
        rng: Draws the initial projections.
    """

    def __init__(self, layer: nn.Module, rng: torch.Generator) -> None:
        super().__init__()
        weight = layer.weight
        assert isinstance(weight, Tensor)
        stride: Sequence[int] = layer.stride  # type: ignore[assignment]
        self.outs, self.ins, *taps = weight.shape
        self.taps = tuple(taps)
        self.phases = tuple(min(s, k) for s, k in zip(stride, taps, strict=True))
        self.blocks = tuple(k // p for k, p in zip(taps, self.phases, strict=True))
        inputs = self.ins * math.prod(self.phases)
        self.wide = self.outs < inputs
        size = max(self.outs, inputs)
        centre = weight.detach()
        for axis, phase in enumerate(self.phases, start=2):
            centre = centre.narrow(axis, (centre.shape[axis] - phase) // 2, phase)
        starts = [_tall(centre.flatten(1))]
        for axis_blocks in self.blocks:
            for j in range(axis_blocks - 1):
                rank = (size + j % 2) // 2
                starts.append(torch.randn(size, rank, generator=rng).to(weight))
        self.frames = nn.ModuleList(SemiOrthogonal(start) for start in starts)
        self.shapes = [start.shape for start in starts]

    def forward(self, *free: Tensor) -> Tensor:
        with torch.autocast(free[0].device.type, enabled=False):
            head, *projections = (f(x) for f, x in zip(self.frames, free, strict=True))
            kernel = head.reshape(*head.shape, *[1] * len(self.blocks))
            factors = iter(projections)
            for axis, axis_blocks in enumerate(self.blocks, start=2):
                for _ in range(axis_blocks - 1):
                    kernel = _delay(next(factors), kernel, axis)
            return self._weight(kernel.transpose(0, 1) if self.wide else kernel)

    def _weight(self, kernel: Tensor) -> Tensor:
        """From polyphase form ``[out, in * prod(phases), *blocks]`` to ``[out, in, *taps]``."""
        dims = len(self.taps)
        kernel = kernel.reshape(self.outs, self.ins, *self.phases, *self.blocks)
        order = [axis for d in range(dims) for axis in (2 + dims + d, 2 + d)]
        used = [p * b for p, b in zip(self.phases, self.blocks, strict=True)]
        kernel = kernel.permute(0, 1, *order).reshape(self.outs, self.ins, *used)
        unused = [k - u for k, u in zip(self.taps, used, strict=True)]
        return F.pad(kernel, [edge for n in reversed(unused) for edge in (0, n)])

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """The free tensors at which training starts: 0."""
        return tuple(weight.new_zeros(shape) for shape in self.shapes)


def orthogonalise(layer: nn.Module, rng: torch.Generator | None = None) -> nn.Module:
    """Parametrise one dense or convolutional layer as an orthogonal one, in place.

    The weight of a Linear layer gets all singular values 1 (a layer to one output: unit length); a
    convolution, plain or transposed, of any stride and zero padding gets operator norm at most 1.
    Both within 1e-5 in float32, at every moment of training; autocast is off inside. The bias
    stays as it is.

    The weight is computed at each forward. Where several come before one update, wrap them in
    ``torch.nn.utils.parametrize.cached()``.

    Args:
        layer: Linear, Conv1d to 3d or ConvTranspose1d to 3d.
        rng: For the initial projections of a convolution; a fixed seed without one.

    Returns:
        The same layer; its free tensors are ``parametrizations.weight.original*``.

    Raises:
        UserError: Another layer; one with groups, with stride and dilation both above 1, with a
            padding that repeats samples, or with a parametrised weight.
    """
    kind = type(layer).__name__
    if not isinstance(layer, (nn.Linear, *conv.CONVOLUTIONS, *conv.TRANSPOSED)):
        raise UserError(f"cannot make {kind} orthogonal; Linear, Conv and ConvTranspose layers can")
    if parametrize.is_parametrized(layer, "weight"):
        raise UserError(f"cannot make {kind} orthogonal: its weight is parametrised already")
    parametrization: nn.Module
    if isinstance(layer, nn.Linear):
        parametrization = SemiOrthogonal(layer.weight)
    else:
        conv.require_zero_padding(layer, "an orthogonal convolution")
        if layer.groups != 1:
            raise UserError(f"cannot make {kind} orthogonal with groups={layer.groups}; use 1")
        if max(layer.stride) > 1 and max(layer.dilation) > 1:
            raise UserError(
                f"cannot make {kind} orthogonal with stride {layer.stride} and dilation "
                f"{layer.dilation} both above 1; set one of them to 1"
            )
        rng = rng or torch.Generator().manual_seed(0)
        parametrization = OrthogonalKernel(layer, rng)
    parametrize.register_parametrization(layer, "weight", parametrization, unsafe=True)
    return layer


def _tall(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


def _delay(frame: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """``(P + (I - P) z) K(z)`` with ``P = U U'``: one block longer along `axis`."""
    flat = kernel.flatten(1)
    kept = (frame @ (frame.mT @ flat)).reshape(kernel.shape)
    room = [edge for a in range(kernel.dim() - 1, axis, -1) for edge in (0, 0)]
    return F.pad(kept, [*room, 0, 1]) + F.pad(kernel - kept, [*room, 1, 0])
