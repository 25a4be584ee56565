"""Tables of numbers: CSV and parquet, in their own column names and dtypes, both ways."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.data.arrays import IN_MEMORY_BYTES, Moments, Rows, fingerprint, stamp, steady
from wgan.data.base import Blocks, Source, split_finite
from wgan.data.cache import Meta, decoded_once
from wgan.data.codec import Codec, Scale
from wgan.data.options import DataOptions, Progress
from wgan.data.row_groups import GroupRows, RowGroups, need_pyarrow, readable
from wgan.errors import UnknownNameError, UserError
from wgan.files import BOMB_BYTES, BOMB_RATIO, TooLargeError, memory_bytes, refuse_excess
from wgan.types import Batch

Block = NDArray[np.float64]

_BATCH_ROWS = 2**16
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


class TableSource:
    """Rows of numbers with named columns.

    Args:
        name: A short name.
        rows: Learnt columns and then conditions, in training units, float32, ``[n, k + c]``.
        codec: With `columns` and `condition`.
        fingerprint: The hash of the content and of how it is read.
        about: What :meth:`describe` tells beside shape and size.
    """

    def __init__(
        self,
        name: str,
        rows: Rows,
        codec: Codec,
        fingerprint: str,
        about: dict[str, Any],
    ) -> None:
        self.name = name
        self.codec = codec
        self.size: int | None = rows.shape[0]
        self.fingerprint = fingerprint
        self._rows = steady(rows)
        self._about = about

    @property
    def shape(self) -> tuple[int, ...]:
        """``(columns,)``."""
        return self.codec.shape

    @property
    def blocks(self) -> Blocks | None:
        """The blocks in which the rows are read, if they are."""
        return getattr(self._rows, "blocks", None)

    def batch(self, indices: Tensor) -> Batch:
        """The rows with these numbers, and their conditions if there are any."""
        rows = torch.from_numpy(self._rows[indices.numpy()])
        k = len(self.codec.columns)
        return Batch(rows[:, :k], rows[:, k:]) if self.codec.condition else Batch(rows)

    def describe(self) -> dict[str, Any]:
        """What it is, in plain data."""
        return {
            "name": self.name,
            "what": "a table",
            "scaled": "standardised, column by column",
            "kind": self.codec.kind,
            "shape": list(self.shape),
            "size": self.size,
            "columns": dict(zip(self.codec.columns, self.codec.dtypes, strict=True)),
            **self._about,
            "fingerprint": self.fingerprint,
        }

    def split(self, holdout: float, seed: int) -> tuple[Source, Source]:
        """A training part and a held-out part."""
        return split_finite(self, holdout, seed)


def open_table(
    path: Path | RowGroups, name: str, options: DataOptions, progress: Progress | None = None
) -> TableSource:
    """The rows of a `.csv`, `.csv.gz` or `.parquet` file, standardised column by column.

    A missing value is an empty field, a null or NaN. CSV is read whole. Parquet is read some rows
    at a time; where its numbers, at four bytes each, exceed `IN_MEMORY_BYTES`, they are decoded
    once into the cache if they are of one file, and read where they lie if they are of several.

    Args:
        path: The file, or several of parquet.
        name: A short name.
        options: `columns`, `condition`, `drop_missing` and `cache` apply.
        progress: Called with the rows read, of how many, where the cache is filled.

    Raises:
        UserError: Unknown columns, columns that are not numbers, missing or infinite values.
        MissingExtraError: Without pyarrow.
    """
    table = _Groups(path) if isinstance(path, RowGroups) else _Table(path)
    path = table.path
    conditions = options.condition or ()
    for column in (*(options.columns or ()), *conditions):
        if column not in table.types:
            raise UnknownNameError(f"column in {path}:", column, table.types)
    # The index that pandas adds to its files numbers the rows; it is no measurement.
    asked = options.columns or [c for c in table.types if not _PANDAS_INDEX.fullmatch(c)]
    columns = tuple(c for c in asked if c not in conditions)
    if not columns:
        raise UserError(f"no column of {path} is left to learn")
    used = (*columns, *conditions)
    table.refuse_text(used)
    table.refuse_excess(len(used))

    def look_through(meta: Meta) -> tuple[Scale, NDArray[np.int64]]:
        moments, digest, kept = _scan(table, used, options.drop_missing)
        scale = moments.standardise()
        meta.update(offset=scale.offset, scale=scale.scale, digest=digest)
        meta.update(low=moments.low.tolist(), high=moments.high.tolist())
        return scale, kept

    def encode(meta: Meta) -> Iterator[NDArray[np.float32]]:
        scale, _ = look_through(meta)
        done = 0
        for block in table.blocks(used):
            yield scale.encode(_whole(block))
            done += len(block)
            if progress:
                progress(done, table.size)

    meta: Meta = {}
    settings = ["table", table.identity(), used, options.drop_missing]
    if 4 * table.size * len(used) <= IN_MEMORY_BYTES:
        rows: Rows | None = np.concatenate(list(encode(meta)))
    elif isinstance(table, _Groups):
        kept, meta = decoded_once(
            options.cache_folder,
            name,
            ["kept", *settings],
            lambda meta: iter([look_through(meta)[1]]),
        )
        assert kept is not None
        scale = Scale(tuple(meta["offset"]), tuple(meta["scale"]))
        rows = GroupRows(
            np.array(kept), len(used), lambda i: scale.encode(_whole(table.block(i, used)))
        )
    else:
        rows, meta = decoded_once(options.cache_folder, name, settings, encode)
    assert rows is not None
    k = len(columns)
    dtypes = tuple(_own_dtype(table.types[c]) or "float64" for c in columns)
    codec = Codec(
        kind="rows",
        shape=(k,),
        dtype=np.result_type(*dtypes).name,
        values=Scale(tuple(meta["offset"][:k]), tuple(meta["scale"][:k])),
        columns=columns,
        dtypes=dtypes,
        condition=tuple(conditions),
        conditions=Scale(tuple(meta["offset"][k:]), tuple(meta["scale"][k:]))
        if conditions
        else Scale(),
    )
    about: dict[str, Any] = {"dropped": table.size - rows.shape[0]}
    if conditions:
        about["condition"] = {
            c: [meta["low"][k + j], meta["high"][k + j]] for j, c in enumerate(conditions)
        }
    mark = fingerprint(codec, f"{meta['digest']}{conditions}")
    return TableSource(name, rows, codec, mark, about)


class _Table:
    """A file of columns, read as blocks of float64 with NaN for what is missing."""

    def __init__(self, path: Path) -> None:
        need_pyarrow(f"reading {path}")
        import pyarrow.csv
        import pyarrow.parquet

        self.path = path
        self._csv: Any = None
        self._parquet: Any = None
        with readable(path):
            if is_csv(path):
                _refuse_bomb(path)
                self._csv = pyarrow.csv.read_csv(path)
                self.size, schema = self._csv.num_rows, self._csv.schema
            else:
                self._parquet = pyarrow.parquet.ParquetFile(path)
                self.size, schema = self._parquet.metadata.num_rows, self._parquet.schema_arrow
            names = schema.names
        repeated = [name for name, n in Counter(names).items() if n > 1]
        if repeated:
            raise UserError(f"{path} has several columns called {', '.join(repeated)}; rename them")
        self.types: dict[str, Any] = dict(zip(names, schema.types, strict=True))
        if self.size < 1 or not self.types:
            raise UserError(f"{path} holds no rows")

    def identity(self) -> list[Any]:
        """What tells this file from others, and from itself once it is changed."""
        return [str(self.path.resolve()), *stamp(self.path.stat())]

    def refuse_excess(self, columns: int) -> None:
        """Raise `UserError` if so many columns cannot be what the file holds."""
        with readable(self.path):
            refuse_excess(4 * self.size * columns, self.path.stat().st_size)

    def refuse_text(self, used: Iterable[str]) -> None:
        """Raise `UserError` if one of these columns does not hold numbers."""
        numeric = [name for name, kind in self.types.items() if _own_dtype(kind)]
        text = [f"{name} ({self.types[name]})" for name in used if name not in numeric]
        if text and len(self.types) == 1 and (mark := _separator(*self.types)):
            raise UserError(
                f"{self.path} is separated by {mark}, and by commas it has one column; save it "
                "with commas"
            )
        if text and not numeric:
            raise UserError(
                f"{self.path} has no column of numbers, and others cannot be learnt yet: "
                f"{', '.join(text)}"
            )
        if text:
            raise UserError(
                f"{self.path} has columns that are not numbers, which cannot be learnt yet: "
                f"{', '.join(text)}; choose among the others: --columns {','.join(numeric)}"
            )

    def blocks(self, names: tuple[str, ...]) -> Iterator[Block]:
        """The rows of these columns, in order."""
        with readable(self.path):
            batches = (
                self._csv.select(names).to_batches(_BATCH_ROWS)
                if self._csv is not None
                else self._parquet.iter_batches(_BATCH_ROWS, columns=list(names))
            )
            left = self.size
            for batch in batches:
                if (left := left - batch.num_rows) < 0:
                    raise ValueError(f"it states {self.size} rows and has more")
                yield _numbers(batch, names)


class _Groups(_Table):
    """Several parquet files of one schema; a block is a row group."""

    def __init__(self, groups: RowGroups) -> None:
        self.path = groups.paths[0].parent
        self.types = groups.types
        self.size = groups.size
        self._groups = groups

    def identity(self) -> list[Any]:
        return [[str(path.resolve()) for path in self._groups.paths], self._groups.stamps]

    def refuse_excess(self, columns: int) -> None:
        """`RowGroups` has done so, group by group."""

    def blocks(self, names: tuple[str, ...]) -> Iterator[Block]:
        for group in range(len(self._groups.rows)):
            yield self.block(group, names)

    def block(self, group: int, names: tuple[str, ...]) -> Block:
        """The rows of a group."""
        return _numbers(self._groups.read(group, names), names)


def _numbers(table: Any, names: Sequence[str]) -> Block:
    """Columns of an arrow table or batch as float64, with NaN for what is missing."""
    import pyarrow as pa

    columns = [table.column(name).cast(pa.float64(), safe=False) for name in names]
    flat = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns]
    return np.stack([c.to_numpy(zero_copy_only=False) for c in flat], axis=1)


def _whole(block: Block) -> Block:
    """The rows without a missing value."""
    return block[~np.isnan(block).any(axis=1)]


def _scan(
    table: _Table, names: tuple[str, ...], drop_missing: bool
) -> tuple[Moments, str, NDArray[np.int64]]:
    """The moments and a hash of the rows without missing values, and how many each block has.

    Raises:
        UserError: Infinite values; missing ones unless they are dropped; no row left.
    """
    moments = Moments(len(names))
    hashed = hashlib.sha256()
    missing = np.zeros(len(names), dtype=np.int64)
    lengths: list[int] = []
    start = 0
    for block in table.blocks(names):
        if np.isinf(block).any():
            row, column = np.argwhere(np.isinf(block))[0]
            raise UserError(
                f"{table.path} holds an infinite value: column `{names[column]}`, row "
                f"{start + row + 1}; remove or replace it"
            )
        absent = np.isnan(block)
        missing += absent.sum(axis=0)
        kept = _whole(block)
        lengths.append(len(kept))
        hashed.update(np.ascontiguousarray(kept, dtype="<f8").data)
        moments.add(kept)
        start += len(block)
    if missing.any():
        counts = ", ".join(f"{c} {n}" for c, n in zip(names, missing.tolist(), strict=True) if n)
        if not drop_missing:
            raise UserError(
                f"{table.path} has missing values: {counts}; fill them in, choose other columns, "
                "or leave out their rows with --drop-missing"
            )
        if not moments.count:
            raise UserError(f"every row of {table.path} has a missing value: {counts}")
    if not moments.count:
        raise UserError(f"{table.path} states {table.size} rows and has none")
    return moments, hashed.hexdigest(), np.array(lengths, dtype=np.int64)


def _separator(header: str) -> str | None:
    """What separates the names in a line that has no comma, in words."""
    words = {";": "semicolons", "\t": "tabs", "|": "bars"}
    return next((word for mark, word in words.items() if mark in header), None)


def _own_dtype(kind: Any) -> str | None:
    """The numpy dtype of an arrow type, or None where it is not one of numbers."""
    import pyarrow.types

    if pyarrow.types.is_null(kind):  # a column without a single value: refused as missing
        return "float64"
    numeric = pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)
    if numeric or pyarrow.types.is_boolean(kind):
        return str(np.dtype(kind.to_pandas_dtype()))
    return None


def write_table(path: str | os.PathLike[str], codec: Codec, own: NDArray[Any]) -> Path:
    """Write samples as `.csv`, `.csv.gz` or `.parquet`, with their own column names and dtypes.

    Rows that came from an array without names get the columns `x0`, `x1`, and so on. The file is
    written beside its place and renamed when it is complete.

    Args:
        path: The file; it is replaced if it is there.
        codec: The codec of a table, or of rows.
        own: Samples in their own units, ``[n, columns]``, as `Codec.decode` gives them.

    Raises:
        UserError: Samples that are not rows, another ending, or a path that cannot be written.
        MissingExtraError: Without pyarrow.
    """
    path = Path(path)
    if codec.kind != "rows":
        raise UserError(f"samples of kind `{codec.kind}` are no table; write them to an .npy file")
    if not is_table(path):
        raise UserError(f"a table is written to .csv, .csv.gz or .parquet, got {path}")
    need_pyarrow(f"writing {path}")
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    own = own.reshape(len(own), -1)
    names = codec.columns or tuple(f"x{j}" for j in range(own.shape[1]))
    dtypes = codec.dtypes or (codec.dtype,) * own.shape[1]
    table = pa.table({n: own[:, j].astype(dtypes[j]) for j, n in enumerate(names)})
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if is_csv(path):
            compression = "gzip" if path.suffix == ".gz" else None
            with pa.output_stream(str(beside), compression=compression) as stream:
                pyarrow.csv.write_csv(table, stream)
        else:
            pyarrow.parquet.write_table(table, beside)
        beside.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
    return path


def _refuse_bomb(path: Path) -> None:
    """Raise `TooLargeError` if a packed table does not fit into memory; it is read whole."""
    stored, most = path.stat().st_size, memory_bytes() // 4  # the parsed columns come on top
    if path.suffix.lower() != ".gz" or BOMB_RATIO * stored <= BOMB_BYTES:
        return
    unpacked = 0
    with gzip.open(path) as file:
        while unpacked <= most and (part := file.read(2**20)):
            unpacked += len(part)
    if unpacked > most:
        raise TooLargeError(f"unpacked it has more than {most:,} bytes, a quarter of the memory")


def is_csv(path: Path) -> bool:
    """Whether a file is a CSV by its name."""
    return path.name.lower().endswith((".csv", ".csv.gz"))


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return is_csv(path) or path.name.lower().endswith((".parquet", ".pq"))
