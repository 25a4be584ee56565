"""From what a user names to a source: a known name, a file, a folder, an array, or a source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wgan.data.array_files import is_idx, open_hdf5, open_idx, open_npy, open_npz
from wgan.data.arrays import ArraySource, fingerprint, from_array, scan
from wgan.data.base import Source
from wgan.data.codec import Codec, Scale
from wgan.data.conditions import condition_on
from wgan.data.options import DataOptions, Progress
from wgan.data.row_groups import RowGroups
from wgan.data.synthetic import SYNTHETIC
from wgan.data.tables import is_table, open_table
from wgan.errors import UnknownNameError, UserError

FORMATS = (
    "a folder or .zip of pictures, a .tar or .parquet or a folder of them, .npy, .npz, IDX (.gz "
    "too), .h5, .csv (.gz too)"
)
"""What a path may be."""

_DIGITS = {
    "name": "digits",
    "what": "1,797 handwritten digits, 8 x 8 grey pictures of 17 levels",
    "source": "inside scikit-learn (load_digits): the test set of the UCI optical recognition of "
    "handwritten digits, Alpaydin and Kaynak 1998",
    "licence": "CC BY 4.0 (UCI)",
}

SOURCES: dict[str, Callable[[], Source | NDArray[Any] | Tensor]] = {}
"""Sources that plugins have added, by name; called when the data is used."""


def open_source(
    data: str | os.PathLike[str] | NDArray[Any] | Tensor | Source,
    options: DataOptions | None = None,
    *,
    condition: NDArray[Any] | Tensor | None = None,
    progress: Progress | None = None,
) -> Source:
    """The source that `data` names.

    Args:
        data: A known name (:func:`known_sources`; write `./digits` for a folder of that name), the
            path of a file or folder, an array or tensor ``[n, ...]`` of numbers, or a source, which
            is returned as it is.
        options: How to read it; what does not apply is refused.
        condition: Numbers ``[n]`` or ``[n, k]`` to condition on, one row per sample.
        progress: Called with (done, all) while pictures, or files larger than memory, are decoded.

    Raises:
        UserError: Whatever is wrong with the data, in one line.
        MissingExtraError: A table without pyarrow, HDF5 without h5py.
    """
    options = options or DataOptions()
    source = _open(data, options, progress)
    if condition is None:
        return source
    if source.codec.condition:
        raise UserError("`condition` is given twice: as an array and by name")
    return condition_on(source, {"condition": condition})


def known_sources() -> list[dict[str, Any]]:
    """The sources that need no file: name, what it is, shape, size (None: unlimited), origin.

    A plugin's source is not opened for this: its shape is None.
    """
    digits = {**_DIGITS, "shape": [1, 8, 8], "size": 1797}
    synthetic = [
        {
            "name": name,
            "what": kind.what,
            "source": kind.citation,
            "licence": "none needed: computed",
            "shape": [2],
            "size": None,
        }
        for name, kind in SYNTHETIC.items()
    ]
    added = [
        {
            "name": name,
            "what": (source.__doc__ or "no description").strip().splitlines()[0],
            "source": "a plugin",
            "licence": "see the plugin",
            "shape": None,
            "size": None,
        }
        for name, source in SOURCES.items()
    ]
    return [digits, *synthetic, *added]


def _open(data: Any, options: DataOptions, progress: Progress | None) -> Source:
    if isinstance(data, np.ndarray | Tensor):
        options.refuse_others("an array in memory", "layout")
        return from_array(_rows(data), "array", "the array", options.layout)
    if isinstance(data, Source):
        options.refuse_others("a source that is already open")
        return data
    if not isinstance(data, str | os.PathLike):
        raise UserError(f"data must be a name, a path, an array or a source, got {type(data)}")
    name = os.fspath(data)
    if name == "digits":
        options.refuse_others("`digits`")
        return _digits()
    if name in SYNTHETIC:
        options.refuse_others(f"`{name}`")
        return SYNTHETIC[name](options.seed)
    if name in SOURCES:
        return _added(name, options)
    path = Path(name).expanduser()
    if path.exists():
        return _open_path(path, options, progress)
    if Path(name).name == name and not path.suffix:
        raise UnknownNameError(
            "file, folder or data",
            name,
            [entry["name"] for entry in known_sources()],
        )
    raise UserError(f"no file or folder {name}; {_nearest(path)}")


def _rows(data: NDArray[Any] | Tensor) -> NDArray[Any]:
    if isinstance(data, Tensor):
        rows = data.detach().cpu()
        # numpy knows no bfloat16
        rows = rows.float() if rows.element_size() == 2 and rows.is_floating_point() else rows
        return np.asarray(rows.numpy())
    return data


def _added(name: str, options: DataOptions) -> Source:
    """The source that a plugin calls `name`."""
    opened = SOURCES[name]()
    if isinstance(opened, np.ndarray | Tensor):
        options.refuse_others(f"`{name}`", "layout")
        return from_array(_rows(opened), name, f"source `{name}`", options.layout)
    if not isinstance(opened, Source):
        raise UserError(
            f"source `{name}` must give an array, a tensor or a Source, got {type(opened)}"
        )
    options.refuse_others(f"`{name}`")
    return opened


def _open_path(path: Path, options: DataOptions, progress: Progress | None) -> Source:
    name = short_name(path)
    ending = path.name.lower()
    if not path.is_dir() and not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder, but a pipe or a device")
    if path.is_dir() or ending.endswith((".tar", *_PARQUET)):
        kind, shards = _shards(path)
        if shards:
            return _open_shards(kind, shards, name, options, progress)
    if path.is_dir() or ending.endswith(".zip"):
        options.refuse_others("pictures", "skip_bad")
        from wgan.data.pictures import open_pictures

        return open_pictures(path, name, options, progress)
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read: check its permissions")
    if is_table(path):
        options.refuse_others("a table", "columns", "condition", "drop_missing")
        return open_table(path, name, options, progress)
    if ending.endswith((".npz", ".h5", ".hdf5")):
        options.refuse_others("a file of arrays", "key", "layout", "condition")
        opened = (
            open_npz(path, options)
            if ending.endswith(".npz")
            else open_hdf5(path, options, progress)
        )
        source = from_array(opened.rows, name, str(path), options.layout)
        return condition_on(source, opened.conditions) if opened.conditions else source
    if ending.endswith((".npy", ".gz")) or is_idx(path):
        if options.condition:
            raise UserError(
                f"{path} is one array, without conditions: put it and them into one .npz file "
                "(numpy.savez) and name them by --key and --condition"
            )
        options.refuse_others("a file of one array", "layout")
        rows = open_npy(path) if ending.endswith(".npy") else open_idx(path)
        return from_array(rows, name, str(path), options.layout)
    raise UserError(f"{path} is none of the files that can be read: {FORMATS}")


_PARQUET = (".parquet", ".pq")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")


def _shards(path: Path) -> tuple[str, list[Path]]:
    """Whether a path is of `tar` or `parquet` shards, and these; none for any other folder."""
    if path.is_dir():
        try:
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))
        except OSError as error:
            raise UserError(f"cannot read the folder {path}: {error.strerror}") from error
        files = [path / name for name in names]
    else:
        files = [path]
    tars = [file for file in files if file.name.lower().endswith(_TARS)]
    parquets = [file for file in files if file.name.lower().endswith(_PARQUET)]
    found = tars or parquets
    if not found:
        return "", []
    others = [file for file in files if file not in found and file.suffix.lower() in _LEARNT]
    if others:
        raise UserError(
            f"{path} holds {len(found)} shards such as {found[0].name} beside {others[0].name}: "
            "which of them are the data? Give each kind a folder of its own"
        )
    packed = [file for file in found if file.name.lower().endswith(_TARS[1:])]
    if packed:
        raise UserError(
            f"{packed[0]} is compressed, and samples are read from the middle of a tar; unpack it "
            "to a .tar (the pictures in it are compressed already)"
        )
    return "tar" if tars else "parquet", found


_LEARNT = {*_PARQUET, ".npy", ".npz", ".csv", ".h5", ".hdf5", ".png", ".jpg", ".jpeg", ".webp"}
"""Files that would be data too, if they were not beside shards."""


def _open_shards(
    kind: str, shards: list[Path], name: str, options: DataOptions, progress: Progress | None
) -> Source:
    from wgan.data import shards as of_pictures

    if kind == "tar":
        options.refuse_others("tars of pictures", "key", "condition", "skip_bad")
        return of_pictures.open_tars(shards, name, options, progress)
    groups = RowGroups(shards)
    if options.columns is None and of_pictures.has_pictures(groups):
        options.refuse_others("parquet files of pictures", "key", "condition", "skip_bad")
        return of_pictures.open_parquet_pictures(groups, name, options, progress)
    options.refuse_others("a table", "columns", "condition", "drop_missing")
    return open_table(groups if len(shards) > 1 else shards[0], name, options, progress)


def short_name(path: Path) -> str:
    """The name of a file without its endings, or of a folder, fit for the name of a run."""
    name = path.resolve().name
    if not path.is_dir():
        name = re.sub(
            r"(\.(gz|npy|npz|csv|parquet|pq|h5|hdf5|zip|idx|tar))+$", "", name, flags=re.I
        )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:40] or "data"


def _nearest(path: Path) -> str:
    """What a path that is not there may have been meant to be."""
    import difflib

    if not path.parent.is_dir():
        return f"nor is there a folder {path.parent}"
    near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
    return f"did you mean {path.parent / near[0]}?" if near else f"data may be {FORMATS}"


def _digits() -> ArraySource:
    from sklearn.datasets import load_digits

    pictures = load_digits().images.astype(np.uint8)
    codec = Codec(
        kind="image",
        shape=(1, 8, 8),
        layout="no-channels",
        dtype="uint8",
        values=Scale.between(0, 16),
        low=0.0,
        high=16.0,
        bounded=True,
    )
    digest = scan(pictures, "digits", moments=False).digest
    about = {**_DIGITS, "scaled": "0..16 to -1..1"}
    return ArraySource("digits", pictures, codec, fingerprint(codec, digest), about)
