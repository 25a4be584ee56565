"""How data is read: what a user may say beside its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from wgan.errors import UnknownNameError, UserError

Progress = Callable[[int, int], None]
"""Told how much is done, of how much."""

LAYOUTS = {
    "rows": "each sample is one flat row of numbers, whatever its shape; scaled per number",
    "images": "[n, height, width] grey, or [n, channels, height, width]",
    "images-last": "[n, height, width, channels]",
    "volumes": "[n, depth, height, width], or [n, channels, depth, height, width]",
    "volumes-last": "[n, depth, height, width, channels]",
}
"""What `DataOptions.layout` may be, and the array that each one means."""


@dataclass(frozen=True)
class DataOptions:
    """How to read a source; an option that does not apply to the data at hand is refused.

    Attributes:
        size: Height and width of pictures in pixels: a multiple of 4, from 8 up. Arrays keep their
            own size.
        key: Which array of an `.npz` or HDF5 file; not needed where there is only one.
        layout: How to read an array, one of :data:`LAYOUTS`. None guesses from its shape: [n] and
            [n, k] are rows, [n, h, w] grey images, four axes are images where the second or the
            last has length 1, 3 or 4 and volumes otherwise, five axes are volumes with channels.
        columns: The columns of a table to learn, in this order. None takes every column.
        condition: What the samples are conditioned on: columns of a table (they are then not
            learnt), or other arrays of the same `.npz` or HDF5 file, ``[n]`` or ``[n, k]``.
        drop_missing: Whether rows of a table with a missing value are left out, not refused.
        skip_bad: Whether pictures that cannot be read are left out, not refused.
        seed: Seed of a synthetic source.
        cache: Folder for decoded pictures (and for decoded HDF5 and parquet files larger than
            memory). None: `$WGAN_CACHE`, or the user's cache folder.

    Raises:
        UserError: A size that is no multiple of 4 or below 8, an unknown layout, a repeated name.
    """

    size: int = 64
    key: str | None = None
    layout: str | None = None
    columns: tuple[str, ...] | None = None
    condition: tuple[str, ...] | None = None
    drop_missing: bool = False
    skip_bad: bool = False
    seed: int = 0
    cache: Path | None = None

    def __post_init__(self) -> None:
        for name, kind in (
            ("size", int),
            ("seed", int),
            ("drop_missing", bool),
            ("skip_bad", bool),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                words = "a whole number" if kind is int else "true or false"
                raise UserError(f"`{name}` must be {words}, got {value!r}")
        for name in ("key", "layout"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise UserError(f"`{name}` must be a name, got {value!r}")
        if self.size < 8 or self.size % 4:
            raise UserError(f"`size` must be a multiple of 4, from 8 up, got {self.size}")
        if self.layout is not None and self.layout not in LAYOUTS:
            raise UnknownNameError("layout", self.layout, LAYOUTS)
        if not 0 <= self.seed < 2**64:
            raise UserError(f"`seed` must be in [0, 2**64), got {self.seed}")
        # A list from a configuration file, or one bare name, means the tuple.
        object.__setattr__(self, "columns", _names("columns", self.columns))
        object.__setattr__(self, "condition", _names("condition", self.condition))

    @property
    def cache_folder(self) -> Path:
        """Where decoded data is kept: `cache`, `$WGAN_CACHE`, or the user's cache folder."""
        if self.cache is not None:
            return Path(self.cache)
        if folder := os.environ.get("WGAN_CACHE"):
            return Path(folder)
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "wgan"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wgan"

    def refuse_others(self, what: str, *allowed: str) -> None:
        """Raise `UserError` for an option that was set and that `what` has no use for."""
        for field in fields(self):
            if field.name in {"size", "seed", "cache", *allowed}:
                continue  # the first three have useful defaults, which a caller may spell out
            value = getattr(self, field.name)
            if value != field.default:
                raise UserError(f"`{field.name}` does not apply to {what}; leave it out")


def _names(field: str, value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    given: object = value  # of a file, it may be anything
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise UserError(f"`{field}` must be a list of names, got {given!r}")
    names = (value,) if isinstance(value, str) else tuple(value)
    if len(set(names)) < len(names) or not names:
        raise UserError(f"`{field}` must name at least one and each only once, got {list(names)}")
    return names
