"""A convolution as a linear operator: its kernel without the stride, and a bound on its norm.

A convolution of stride s is one of stride 1 on the image cut into s-wide blocks, each block's
entries stacked as channels (its *polyphase* form). What holds of that operator on the infinite grid
holds for every picture size and every zero padding, because padding and cutting only restrict it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wgan.errors import UserError

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
TransposedConvolution = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def polyphase(kernel: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """The kernel of the same operator at stride 1, on blocks.

    Args:
        kernel: ``[out, in, *taps]``. For a transposed convolution its own weight, read as the
            kernel of its adjoint, which has the same norm.
        stride, dilation: One per spatial axis.

    Returns:
        ``[out, in * prod(stride), *ceil(width / stride)]``, ``width = dilation (taps - 1) + 1``.
    """
    taps = kernel.shape[2:]
    for axis, (size, gap) in enumerate(zip(taps, dilation, strict=True), start=2):
        if gap > 1 and size > 1:
            wide = kernel.new_zeros(
                *kernel.shape[:axis], gap * (size - 1) + 1, *kernel.shape[axis + 1 :]
            )
            kernel = wide.index_copy(axis, torch.arange(size, device=kernel.device) * gap, kernel)
    blocks = [math.ceil(size / s) for size, s in zip(kernel.shape[2:], stride, strict=True)]
    padding = [
        edge
        for size, s, n in zip(kernel.shape[2:], stride, blocks, strict=True)
        for edge in (0, n * s - size)
    ]
    kernel = F.pad(kernel, _last_axis_first(padding))
    split = [part for n, s in zip(blocks, stride, strict=True) for part in (n, s)]
    kernel = kernel.reshape(*kernel.shape[:2], *split)
    dims = len(blocks)
    block_axes = [2 + 2 * d for d in range(dims)]
    phase_axes = [3 + 2 * d for d in range(dims)]
    kernel = kernel.permute(0, 1, *phase_axes, *block_axes)
    return kernel.reshape(kernel.shape[0], -1, *blocks)


def operator_norm_bound(
    weight: Tensor,
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    oversampling: int = 8,
) -> float:
    """An upper bound on a convolution's operator norm, for any picture size and zero padding.

    ``sup_w |K(w)|`` is the norm on the infinite grid, K(w) the matrix of Fourier sums of the
    polyphase kernel. ``|K(w) v|^2`` is a trigonometric polynomial of degree k - 1 in each
    frequency, so its largest value on n > 2 (k - 1) equispaced frequencies, divided by
    ``cos(pi (k - 1) / n)`` per axis, bounds it everywhere (Ehlich and Zeller 1964). Singular values
    are computed in float64; their rounding, about 1e-15 relative, is not added.

    Args:
        weight: ``[out, in / groups, *taps]``, or a transposed convolution's ``[in, out / groups,
            *taps]``.
        stride, dilation: One per spatial axis.
        groups: As the layer's.
        oversampling: n = oversampling (k - 1), > 2; the bound is above the norm by at most the
            square root of the product of the cosines: 4% per axis for 8, 1% for 16.
    """
    if oversampling <= 2:
        raise UserError(f"`oversampling` must be > 2, got {oversampling}")
    kernel = polyphase(weight.detach().double(), stride, dilation)
    grid = frequencies(kernel.shape[2:], oversampling)
    axes = tuple(range(2, kernel.dim()))
    symbol = torch.fft.fftn(kernel, s=grid, dim=axes) if axes else kernel
    matrices = symbol.flatten(2).movedim(2, 0)
    parts = matrices.chunk(groups, 1)
    largest = max(float(torch.linalg.matrix_norm(part, ord=2).max()) for part in parts)
    return largest * grid_excess(kernel.shape[2:], oversampling)


def frequencies(blocks: Sequence[int], oversampling: int) -> tuple[int, ...]:
    """Frequencies per axis at which a kernel of this many blocks is looked at."""
    return tuple(max(1, oversampling * (n - 1)) for n in blocks)


def grid_excess(blocks: Sequence[int], oversampling: int) -> float:
    """The factor, >= 1, by which the norm between the frequencies may exceed that at them."""
    square = math.prod(1 / math.cos(math.pi / oversampling) for n in blocks if n > 1)
    return math.sqrt(square)


def circular(kernel: Tensor, values: Tensor, groups: int) -> Tensor:
    """``y[x] = sum_t K[t] v[x + t]`` on a torus: ``[1, in, *grid]`` to ``[1, out, *grid]``.

    A kernel ``[out, in]`` without taps acts on ``[1, in]``.
    """
    if kernel.dim() == 2:
        return values @ kernel.mT
    wrap = [edge for size in kernel.shape[2:] for edge in (0, size - 1)]
    wrapped = F.pad(values, _last_axis_first(wrap), mode="circular")
    convolve = (F.conv1d, F.conv2d, F.conv3d)[kernel.dim() - 3]
    return convolve(wrapped, kernel, groups=groups)


def circular_adjoint(kernel: Tensor, values: Tensor, groups: int) -> Tensor:
    """The adjoint of :func:`circular`: ``[1, out, *grid]`` to ``[1, in, *grid]``."""
    if kernel.dim() == 2:
        return values @ kernel
    taps = kernel.shape[2:]
    turned = kernel.reshape(groups, -1, *kernel.shape[1:]).transpose(1, 2).flatten(0, 1)
    turned = turned.flip(tuple(range(2, kernel.dim())))
    wrap = [edge for size in taps for edge in (size - 1, 0)]
    wrapped = F.pad(values, _last_axis_first(wrap), mode="circular")
    convolve = (F.conv1d, F.conv2d, F.conv3d)[kernel.dim() - 3]
    return convolve(wrapped, turned, groups=groups)


def require_zero_padding(layer: nn.Module, what: str) -> None:
    """Raise `UserError` where the padding repeats samples, so that the norm depends on the size.

    Circular padding is accepted where it makes the layer a convolution on the torus: stride 1, as
    many outputs as inputs.
    """
    mode = getattr(layer, "padding_mode", "zeros")
    if mode == "zeros":
        return
    if mode == "circular" and isinstance(layer, CONVOLUTIONS):
        same = layer.padding == "same" or all(
            isinstance(pad, int) and 2 * pad == gap * (size - 1)
            for pad, gap, size in zip(layer.padding, layer.dilation, layer.kernel_size, strict=True)
        )
        if same and all(s == 1 for s in layer.stride):
            return
    raise UserError(
        f"{what} cannot bound {type(layer).__name__} with `padding_mode` {mode!r}, which repeats "
        "samples; use 'zeros', or 'circular' with stride 1 and as many outputs as inputs"
    )


def _last_axis_first(edges: Sequence[int]) -> list[int]:
    """Pairs (before, after) per axis in the order that `F.pad` reads them."""
    pairs = [edges[i : i + 2] for i in range(0, len(edges), 2)]
    return [edge for pair in reversed(pairs) for edge in pair]
