"""Rows that are costly to decode, decoded once into a memory-mapped file.

An entry is a folder with `rows.npy`, `meta.json` and the checksums of both, written beside its
place and renamed when it is complete and on the disk: a kill at any time leaves either a whole
entry or none, and one that is damaged is built again. A lock makes a second process wait for the
first; where the file system knows no locks, both decode, and one wins.
Entries may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.files import parse_json, read_whole, refuse_special

Meta = dict[str, Any]
Build = Callable[[Meta], Iterator[NDArray[Any]]]
"""Yields blocks ``[some, *shape]`` of one shape and dtype, and fills in what to remember.

An `OSError` of its own must become a `UserError`: here it would pass for a fault of the cache.
"""


def decoded_once(
    folder: Path, name: str, settings: Any, build: Build
) -> tuple[NDArray[Any] | None, Meta]:
    """The rows that `build` yields, memory-mapped, and its meta data; built the first time only.

    Args:
        folder: The cache.
        name: The beginning of the entry's name, for people.
        settings: Plain data: equal settings, equal rows.
        build: Called without an entry of these settings.

    Returns:
        The rows, or None where `build` yielded none (nothing is kept then), and the meta data.

    Raises:
        UserError: The cache cannot be written.
    """
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:20]
    entry = folder / f"{name}-{key}"
    if (found := _open(entry)) is not None:
        return found
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, entry.name) as alone:
        if (found := _open(entry)) is not None:
            return found  # another process was faster
        if alone:
            for left in folder.glob(f".{entry.name}.tmp-*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        with _writing(folder):
            beside = Path(tempfile.mkdtemp(prefix=f".{entry.name}.tmp-", dir=folder))
        try:
            meta: Meta = {}
            if not _write(folder, beside, build(meta), meta):
                return None, meta
            with _writing(folder):
                _move(beside, entry)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    found = _open(entry)
    if found is None:
        raise UserError(f"the cache entry {entry} vanished or is damaged; try again")
    return found


def _open(entry: Path) -> tuple[NDArray[Any], Meta] | None:
    """A whole entry, or None: what is missing or damaged is built again."""
    try:
        sums = parse_json(read_whole(entry / "checksums.json"))
        if sums != {name: _digest(entry / name) for name in ("meta.json", "rows.npy")}:
            return None
        meta = json.loads((entry / "meta.json").read_bytes())
        return np.load(entry / "rows.npy", mmap_mode="r", allow_pickle=False), meta
    except (OSError, ValueError, EOFError):
        return None


def _digest(path: Path) -> str:
    refuse_special(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(folder: Path, beside: Path, rows: Iterator[NDArray[Any]], meta: Meta) -> bool:
    """Write all rows, and then the meta data; False if there are no rows."""
    first = next(rows, None)
    if first is None:
        return False
    with _writing(folder):
        with (beside / "rows.npy").open("wb") as file:
            # How many rows there are is known at the end: the header is written twice.
            start = file.write(_header(first, 0))
            written = 0
            for block in itertools.chain([first], rows):
                file.write(np.ascontiguousarray(block).data)
                written += len(block)
            file.seek(0)
            rewritten = file.write(_header(first, written))
            assert rewritten == start, "numpy leaves room for the number of rows"
            file.flush()
            os.fsync(file.fileno())
        _write_json(beside / "meta.json", meta)
        sums = {name: _digest(beside / name) for name in ("meta.json", "rows.npy")}
        _write_json(beside / "checksums.json", sums)
    return True


def _write_json(path: Path, plain: Mapping[str, Any]) -> None:
    with path.open("w") as text:
        json.dump(plain, text)
        text.flush()
        os.fsync(text.fileno())


def _header(like: NDArray[Any], rows: int) -> bytes:
    buffer = io.BytesIO()
    shape = (rows, *like.shape[1:])
    header = {
        "descr": np.lib.format.dtype_to_descr(like.dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def _move(beside: Path, entry: Path) -> None:
    """Rename a complete entry into its place, unless a whole one is there already."""
    try:
        beside.rename(entry)
    except OSError:
        if _open(entry) is None:
            shutil.rmtree(entry, ignore_errors=True)  # a damaged one
            beside.rename(entry)
    descriptor = os.open(entry.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(folder: Path, name: str) -> Iterator[bool]:
    """Hold the lock of an entry; False where there are no locks. A killed process lets go."""
    try:
        import fcntl

        with _writing(folder):
            file = (folder / f".{name}.lock").open("w")
    except ImportError:  # pragma: no cover  (not Linux or macOS)
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            yield False
            return
        yield True


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the cache {folder}: {error.strerror or error}; free some space, or set "
            "WGAN_CACHE to another folder"
        ) from error
