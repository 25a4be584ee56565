"""Activations that keep a network's slope."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wgan.errors import UserError


class GroupSort(nn.Module):
    """Sort the channels in groups, ascending: 1-Lipschitz in every norm, its gradient norm kept.

    A ReLU loses slope wherever it is off; a permutation loses none, so that a network of orthogonal
    layers and GroupSort can have slope 1 everywhere (Anil, Lucas, Grosse 2019). With ``n`` channels
    and groups of ``s``, channels ``i, i + n//s, i + 2 n//s, ...`` form a group, and what is left of
    ``n / s`` is sorted by itself.

    Args:
        size: Channels in a group, >= 2 (2: MaxMin), or None to sort all of them.
        axis: The axis of the channels: 1 for ``[batch, c, *space]``, -1 for ``[..., k]``.
        share: In (0, 1]: of the channels that are sorted, the first ones. The others pass as they
            are, which keeps a linear way through the network.
    """

    def __init__(self, size: int | None = 2, axis: int = 1, share: float = 1.0) -> None:
        super().__init__()
        if size is not None and size < 2:
            raise UserError(f"GroupSort: `size` must be >= 2, or None for a full sort, got {size}")
        if not 0 < share <= 1:
            raise UserError(f"GroupSort: `share` must be in (0, 1], got {share}")
        self.size = size
        self.axis = axis
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        axis = self.axis % values.dim()
        channels = values.shape[axis]
        touched = self.touched(channels)
        if touched == channels:
            return _sort(values, self.size, axis)
        first, rest = torch.split(values, [touched, channels - touched], axis)
        return torch.cat([_sort(first, self.size, axis), rest], axis)

    def touched(self, channels: int) -> int:
        """How many of so many channels are sorted."""
        return math.ceil(self.share * channels)

    def extra_repr(self) -> str:
        return f"size={self.size}, axis={self.axis}, share={self.share:g}"


def _sort(values: Tensor, size: int | None, axis: int) -> Tensor:
    channels = values.shape[axis]
    size = size or channels
    whole = channels // size * size
    if whole == channels:
        return _sort_groups(values, size, axis)
    left_over = values.narrow(axis, whole, channels - whole).sort(axis).values
    return torch.cat([_sort_groups(values.narrow(axis, 0, whole), size, axis), left_over], axis)


def _sort_groups(values: Tensor, size: int, axis: int) -> Tensor:
    """Sort groups of `size`; the length of the axis is a multiple of it."""
    if size == 2:  # two elementwise operations are several times quicker than a sort
        first, second = values.chunk(2, axis)
        return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], axis)
    shape = values.shape
    groups = values.reshape(*shape[:axis], size, shape[axis] // size, *shape[axis + 1 :])
    return groups.sort(axis).values.reshape(shape)
