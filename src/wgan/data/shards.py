"""Pictures in shards: tars in WebDataset's layout, or parquet files with columns of picture bytes.

They are read where they lie. One pass over them, whose result is kept in the cache, says where each
picture is and hashes what there is; after that a picture costs one read of its own bytes (a tar) or
of its row group (parquet), in any order, and nothing else is read. Decoded pictures are kept in
memory where all of them fit.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wgan.data.arrays import (
    IN_MEMORY_BYTES,
    Stamp,
    Steady,
    in_memory,
    stamp,
    steady,
)
from wgan.data.base import Blocks, Source
from wgan.data.cache import Meta, decoded_once
from wgan.data.conditions import condition_on
from wgan.data.options import DataOptions, Progress
from wgan.data.pictures import (
    Bad,
    Glance,
    attempted,
    decode,
    glance,
    picture_formats,
    picture_source,
    refuse_bad,
    without_warnings,
)
from wgan.data.row_groups import RowGroups, in_blocks, kept_at_once
from wgan.data.tars import (
    CONDITIONS,
    MEMBER_BYTES,
    conditions_of,
    picture_of,
    refuse_large,
    samples,
)
from wgan.errors import UnknownNameError, UserError
from wgan.files import refuse_special

_OPEN_FILES = 32
_AT_ONCE = 256
_BYTES_AT_ONCE = 2**26

Index = NDArray[Any]
"""Where each picture is: `shard`, `at`, `length`, and its `condition` if there are any."""


class Found(NamedTuple):
    """A picture that the first pass has come by."""

    name: str
    content: bytes
    place: tuple[int, int, int]
    condition: list[float]


class Shards(Protocol):
    """Pictures in some files.

    Attributes:
        paths: The files, in order.
        settings: What identifies them and how they are read, plain data.
    """

    paths: list[Path]
    settings: list[Any]

    def found(self, meta: Meta) -> Iterator[Found]:
        """Every picture in order; `meta` gets `other`, what was passed over, and `widths`."""
        ...

    def contents(self, index: Index) -> list[bytes]:
        """The bytes of some pictures."""
        ...

    def where(self, entry: Any) -> str:
        """A picture in words."""
        ...

    def blocks(self, index: Index) -> Blocks | None:
        """The blocks in which these pictures are read."""
        ...


class Tars:
    """Tar files in WebDataset's layout."""

    def __init__(self, paths: Sequence[Path], options: DataOptions) -> None:
        self.paths = list(paths)
        for path in paths:
            _ordinary(path)
        self._stamps: list[Stamp] = [stamp(path.stat()) for path in paths]
        self._key = options.key
        self._asked = options.condition or ()
        self.settings: list[Any] = ["tars", self._stamps, self._key, self._asked]
        self._file = lru_cache(_OPEN_FILES)(self._opened)

    def _opened(self, number: int) -> Steady:
        return Steady(self.paths[number], self._stamps[number])

    def _read(self, number: int, at: int, length: int) -> bytes:
        file = self._file(number)
        file.check()
        content = bytearray(length)
        file.read(memoryview(content), at)
        file.check()
        return bytes(content)

    def found(self, meta: Meta) -> Iterator[Found]:
        meta.update(other=0, widths=None)
        kinds: set[str] = set()
        for number, path in enumerate(self.paths):
            for name, members in samples(path):
                kinds |= members.keys()
                picture = picture_of(path, name, members, self._key)
                if picture is None:
                    meta["other"] += 1
                    continue
                for kind, member in members.items():
                    if member is picture or kind in CONDITIONS:
                        refuse_large(path, name, kind, member)
                condition: list[float] = []
                if self._asked:
                    there = {
                        k: self._read(number, *m) for k, m in members.items() if k in CONDITIONS
                    }
                    numbers = conditions_of(path, name, there, self._asked)
                    widths = [len(n) for n in numbers]
                    meta["widths"] = meta["widths"] or widths
                    if widths != meta["widths"]:
                        raise UserError(
                            f"sample {name} of {path} has {widths} numbers of "
                            f"{', '.join(self._asked)}, and those before have {meta['widths']}"
                        )
                    condition = [one for part in numbers for one in part]
                yield Found(
                    f"{path.name}:{name}",
                    self._read(number, *picture),
                    (number, *picture),
                    condition,
                )
        if self._key is not None and self._key not in kinds:
            raise UnknownNameError(f"kind of member in {self.paths[0]}:", self._key, kinds)

    def contents(self, index: Index) -> list[bytes]:
        places = (index[name].tolist() for name in ("shard", "at", "length"))
        return [self._read(*place) for place in zip(*places, strict=True)]

    def where(self, entry: Any) -> str:
        return f"the picture at byte {entry['at']} of {self.paths[entry['shard']]}"

    def blocks(self, index: Index) -> Blocks | None:
        return None


class Parquets:
    """Parquet files with a column of picture bytes, by itself or as `bytes` within a struct.

    The second is how Hugging Face datasets keep pictures.
    """

    def __init__(self, groups: RowGroups, options: DataOptions) -> None:
        self.paths = groups.paths
        self._groups = groups
        self._asked = options.condition or ()
        self._column, self._leaf = _picture_column(groups, options.key)
        for name in self._asked:
            if name not in groups.types or not _is_numeric(groups.types[name]):
                known = [c for c, kind in groups.types.items() if _is_numeric(kind)]
                raise UnknownNameError(f"column of numbers in {self.paths[0]}:", name, known)
        self.settings: list[Any] = ["parquets", groups.stamps, self._column, self._asked]
        self._at_once = kept_at_once(len(groups.rows), groups.largest)
        self._pictures = lru_cache(self._at_once)(self._read)

    def _read(self, group: int) -> Any:
        return self._column_of(self._groups.read(group, [self._leaf], (self._leaf,)))

    def _column_of(self, table: Any) -> Any:
        """The dictionary of picture bytes of each row."""
        import pyarrow as pa

        column = table.column(self._column)
        if pa.types.is_struct(column.type):
            column = pa.chunked_array([chunk.field("bytes") for chunk in column.chunks])
        return column

    def found(self, meta: Meta) -> Iterator[Found]:
        import pyarrow as pa

        meta.update(other=0, widths=[1] * len(self._asked))
        for group in range(len(self._groups.rows)):
            table = self._groups.read(group, [self._leaf, *self._asked], (self._leaf,))
            pictures = self._column_of(table)
            numbers = [
                table.column(name).cast(pa.float64(), safe=False).to_numpy() for name in self._asked
            ]
            for row, picture in enumerate(pictures):
                yield Found(
                    f"row {row} of {self._groups.where(group)}",
                    _bytes_of(picture),
                    (group, row, 0),
                    [float(column[row]) for column in numbers],
                )

    def contents(self, index: Index) -> list[bytes]:
        # Group by group, so that none is read twice however few are kept.
        places = list(zip(index["shard"].tolist(), index["at"].tolist(), strict=True))
        read: list[bytes] = [b""] * len(places)
        for i in sorted(range(len(places)), key=places.__getitem__):
            group, row = places[i]
            read[i] = _bytes_of(self._pictures(group)[row])
        return read

    def where(self, entry: Any) -> str:
        return f"the picture in row {entry['at']} of {self._groups.where(entry['shard'])}"

    def blocks(self, index: Index) -> Blocks | None:
        of: NDArray[np.int64] = index["shard"].astype(np.int64)
        return in_blocks(of, len(self._groups.rows), self._at_once)


class ShardPictures:
    """Pictures in shards as rows of bytes, decoded when they are asked for.

    Args:
        shards: Where they are.
        index: Where each is among them.
        size: Height and width.
        grey: Whether they have one channel.
    """

    def __init__(self, shards: Shards, index: Index, size: int, grey: bool) -> None:
        self._shards, self._index = shards, index
        self.shape = (len(index), size, size) if grey else (len(index), size, size, 3)
        self.dtype = np.dtype(np.uint8)
        self._decode = decode(size, grey)
        self._formats = picture_formats()
        self._pool = ThreadPoolExecutor(_workers())
        self.blocks = shards.blocks(index)
        fits = int(np.prod(self.shape)) <= IN_MEMORY_BYTES
        self._kept = np.empty(self.shape, np.uint8) if fits else None
        self._have = np.zeros(len(index), bool)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        rows = np.arange(len(self._index))[key]
        if self._kept is None:
            return self._read(rows)
        new = np.unique(rows[~self._have[rows]])
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            self._kept[some] = self._read(some)
            self._have[some] = True
        kept: NDArray[np.uint8] = self._kept[rows]
        return kept

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        index = self._index[rows]
        read = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with without_warnings():
            decoded = self._pool.map(
                lambda content: attempted(
                    "", lambda: io.BytesIO(content), self._formats, self._decode
                ),
                self._shards.contents(index),
            )
            for i, picture in enumerate(decoded):
                if isinstance(picture, Bad):
                    raise UnreadableError(
                        f"{self._shards.where(index[i])} cannot be read: {picture.reason}; "
                        "to leave such pictures out, begin a run with `skip_bad`"
                    )
                read[i] = picture
        return read


class UnreadableError(OSError):
    """A picture whose header was good cannot be decoded."""


def open_tars(
    paths: Sequence[Path], name: str, options: DataOptions, progress: Progress | None = None
) -> Source:
    """The pictures of some tars, in the order of the files and of what is in them.

    Decoded as :func:`wgan.data.pictures.open_pictures` does. Without `options.skip_bad` only the
    headers of the pictures are looked at first, and one that is damaged further on stops whoever
    asks for it; with it all are decoded once, and those that cannot be are left out.

    Args:
        paths: The files.
        name: A short name.
        options: `size`, `key` (which member is the picture), `condition` (`cls`, `npy`, or a name
            in `json`), `skip_bad` and `cache` apply.
        progress: Called with how many pictures were looked at, of about how many.

    Raises:
        UserError: Whatever is wrong with them.
    """
    return _open(Tars(paths, options), paths[0].parent, name, options, progress)


def open_parquet_pictures(
    groups: RowGroups, name: str, options: DataOptions, progress: Progress | None = None
) -> Source:
    """The pictures of some parquet files, row by row; see :func:`open_tars`.

    Args:
        groups: The files.
        name: A short name.
        options: As there; `key` is the column of pictures, `condition` columns of numbers.
        progress: As there.

    Raises:
        UserError: Whatever is wrong with them.
    """
    return _open(Parquets(groups, options), groups.paths[0].parent, name, options, progress)


def has_pictures(groups: RowGroups) -> bool:
    """Whether a column of these files may hold the bytes of pictures."""
    return any(_leaf_of(name, kind) for name, kind in groups.types.items())


def _open(
    shards: Shards, path: Path, name: str, options: DataOptions, progress: Progress | None
) -> Source:
    settings = ["shards", 1, options.size, options.skip_bad, *map(str, shards.paths)]
    settings += shards.settings

    def build(meta: Meta) -> Iterator[Index]:
        with _readable(path):
            yield from _indexed(shards, options, progress, meta)

    rows, meta = decoded_once(options.cache_folder, name, settings, build)
    count = (0 if rows is None else len(rows)) + len(meta["bad"])
    if not count:
        raise UserError(f"{path} holds shards without pictures ({meta['other']} other samples)")
    refuse_bad(meta["bad"], count, path, skip=options.skip_bad)
    assert rows is not None
    index: Index = in_memory(steady(rows))[:]
    source = picture_source(
        name,
        ShardPictures(shards, index, options.size, meta["grey"]),
        meta,
        shards=len(shards.paths),
        other_samples=meta["other"],
    )
    if not options.condition:
        return source
    ends = np.cumsum(meta["widths"])[:-1]
    parts = np.split(index["condition"], ends, axis=1)
    return condition_on(source, dict(zip(options.condition, parts, strict=True)))


def _indexed(
    shards: Shards, options: DataOptions, progress: Progress | None, meta: Meta
) -> Iterator[Index]:
    """Yield where the pictures are; `meta` gets what was seen of them."""
    formats, bad = picture_formats(), list[Bad]()
    meta.update(bad=bad, enlarged=0, grey=True, digest="")
    header, pixels = glance(options.size), decode(options.size, grey=False)

    def look(image: Any) -> Glance:
        seen = header(image)
        if options.skip_bad:
            pixels(image)
        return seen

    done = stored = 0
    most = sum(path.stat().st_size for path in shards.paths)
    with without_warnings(), ThreadPoolExecutor(_workers()) as pool:
        for some in _parts(shards.found(meta)):
            looked = pool.map(
                lambda one: attempted(one.name, lambda: io.BytesIO(one.content), formats, look),
                some,
            )
            good = []
            for one, seen in zip(some, looked, strict=True):
                stored += len(one.content)
                if isinstance(seen, Bad):
                    bad.append(seen)
                    continue
                good.append(one)
                meta["grey"] &= seen.grey
                meta["enlarged"] += seen.enlarged
            if good:
                yield _index_of(good)
            done += len(some)
            if progress:
                progress(done, max(done + 1, done * most // max(1, stored)))
    if progress and done:
        progress(done, done)
    hashed = hashlib.sha256()
    for path in shards.paths:
        with path.open("rb") as file:
            hashed.update(hashlib.file_digest(file, "sha256").digest())
    meta["digest"] = hashlib.sha256(
        f"{hashed.hexdigest()}{options.size}{bad}{options.key}".encode("utf-8", "replace")
    ).hexdigest()


def _index_of(found: Sequence[Found]) -> Index:
    fields: list[Any] = [("shard", "<i4"), ("at", "<i8"), ("length", "<i8")]
    if width := len(found[0].condition):
        fields.append(("condition", "<f8", (width,)))
    index = np.empty(len(found), fields)
    for j, name in enumerate(("shard", "at", "length")):
        index[name] = [f.place[j] for f in found]
    if width:
        index["condition"] = [f.condition for f in found]
    return index


def _parts(found: Iterator[Found]) -> Iterator[list[Found]]:
    """So many pictures that all workers are busy, and so few that they fit in memory."""
    some: list[Found] = []
    held = 0
    for one in found:
        some.append(one)
        held += len(one.content)
        if len(some) == _AT_ONCE or held > _BYTES_AT_ONCE:
            yield some
            some, held = [], 0
    if some:
        yield some


def _workers() -> int:
    return min(8, os.cpu_count() or 1)


def _ordinary(path: Path) -> None:
    try:
        refuse_special(path)
        if not os.access(path, os.R_OK):
            raise UserError(f"{path} may not be read: check its permissions")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot read {path}: {reason}") from None


def _picture_column(groups: RowGroups, key: str | None) -> tuple[str, str]:
    """The column of pictures, and the part of it that holds their bytes."""
    known = {name: leaf for name, kind in groups.types.items() if (leaf := _leaf_of(name, kind))}
    if key is not None:
        if key not in known:
            raise UnknownNameError(f"column of bytes in {groups.paths[0]}:", key, known)
        return key, known[key]
    if len(known) > 1:
        raise UserError(
            f"{groups.paths[0]} has several columns of bytes: choose one with `key`: "
            f"{', '.join(known)}"
        )
    return next(iter(known.items()))


def _leaf_of(name: str, kind: Any) -> str | None:
    """The path of the bytes within a column that may hold pictures."""
    import pyarrow.types as types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    if is_bytes(kind):
        return name
    if types.is_struct(kind):
        at = kind.get_field_index("bytes")
        if at >= 0 and is_bytes(kind.field(at).type):
            return f"{name}.bytes"
    return None


def _is_numeric(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _bytes_of(value: Any) -> bytes:
    """The bytes of a picture; none where there is none."""
    content = value.as_py()
    if content is None:
        return b""
    if len(content) > MEMBER_BYTES:
        raise ValueError(f"a picture of {len(content):,} bytes is more than {MEMBER_BYTES:,}")
    return bytes(content)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what happens to shards while they are looked through into one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read the shards in {path}: {error}") from error
