"""Stand-ins for tensors that depend on the sample, and the step that a rule bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

if TYPE_CHECKING:
    from wgan.bounds.tracing import Follower

SPREAD = (
    "divides a sample by its own moments, so that its slope has no useful bound; use norm `none` "
    "or `batch` (`critic_norm`) in its place"
)
STEEP = "has no bound on its slope; use an activation of bounded slope in its place"
PRODUCT = (
    "multiplies two values that both depend on the sample, so that its slope has no bound; use "
    "layers, sums and concatenations in its place"
)
RANDOM = "draws random numbers, so that the critic is not one function; leave it out"
MIXES = (
    "mixes the samples of a batch or moves the batch from the first axis; let every step act on "
    "each sample by itself"
)
NOT_FINITE = "has weights that are not finite; take an earlier checkpoint"


class Storage:
    """What tensors that share memory have in common: how often it was written to."""

    writes = 0


class Tracked(Tensor):
    """A stand-in for a tensor that depends on the sample: no values, a shape and a bound.

    Row i depends on sample i alone, with a Lipschitz constant of at most `bound` in the Euclidean
    norm of the flat row. Infinity marks what may only be passed over (the positions of a sort).
    """

    bound: float
    storage_of: Storage
    writes: int  # to the storage when the bound was found

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


@dataclass
class Step:
    """One call of a function without in-place effects, as its rule sees it.

    A rule takes the step and the call's own arguments and returns the result's bound.
    """

    follower: Follower
    name: str
    func: Callable[..., Any]
    shape: torch.Size  # of the result

    def refuse(self, reason: str) -> NoReturn:
        self.follower.refuse(self.name, reason)

    def norm(self, matrix: Tensor) -> float:
        """The largest singular value; its rounding goes into the margin."""
        self.follower.rounding += 4 * max(matrix.shape)
        matrix = matrix.detach().double()
        if not matrix.isfinite().all():
            self.refuse(NOT_FINITE)
        return float(torch.linalg.matrix_norm(matrix, 2)) if matrix.numel() else 0.0

    def spread(self, x: Tensor) -> float:
        """The norm of broadcasting x to the result's shape."""
        if x.dim() != len(self.shape) or x.shape[0] != self.shape[0]:
            self.refuse(MIXES)
        return math.sqrt(math.prod(self.shape) / max(1, x.numel()))

    def reduced(self, x: Tensor, dim: int | Sequence[int] | None) -> int:
        """How many entries a reduction over these axes takes together."""
        axes = [dim] if isinstance(dim, int) else list(dim or ())
        axes = [axis % x.dim() for axis in axes]
        if not axes or 0 in axes:
            self.refuse(MIXES)
        return math.prod(x.shape[axis] for axis in axes)

    @property
    def dims(self) -> int:
        """The spatial axes, of a function called `...2d`."""
        return int(self.name[-2])

    def window_axes(self, x: Tensor) -> list[int]:
        """The sizes of the spatial axes, the last ones."""
        if x.dim() <= self.dims:
            self.refuse(MIXES)
        return list(x.shape[-self.dims :])
