"""Array files: `.npy`, `.npz`, IDX (MNIST's format) and HDF5. Nothing is ever unpickled."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgan.data.arrays import IN_MEMORY_BYTES, Rows, Steady
from wgan.data.cache import Meta, decoded_once
from wgan.data.options import DataOptions, Progress
from wgan.errors import MissingExtraError, UnknownNameError, UserError
from wgan.files import BOMB_RATIO, npy_header, npz_arrays, npz_headers, refuse_excess

COPY_BYTES = 2**26


class Opened(NamedTuple):
    """An array of a file, and those that condition it (in memory)."""

    rows: Rows
    conditions: Mapping[str, NDArray[Any]]


def open_npy(path: Path) -> Rows:
    """A `.npy` file, memory-mapped."""
    with _readable(path, "an array file"):
        with path.open("rb") as file:
            npy_header(file, path.stat().st_size)
        return np.lib.format.open_memmap(path, mode="r")


def open_npz(path: Path, options: DataOptions) -> Opened:
    """One array of an `.npz` file; what is compressed is held in memory."""
    with _readable(path, "an .npz file"):
        headers = npz_headers(path)
        usable = {
            name: shape
            for name, (shape, dtype) in headers.items()
            if dtype.kind in "biuf" and shape
        }
        if options.key in headers and options.key not in usable:
            raise UserError(f"array `{options.key}` of {path} holds {headers[options.key][1]}")
        key = _choose(path, usable, options)
        arrays = npz_arrays(path, [key, *(options.condition or ())])
        return Opened(arrays.pop(key), arrays)


_IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def is_idx(path: Path) -> bool:
    """Whether a file begins as IDX does: two zeros, a known type, some axes."""
    with path.open("rb") as file:
        magic = file.read(4)
    return _is_idx(magic)


def _is_idx(magic: bytes) -> bool:
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _IDX_DTYPES and magic[3] > 0


def open_idx(path: Path) -> Rows:
    """An IDX file, memory-mapped; held in memory if it is a `.gz`."""
    with _readable(path, "an IDX file"):
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if not _is_idx(magic):
                raise ValueError("it does not begin with the mark of IDX")
            axes = file.read(4 * magic[3])
            if len(axes) < 4 * magic[3]:
                raise ValueError("it is cut short")
            dtype = np.dtype(_IDX_DTYPES[magic[2]])
            shape = tuple(int(n) for n in np.frombuffer(axes, dtype=">u4"))
            promised = math.prod(shape) * dtype.itemsize
            stored = path.stat().st_size
            packed = path.suffix.lower() == ".gz"
            least = (stored - 4 - len(axes)) if not packed else BOMB_RATIO * stored
            if promised > least:
                raise ValueError(f"it promises {promised} bytes of data, and has {stored} in all")
            if not packed:
                return np.memmap(path, dtype, mode="r", offset=4 + len(axes), shape=shape)
            refuse_excess(promised, stored)
            content = file.read(promised + 1)
            if len(content) != promised:
                raise ValueError(
                    f"it promises {promised} bytes of data and holds "
                    f"{'more' if len(content) > promised else len(content)}"
                )
        return np.frombuffer(content, dtype).reshape(shape)


class _DatasetRows:
    """An HDF5 dataset: any samples in any order, each read once, in the order of the file."""

    def __init__(self, dataset: Any, path: Path) -> None:
        self._dataset = dataset
        self._file = Steady(path)
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype

    def __getitem__(self, key: slice | NDArray[np.int64]) -> NDArray[Any]:
        self._file.check()
        if isinstance(key, slice):
            read: NDArray[Any] = self._dataset[key]
            return read
        unique, place = np.unique(key, return_inverse=True)
        read = self._dataset[unique]
        return read[place]


def open_hdf5(path: Path, options: DataOptions, progress: Progress | None = None) -> Opened:
    """One dataset of an HDF5 file.

    Up to `IN_MEMORY_BYTES` are held in memory. A larger dataset is read where it lies if it is
    contiguous; if it is chunked, where one sample costs the decompression of a chunk, it is copied
    once into the cache.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(f"reading {path}", "hdf5") from error

    with _readable(path, "an HDF5 file"):
        file = h5py.File(path, "r")
        found: dict[str, Any] = {}

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in "biuf":
                found[name] = item

        file.visititems(visit)
        key = _choose(path, {name: item.shape for name, item in found.items()}, options)
        dataset = found[key]
        for name in (key, *(options.condition or ())):
            _refuse_elsewhere(name, found[name])
            refuse_excess(found[name].nbytes, found[name].id.get_storage_size(), f"`{name}`")
        conditions = {name: found[name][...] for name in options.condition or ()}
        if dataset.nbytes <= IN_MEMORY_BYTES:
            rows = dataset[...]
            file.close()
            return Opened(rows, conditions)
    if dataset.chunks is None:
        return Opened(_DatasetRows(dataset, path), conditions)

    def build(_: Meta) -> Iterator[NDArray[Any]]:
        with _readable(path, "an HDF5 file"):
            # Whole chunks at a time, so that none is decompressed twice.
            chunk = dataset.chunks[0] * (dataset.nbytes // len(dataset))
            step = dataset.chunks[0] * max(1, COPY_BYTES // chunk)
            for start in range(0, len(dataset), step):
                block = dataset[start : start + step]
                yield block
                if progress:
                    progress(start + len(block), len(dataset))

    state = path.stat()
    settings = ["hdf5", str(path.resolve()), state.st_size, state.st_mtime_ns, key]
    copied, _ = decoded_once(options.cache_folder, "hdf5", settings, build)
    assert copied is not None
    return Opened(copied, conditions)


def _refuse_elsewhere(name: str, dataset: Any) -> None:
    """A dataset may say that its numbers lie in any other file of this machine."""
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"`{name}` takes its numbers from other files; copy them into this one")


def _choose(path: Path, arrays: Mapping[str, tuple[int, ...]], options: DataOptions) -> str:
    """The array to learn: the one asked for, or the only one that is not a condition."""
    conditions = options.condition or ()
    for name in (*conditions, *((options.key,) if options.key else ())):
        if name not in arrays:
            raise UnknownNameError(f"array in {path}:", name, arrays)
    if options.key:
        if options.key in conditions:
            raise UserError(f"`{options.key}` cannot be both the key and a condition")
        return options.key
    left = [name for name in arrays if name not in conditions]
    if len(left) == 1:
        return left[0]
    if not left:
        raise UserError(f"{path} holds no array of numbers")
    listed = ", ".join(f"{name} {list(arrays[name])}" for name in left)
    raise UserError(f"{path} holds {len(left)} arrays; choose one with --key: {listed}")


_DAMAGE = (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, MemoryError)


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    """Turn what a damaged or foreign file raises into one line."""
    try:
        yield
    except UserError:
        raise
    except (*_DAMAGE, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "Python objects" in reason or "pickled" in reason:
            reason = "it holds Python objects, which are never unpickled; save numbers instead"
        raise UserError(f"cannot read {path} as {what}: {reason}") from error
