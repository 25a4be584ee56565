"""Arrays of any shape as sources: in memory, memory-mapped, or read from a file row by row."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Iterator
from dataclasses import replace
from mmap import mmap
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.data.base import Blocks, Source, split_finite
from wgan.data.codec import Codec, Kind, Layout, Scale
from wgan.data.options import LAYOUTS
from wgan.errors import UserError
from wgan.types import Batch

IN_MEMORY_BYTES = 2**30
"""What may be decoded into memory; anything larger is read where it lies."""

BLOCK_BYTES = 2**24


class Rows(Protocol):
    """What is read like an array: a slice, or any samples by number, along the first axis.

    `blocks` is a further attribute of those that are read in blocks.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, key: Any, /) -> NDArray[Any]: ...


class FileChangedError(OSError):
    """A file was written to while samples were read from it."""


Stamp = tuple[int, int]
"""Size and time of change of a file."""


def stamp(state: os.stat_result) -> Stamp:
    """What tells that a file has been changed."""
    return state.st_size, state.st_mtime_ns


class Steady:
    """A file that must stay as it is while samples are read from it.

    One that is replaced or removed goes on being read as it was. One that is written to would
    change the samples under a run's feet.
    """

    def __init__(self, path: str | os.PathLike[str], state: Stamp | None = None) -> None:
        """Open a file, which must be as it was at an earlier time where `state` is given."""
        self._path = os.fspath(path)
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            if state is None:
                raise
            raise FileChangedError(
                f"{self._path} was there and cannot be read any more: {error.strerror}"
            ) from None
        weakref.finalize(self, os.close, self._file)
        self._state = state or self._now()
        self.check()

    def _now(self) -> Stamp:
        return stamp(os.fstat(self._file))

    def check(self) -> None:
        """Raise `FileChangedError` if it has been written to."""
        if self._now() != self._state:
            raise FileChangedError(f"{self._path} was changed while it was in use")

    def read(self, into: memoryview, at: int) -> None:
        """Fill `into` from position `at` on; unlike a memory map, it survives a file cut short."""
        if os.preadv(self._file, [into], at) < len(into):
            raise FileChangedError(f"{self._path} was cut short while it was in use")


class Mapped:
    """The array of a memory map, read from its file; what is read of it is a copy.

    Touching a map whose file was cut short ends the process without a word, so samples are read by
    position, except in a file whose samples are scattered (Fortran order) and in a part of a map.
    """

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        assert array.filename is not None
        self._file = Steady(array.filename)
        self._array = array
        self._by_sample = bool(array.flags.c_contiguous) and isinstance(array.base, mmap)
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype

    def __getitem__(self, key: slice | NDArray[np.int64]) -> NDArray[Any]:
        self._file.check()
        first = key.indices(self.shape[0])[:2] if isinstance(key, slice) else None
        if not self._by_sample or (first and key.step not in (None, 1)):  # type: ignore[union-attr]
            return np.array(self._array[key])
        size = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        if first:
            places, length = [first[0]], max(0, first[1] - first[0])
            read = np.empty((length, *self.shape[1:]), self.dtype)
            parts = [read.reshape(-1).view(np.uint8).data] if read.size else []
        else:
            places = key.tolist()  # type: ignore[union-attr]
            read = np.empty((len(places), *self.shape[1:]), self.dtype)
            parts = [row.data for row in read.reshape(len(places), -1).view(np.uint8)]
        for place, part in zip(places, parts, strict=False):
            self._file.read(part, self._array.offset + place * size)
        self._file.check()
        return read


def steady(rows: Rows) -> Rows:
    """Rows that are checked for a change of their file, where they are mapped read-only."""
    if isinstance(rows, np.memmap) and rows.mode == "r" and rows.filename is not None:
        return Mapped(rows)
    return rows


def in_memory(rows: Rows) -> Rows:
    """Rows that stand in no file any more, if they are few enough."""
    size = rows.dtype.itemsize * int(np.prod(rows.shape))
    return rows[:] if isinstance(rows, Mapped) and size <= IN_MEMORY_BYTES else rows


class ArraySource:
    """Samples along the first axis of an array.

    Args:
        name: A short name.
        rows: The samples, ``[n, *codec.own_shape]``. A reference is kept, not a copy.
        codec: Own units to training units.
        fingerprint: The hash of the content and of how it is read.
        about: What :meth:`describe` tells beside shape and size.
    """

    def __init__(
        self, name: str, rows: Rows, codec: Codec, fingerprint: str, about: dict[str, Any]
    ) -> None:
        self.name = name
        self.codec = codec
        self.size: int | None = rows.shape[0]
        self.fingerprint = fingerprint
        rows = steady(rows)
        self._rows = rows
        self._about = about
        self._encoded: Tensor | None = None
        wide = codec.kind == "rows" or rows.dtype.itemsize >= 4
        if wide and 4 * rows.shape[0] * int(np.prod(codec.shape)) <= IN_MEMORY_BYTES:
            self._encoded = torch.empty(rows.shape[0], *codec.shape)
            for start, block in blocks(rows):
                self._encoded[start : start + len(block)] = codec.encode(block)
        else:
            self._rows = in_memory(rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample in training units."""
        return self.codec.shape

    @property
    def blocks(self) -> Blocks | None:
        """The blocks in which the rows are read, if they are."""
        return getattr(self._rows, "blocks", None)

    def batch(self, indices: Tensor) -> Batch:
        """The samples with these numbers; only they are read."""
        if self._encoded is not None:
            return Batch(self._encoded[indices])
        return Batch(self.codec.encode(self._rows[indices.numpy()]))

    def describe(self) -> dict[str, Any]:
        """What it is, in plain data."""
        return {
            "name": self.name,
            **self._about,
            "kind": self.codec.kind,
            "shape": list(self.shape),
            "size": self.size,
            "own_shape": list(self.codec.own_shape),
            "dtype": self.codec.dtype,
            "fingerprint": self.fingerprint,
        }

    def split(self, holdout: float, seed: int) -> tuple[Source, Source]:
        """A training part and a held-out part."""
        return split_finite(self, holdout, seed)


def from_array(rows: Rows, name: str, where: str, layout: str | None = None) -> ArraySource:
    """A source of an array of numbers.

    Pictures of bytes go from 0..255 to [-1, 1], whatever they hold. Other images, and all volumes,
    go from their smallest and largest number to [-1, 1]. Rows are standardised, number by number.
    All of it is found in one pass by blocks, with the fingerprint.

    Args:
        rows: ``[n, ...]``, integers, booleans or finite floating-point numbers.
        name: A short name.
        where: What to call it in an error: a path, or "the array".
        layout: One of `wgan.data.options.LAYOUTS`, or None to guess from the shape.

    Raises:
        UserError: No numbers, no samples, a shape that the layout does not fit, or values that are
            not finite (with their count and the first place).
    """
    if rows.dtype.kind not in "biuf":
        raise UserError(f"{where} holds {rows.dtype}, not numbers")
    if len(rows.shape) == 0 or 0 in rows.shape:
        raise UserError(f"{where} has shape {tuple(rows.shape)}: no samples in it")
    rows = steady(rows)
    reading = read_shape(tuple(rows.shape), layout, where)
    found = scan(rows, where, moments=reading.kind == "rows")
    codec = Codec(
        kind=reading.kind,
        shape=reading.shape,
        layout=reading.layout,
        flattened=reading.flattened,
        dtype=rows.dtype.name,
    )
    if reading.kind == "rows":
        codec = replace(codec, values=found.moments.standardise())
        scaled = "standardised, number by number"
    elif reading.kind == "image" and rows.dtype == np.uint8:
        codec = replace(codec, values=Scale.between(0, 255), low=0.0, high=255.0, bounded=True)
        scaled = "0..255 to -1..1"
    else:
        low, high = found.low, found.high
        codec = replace(codec, values=Scale.between(low, high), low=low, high=high, bounded=True)
        scaled = f"{low:g}..{high:g} (smallest and largest seen) to -1..1"
    about = {"what": f"an array read as {reading.words}", "scaled": scaled}
    return ArraySource(name, rows, codec, fingerprint(codec, found.digest), about)


class Reading(NamedTuple):
    """How an array is read: see the fields of the same names of `Codec`."""

    kind: Kind
    layout: Layout
    shape: tuple[int, ...]
    flattened: tuple[int, ...] | None = None

    @property
    def words(self) -> str:
        """For people: "images, channels-last"."""
        plural = {"image": "images", "volume": "volumes", "rows": "rows"}[self.kind]
        return plural if self.kind == "rows" else f"{plural}, {self.layout}"


def read_shape(shape: tuple[int, ...], layout: str | None, where: str) -> Reading:
    """How to read an array of this shape ``(n, ...)``; `layout` insists, None guesses."""
    own = shape[1:]
    if layout is None:
        layout = _guess(own, where)
    if layout == "rows":
        if not own:
            return Reading("rows", "no-channels", (1,))
        return Reading("rows", "channels-first", (int(np.prod(own)),), own if own[1:] else None)
    kind: Kind = "image" if layout.startswith("images") else "volume"
    rank = {"image": 2, "volume": 3}[kind]
    if layout.endswith("-last") and len(own) == rank + 1:
        return Reading(kind, "channels-last", (own[-1], *own[:-1]))
    if not layout.endswith("-last") and len(own) == rank + 1:
        return Reading(kind, "channels-first", own)
    if not layout.endswith("-last") and len(own) == rank:
        return Reading(kind, "no-channels", (1, *own))
    raise UserError(f"layout `{layout}` means {LAYOUTS[layout]}; {where} has shape {shape}")


def _guess(own: tuple[int, ...], where: str) -> str:
    if len(own) < 2:
        return "rows"
    if len(own) == 2:
        return "images"
    if len(own) > 4:
        raise UserError(
            f"{where} has samples of shape {own}; insist on layout `rows` to learn them"
        )
    first, last = own[0] in (1, 3, 4), own[-1] in (1, 3, 4)
    if len(own) == 3:
        if first and last:
            raise UserError(
                f"{where} has samples of shape {own}, where the channels may stand first or last; "
                "insist on a layout: `images`, `images-last` or `volumes`"
            )
        return "images" if first else "images-last" if last else "volumes"
    return "volumes-last" if last and not first else "volumes"


def blocks(rows: Rows, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, NDArray[Any]]]:
    """The samples in order, some at a time, each time with the number of the first."""
    n = rows.shape[0]
    step = max(1, block_bytes // max(1, rows.dtype.itemsize * int(np.prod(rows.shape[1:]))))
    for start in range(0, n, step):
        yield start, rows[start : start + step]


class Moments:
    """Extremes, mean and variance per column, block by block (Chan et al. 1979)."""

    def __init__(self, columns: int) -> None:
        self.count = 0
        self.low = np.full(columns, np.inf)
        self.high = np.full(columns, -np.inf)
        self.mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    def add(self, block: NDArray[np.float64]) -> None:
        """Take in a block ``[rows, columns]``; an empty one changes nothing."""
        if not len(block):
            return
        count = self.count + len(block)
        mean = block.mean(axis=0)
        shift = mean - self.mean
        self._squares += np.square(block - mean).sum(axis=0)
        self._squares += shift**2 * (self.count * len(block) / count)
        self.mean += shift * (len(block) / count)
        self.low = np.minimum(self.low, block.min(axis=0))
        self.high = np.maximum(self.high, block.max(axis=0))
        self.count = count

    def standardise(self) -> Scale:
        """The map to zero mean and unit variance per column; a constant one goes to 0."""
        constant = self.high <= self.low
        # Rounding gives a constant column a mean beside it and a variance that is not quite 0.
        mean = np.where(constant, self.low, self.mean)
        deviation = np.sqrt(self._squares / self.count)
        scale = np.where(constant | (deviation == 0), 1.0, deviation)
        return Scale(tuple(mean.tolist()), tuple(scale.tolist()))


class Scan(NamedTuple):
    """What one pass over an array finds."""

    low: float
    high: float
    moments: Moments
    digest: str


def scan(rows: Rows, where: str, moments: bool) -> Scan:
    """The extremes and a hash of all samples, and the moments of each number if asked for.

    Raises:
        UserError: Values that are not finite.
    """
    hashed = hashlib.sha256(f"{rows.dtype.name}{tuple(rows.shape)}".encode())
    found = Moments(int(np.prod(rows.shape[1:])) if moments else 0)
    low, high = np.inf, -np.inf
    bad, place = 0, ""
    for start, block in blocks(rows):
        hashed.update(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).data)
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            wrong = ~np.isfinite(block)
            if not bad:
                sample, *rest = (int(i) for i in np.argwhere(wrong)[0])
                place = str([start + sample, *rest])
            bad += int(wrong.sum())
        if not bad:
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            if moments:
                found.add(block.reshape(len(block), -1).astype(np.float64))
    if bad:
        raise UserError(
            f"{where} holds {bad} values that are NaN or infinite, the first at {place}; "
            "remove or replace them"
        )
    return Scan(low, high, found, hashed.hexdigest())


def fingerprint(codec: Codec, digest: str) -> str:
    """A hash of the content and of how it is read.

    The scale is left out: it follows from the content, and its last bits depend on the machine.
    """
    settings = [codec.kind, codec.shape, codec.layout, codec.dtype, codec.columns, codec.dtypes]
    return hashlib.sha256(f"{json.dumps(settings)}{digest}".encode()).hexdigest()
