"""Parquet files of one schema, read where they lie, a row group at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.data.arrays import FileChangedError, Stamp, Steady, stamp
from wgan.data.base import Blocks
from wgan.errors import MissingExtraError, UserError
from wgan.files import refuse_excess, refuse_special

KEPT_BYTES = 2**28
"""What is kept of row groups in memory, at least one group."""

_OPEN_FILES = 16


class RowGroups:
    """The row groups of some parquet files, numbered through.

    Args:
        paths: Files of one schema, in order.

    Attributes:
        types: Arrow type of each column by name.
        rows: Rows of each group.
        stamps: Size and time of change of each file.

    Raises:
        UserError: A file that cannot be read, or columns that differ between files.
        MissingExtraError: Without pyarrow.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        need_pyarrow(f"reading {paths[0]}")
        import pyarrow.parquet

        self.paths = list(paths)
        self.types: dict[str, Any] = {}
        self.stamps: list[Stamp] = []
        places: list[tuple[int, int]] = []
        rows: list[int] = []
        self._bytes: list[int] = []
        for number, path in enumerate(self.paths):
            with readable(path):
                refuse_special(path)
                self.stamps.append(stamp(path.stat()))
                with pyarrow.parquet.ParquetFile(path) as file:
                    self._agree(path, file.schema_arrow)
                    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
                    rows += _checked(groups, path.stat().st_size)
                    places += [(number, i) for i in range(len(groups))]
                    self._bytes += [group.total_byte_size for group in groups]
        self.places = places
        self.rows: NDArray[np.int64] = np.array(rows, dtype=np.int64)
        self.opened = lru_cache(_OPEN_FILES)(self._opened)
        if not rows or not self.rows.sum():
            one = len(self.paths) == 1
            raise UserError(f"{self.paths[0] if one else self.paths[0].parent} holds no rows")

    def _agree(self, path: Path, schema: Any) -> None:
        types = dict(zip(schema.names, schema.types, strict=True))
        repeated = [name for name, n in Counter(schema.names).items() if n > 1]
        if repeated:
            raise UserError(f"{path} has several columns called {', '.join(repeated)}; rename them")
        if not self.types:
            self.types = types
        elif types != self.types:
            differ = sorted(
                n for n in types.keys() | self.types if types.get(n) != self.types.get(n)
            )
            raise UserError(
                f"{path} and {self.paths[0]} differ in the columns {', '.join(differ[:5])}; the "
                "files of a folder are read as one table"
            )

    @property
    def size(self) -> int:
        """Rows in all."""
        return int(self.rows.sum())

    @property
    def largest(self) -> int:
        """Bytes of the largest group, all columns, dictionaries not unfolded."""
        return max(self._bytes)

    def _opened(self, number: int, dictionary: tuple[str, ...]) -> tuple[Steady, Any]:
        import pyarrow.parquet

        path = self.paths[number]
        steady = Steady(path, self.stamps[number])
        with readable(path):
            return steady, pyarrow.parquet.ParquetFile(path, read_dictionary=list(dictionary))

    def read(self, group: int, columns: Sequence[str], dictionary: tuple[str, ...] = ()) -> Any:
        """The arrow table of some columns of a group.

        Args:
            group: Its number.
            columns: By name; `a.b` is a part of a column.
            dictionary: Columns of bytes that are left as a dictionary: values that occur often are
                held once.

        Raises:
            FileChangedError: The file is not what it was.
            UserError: It is damaged.
        """
        number, inner = self.places[group]
        steady, file = self.opened(number, dictionary)
        steady.check()
        try:
            with readable(self.paths[number]):
                table = file.read_row_group(inner, columns=list(columns), use_threads=False)
                if table.num_rows != self.rows[group]:
                    raise ValueError(f"it states {self.rows[group]} rows and has {table.num_rows}")
                table.validate(full=True)  # a damaged page may point beyond its dictionary
        finally:
            steady.check()  # a file that was changed may also seem damaged
        return table

    def where(self, group: int) -> str:
        """A group in words."""
        number, inner = self.places[group]
        return f"row group {inner} of {self.paths[number]}"


def kept_at_once(groups: int, group_bytes: int) -> int:
    """How many groups are kept in memory: of `groups`, of at most so many bytes each."""
    return max(1, min(groups, KEPT_BYTES // max(1, group_bytes)))


def in_blocks(of: NDArray[np.int64], groups: int, at_once: int) -> Blocks | None:
    """The blocks of samples by the group of each; None where all groups are kept."""
    return None if groups <= at_once else Blocks(torch.from_numpy(of), at_once)


class GroupRows:
    """Rows of numbers in groups, read and encoded as they are asked for.

    Args:
        counts: Rows of each group.
        columns: Numbers in each row.
        encoded: Reads a group: float32 ``[rows, columns]``.
    """

    def __init__(
        self,
        counts: NDArray[np.int64],
        columns: int,
        encoded: Callable[[int], NDArray[np.float32]],
    ) -> None:
        self._counts = counts
        self._starts = np.concatenate([[0], counts.cumsum()])
        self.shape = (int(counts.sum()), columns)
        self.dtype = np.dtype(np.float32)
        self._at_once = kept_at_once(len(counts), 4 * columns * int(counts.max()))
        self._encoded = lru_cache(self._at_once)(encoded)

    @property
    def blocks(self) -> Blocks | None:
        """The groups, unless all are kept."""
        of = np.repeat(np.arange(len(self._counts)), self._counts)
        return in_blocks(of, len(self._counts), self._at_once)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        rows = np.arange(self.shape[0])[key] if isinstance(key, slice) else np.asarray(key)
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        read = np.empty((len(rows), self.shape[1]), np.float32)
        for group in np.unique(groups):
            here = groups == group
            block = self._encoded(int(group))
            if len(block) != self._counts[group]:
                raise FileChangedError("a parquet file was changed while it was in use")
            read[here] = block[rows[here] - self._starts[group]]
        return read


def _checked(groups: Sequence[Any], stored: int) -> list[int]:
    """The rows of each group of a file of `stored` bytes, if together they can be what they claim.

    By the groups' own totals: pyarrow ends the process where a damaged file's column is only asked
    for its size.
    """
    rows = [int(group.num_rows) for group in groups]
    claimed = [int(group.total_byte_size) for group in groups]
    if min(rows + claimed, default=0) < 0:
        raise ValueError(f"it states groups of {rows} rows in {claimed} bytes")
    refuse_excess(max(sum(claimed), 4 * sum(rows)), max(1, stored))
    return rows


def need_pyarrow(what: str) -> None:
    """Raise `MissingExtraError` without pyarrow."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(what, "tables") from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a damaged or foreign table raises into one line."""
    import zlib

    import pyarrow as pa

    try:
        yield
    except (UserError, FileChangedError):
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, KeyError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"cannot read {path} as a table: {reason}") from error
