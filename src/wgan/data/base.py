"""What a source of data is, how it is split, and in which order it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from wgan.data.codec import Codec
from wgan.errors import UserError
from wgan.types import Batch


class Blocks(NamedTuple):
    """Samples that are read in blocks, of which only some fit into memory at once.

    Attributes:
        of: The number of each sample's block, int64 ``[size]``.
        at_once: Blocks that are in memory at once, >= 1.
    """

    of: Tensor
    at_once: int


@runtime_checkable
class Source(Protocol):
    """Real samples, addressed by number.

    One whose samples are read in blocks has a further attribute, `blocks` (see :class:`Blocks`);
    its samples are then read in an order that does not read a block over and over.

    Attributes:
        name: A short name for run directories and titles (no slashes).
        codec: Own units to training units and back.
        size: Number of samples, or None for an unlimited (synthetic) source, whose n-th sample is
            a function of the seed and n alone.
        fingerprint: A hash of content and settings: equal fingerprints, equal samples.
    """

    @property
    def name(self) -> str: ...

    @property
    def codec(self) -> Codec: ...

    @property
    def size(self) -> int | None: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample in training units."""
        ...

    def batch(self, indices: Tensor) -> Batch:
        """The samples with these numbers, ``[batch, *shape]`` in training units on the CPU."""
        ...

    def describe(self) -> dict[str, Any]:
        """What it is, in plain data: for the card and `wgan data`."""
        ...

    def split(self, holdout: float, seed: int) -> tuple[Source, Source]:
        """A training part and a held-out part, disjoint, as a function of the seed."""
        ...


@dataclass(frozen=True)
class Subset:
    """Some samples of a finite source, in the order of `indices`."""

    source: Source
    indices: Tensor

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def codec(self) -> Codec:
        return self.source.codec

    @property
    def size(self) -> int:
        return len(self.indices)

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def blocks(self) -> Blocks | None:
        whole = blocks_of(self.source)
        return None if whole is None else Blocks(whole.of[self.indices], whole.at_once)

    def batch(self, indices: Tensor) -> Batch:
        return self.source.batch(self.indices[indices])

    def describe(self) -> dict[str, Any]:
        return {**self.source.describe(), "size": self.size}

    def split(self, holdout: float, seed: int) -> tuple[Source, Source]:
        return split_finite(self, holdout, seed)


def blocks_of(source: Source) -> Blocks | None:
    """The blocks in which a source is read; None where samples cost the same in any order."""
    blocks: Blocks | None = getattr(source, "blocks", None)
    return blocks


def spread_rows(size: int | None, count: int) -> Tensor:
    """Numbers of up to `count` of `size` samples, spread evenly; without an end, the first ones."""
    if size is None:
        return torch.arange(count)
    count = min(count, size)
    return torch.arange(count) * size // max(count, 1)


def split_finite(source: Source, holdout: float, seed: int) -> tuple[Subset, Subset]:
    """A seeded split of a finite source into training and held-out samples.

    Args:
        source: A source with a size.
        holdout: Share in [0, 1) that is never trained on; the held-out part has
            ``floor(holdout * size)`` samples.
        seed: Seed of the permutation.
    """
    assert source.size is not None
    if not 0 <= holdout < 1:
        raise UserError(f"`holdout` must be in [0, 1), got {holdout}")
    order = torch.randperm(source.size, generator=torch.Generator().manual_seed(seed))
    n_held = int(holdout * source.size)
    held, kept = order[:n_held].sort().values, order[n_held:].sort().values
    return Subset(source, kept), Subset(source, held)


class Order:
    """The order in which samples are read: a function of (seed, number drawn).

    A finite source gives every sample once per epoch, each epoch in its own order; an unlimited one
    counts up. There is nothing to save but the number drawn so far.

    Where samples lie in blocks, the blocks are shuffled, and then the samples of as many blocks as
    are in memory at once: all orders are not equally likely, and every block is read once.
    """

    def __init__(self, size: int | None, seed: int, blocks: Blocks | None = None) -> None:
        self.size = size
        self.seed = seed
        self.blocks = blocks
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.long)

    def take(self, start: int, count: int) -> Tensor:
        """Numbers of the samples drawn ``start`` to ``start + count - 1``, int64 ``[count]``."""
        if self.size is None:
            return torch.arange(start, start + count)
        parts = []
        while count > 0:
            epoch, offset = divmod(start, self.size)
            if epoch != self._epoch:
                rng = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
                self._permutation = self._shuffled(self.size, rng)
                self._epoch = epoch
            part = self._permutation[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return torch.cat(parts)

    def _shuffled(self, size: int, rng: torch.Generator) -> Tensor:
        samples = torch.randperm(size, generator=rng)
        if self.blocks is None:
            return samples
        place = torch.randperm(int(self.blocks.of.max()) + 1, generator=rng)
        window = place[self.blocks.of[samples]] // self.blocks.at_once
        return samples[window.argsort(stable=True)]
