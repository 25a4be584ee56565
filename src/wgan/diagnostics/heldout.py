"""Held-out data as what generators are held against: for choosing, and apart for reporting."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from wgan.data.base import Source
from wgan.data.codec import Codec
from wgan.diagnostics.excess import (
    FEWEST,
    Excess,
    Points,
    Space,
    Yardstick,
    choose_space,
    raw,
    slices,
)
from wgan.metrics.features import feature_space
from wgan.types import Batch

MOST_NUMBERS = 2**22
"""Held in one array of samples."""

SELECT = 2 / 3
"""Share of the held-out data by which checkpoints are chosen and runs stopped."""

_MOST = 500  # samples in each half that is compared

View = Callable[[Tensor, Tensor | None], Points]
"""Samples in training units, and their conditions, to points ``[n, dim]``."""


@dataclass(frozen=True)
class Sizes:
    """How much of the held-out data goes where.

    Attributes:
        select: In each of the two halves that choose.
        report: In each of the two that do not; 0 where there are too few.
    """

    select: int
    report: int

    @classmethod
    def of(cls, held: int | None, dim: int, share: float = SELECT) -> Sizes | None:
        """The sizes for `held` samples (None: unlimited) of `dim` numbers; None: too few."""
        most = max(4 * FEWEST, min(_MOST, MOST_NUMBERS // dim))
        if held is None:
            return cls(most, most)
        select = min(most, int(share * held) // 2)
        if select < FEWEST:
            return None
        report = min(most, (held - 2 * select) // 2)
        return cls(select, report if report >= FEWEST else 0)


@dataclass(frozen=True)
class Part:
    """Some held-out samples in random order, and how a generator's compare with them.

    Attributes:
        batch: The samples in training units, with their conditions.
        view: How the excess sees samples.
        space: Where it compares them.
    """

    batch: Batch
    view: View
    space: Space

    @cached_property
    def yardstick(self) -> Yardstick:
        """Two halves of it."""
        return Yardstick(self.view(*self.batch), self.space)

    def excess(self, fakes: Tensor) -> Excess:
        """The excess of as many fakes ``[n, *shape]``, under the part's conditions."""
        return self.yardstick(self.view(fakes, self.batch.condition))

    def __len__(self) -> int:
        return len(self.batch.values)


class HeldOut:
    """The held-out data of a run, in two parts.

    Args:
        heldout: What is never trained on.
        sizes: How much of it goes where.
        features: Where the excess is taken: ``auto`` (raw or slices), ``raw``, ``slices``, or what
            :func:`wgan.metrics.features.feature_space` knows (``pca:K``, a weights file,
            ``MODULE:FUNCTION``), which leaves conditions out.

    Attributes:
        select: By which things are chosen.
        report: On which they are reported; None where there are too few samples.
        units: Samples as points in the data's own unit.
        unit: Of the excess, in words.
        space: Where the excess compares samples.
    """

    def __init__(self, heldout: Source, sizes: Sizes, features: str = "auto") -> None:
        count = 2 * (sizes.select + sizes.report)
        if heldout.size is None:
            rows = torch.arange(count)
        else:
            rows = torch.randperm(heldout.size, generator=torch.Generator().manual_seed(0))[:count]
        held = read(heldout, rows)
        first, rest = rows_of(held, slice(2 * sizes.select)), None
        if sizes.report:
            rest = rows_of(held, slice(2 * sizes.select, None))
        self.units = Units(heldout.codec)
        view, self.space = self._seen(features, heldout.codec, first)
        self.unit = self.units.name if view is self.units else "the features' units"
        self.select = Part(first, view, self.space)
        self.report = None if rest is None else Part(rest, view, self.space)

    @classmethod
    def of(cls, heldout: Source, features: str = "auto", share: float = SELECT) -> HeldOut | None:
        """The parts of a run's held-out data; None where there are too few samples."""
        codec = heldout.codec
        sizes = Sizes.of(heldout.size, math.prod(codec.shape) + len(codec.condition), share)
        return None if sizes is None else cls(heldout, sizes, features)

    def _seen(self, features: str, codec: Codec, first: Batch) -> tuple[View, Space]:
        points = self.units(*first)
        n = len(points) // 2
        if features == "auto":
            return self.units, choose_space(points[:n], points[n : 2 * n])
        if features == "slices":
            return self.units, Space("slices", "", slices(points.shape[1]))
        if features == "raw":
            return self.units, Space("raw", "", raw)
        scale = codec.values.scale
        space = feature_space(
            features,
            codec.decode(first.values),
            scale=np.asarray(scale) if len(scale) > 1 else None,
            low=codec.low,
            high=codec.high,
        )
        return lambda values, _: space(codec.decode(values)), Space(space.name, "", raw)


class Units:
    """Samples, with their conditions, as flat points in the data's own unit.

    Where the numbers of a sample have units of their own (a table's columns) the unit is each
    one's standard deviation. A condition counts in its standard deviations times the data's unit.
    """

    def __init__(self, codec: Codec) -> None:
        scale = codec.values.scale
        self._scale = scale[0] if len(scale) == 1 else 1.0
        if len(scale) > 1:
            self.name = "standard deviations"
        else:
            self.name = "pixel levels" if codec.dtype == "uint8" else "the data's units"

    def __call__(self, values: Tensor, condition: Tensor | None) -> Points:
        """``[n, *shape]`` in training units to ``[n, dim]``."""
        flat = values.flatten(1)
        if condition is not None:
            flat = torch.cat([flat, condition], 1)
        return flat.double().numpy() * self._scale


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some samples of a batch."""
    values, condition = batch
    return Batch(values[rows], None if condition is None else condition[rows])


def read(source: Source, rows: Tensor) -> Batch:
    """Samples of a source by their numbers."""
    parts = [source.batch(part) for part in torch.split(rows, 1024)]
    conditions = [part.condition for part in parts if part.condition is not None]
    values = torch.cat([part.values for part in parts])
    return Batch(values, torch.cat(conditions) if conditions else None)
