"""Files that may come from a stranger: what one claims is checked before memory is taken for it.

Nothing is executed. What is wrong with a file's content is a `ValueError` here; the caller knows
what the file is and says so.
"""

from __future__ import annotations

import json
import math
import os
import stat
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from numpy.typing import NDArray

BOMB_BYTES = 2**30
BOMB_RATIO = 1_100
"""Deflate packs at most 1,032 to 1; a large content that promises more is none."""

_YAML_BYTES = 2**20
_YAML_NODES = 100_000


class TooLargeError(ValueError):
    """A file claims more than it can hold, or than this machine can."""


def memory_bytes() -> int:
    """The memory of this machine, or what its group of processes may use of it."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([whole, *(limit for limit, _ in group_limits())])


def free_bytes() -> int:
    """Memory that may still be taken without swapping, by this machine and by its group."""
    found = [memory_bytes()]
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    found += [limit - used for limit, used in group_limits()]
    return max(0, min(found))


def group_limits(
    groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[tuple[int, int]]:
    """Limits of the control groups of this process and bytes used of them, files' pages apart.

    Args:
        groups: Where the groups are mounted.
        own: The file that says which are this process's.
    """
    found = []
    with suppress(OSError):
        for line in own.read_text().splitlines():
            number, kinds, path = line.split(":", 2)
            if number != "0" and "memory" not in kinds.split(","):
                continue
            root, names = (
                (groups, ("memory.max", "memory.current", "inactive_file"))
                if number == "0"
                else (groups / "memory", _FIRST_NAMES)
            )
            place = root / path.lstrip("/")
            for folder in (place, *place.parents):
                with suppress(OSError, ValueError):
                    limit, used = (int((folder / name).read_text()) for name in names[:2])
                    stat = dict(
                        part.split() for part in (folder / "memory.stat").read_text().splitlines()
                    )
                    found.append((limit, used - int(stat.get(names[2], 0))))
                if folder == root:
                    break
    return found


_FIRST_NAMES = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def refuse_excess(claimed: int, stored: int, what: str = "it") -> None:
    """Raise `TooLargeError` for content that is larger than memory, or that unpacks like a bomb.

    Args:
        claimed: Bytes that the content takes once it is read.
        stored: Bytes that it takes in its file, compressed or not.
        what: The content, for the message.
    """
    if claimed > BOMB_BYTES and claimed > BOMB_RATIO * stored:
        raise TooLargeError(
            f"{what} claims {_size(claimed)} and is stored in {_size(stored)}: a decompression bomb"
        )
    if claimed > memory_bytes():
        raise TooLargeError(
            f"{what} claims {_size(claimed)}, and this machine has {_size(memory_bytes())} "
            "of memory"
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count:,} bytes"


def refuse_special(path: Path) -> None:
    """Raise `ValueError` for a pipe, a socket or a device, which could be waited for for ever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path.name} is not an ordinary file")


def read_whole(path: Path) -> bytes:
    """The content of an ordinary file that fits into memory.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a pipe or a device, or too large.
    """
    refuse_special(path)
    size = path.stat().st_size
    refuse_excess(size, size, path.name)
    return path.read_bytes()


def parse_json(content: bytes) -> Any:
    """What JSON says; whatever is wrong with it is a `ValueError`."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(content: bytes) -> Any:
    """What YAML says, plain data only; whatever is wrong with it is a `ValueError`.

    Aliases that multiply, the YAML form of a decompression bomb, are refused.
    """
    if len(content) > _YAML_BYTES:
        raise TooLargeError(f"it has {_size(len(content))}, more than {_size(_YAML_BYTES)}")
    try:
        plain = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # of yaml's own scanner
        raise ValueError(f"{type(error).__name__}: {error}") from None
    seen, waiting = 0, [plain]
    while waiting:
        seen += 1
        if seen > _YAML_NODES:
            raise TooLargeError(f"it unfolds to more than {_YAML_NODES:,} values")
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set)):
            waiting += item
    return plain


# -- numpy's own files -----------------------------------------------------------------------------

Header = tuple[tuple[int, ...], "np.dtype[Any]"]


def npy_header(file: IO[bytes], room: int) -> Header:
    """Shape and type of the array in a `.npy` file, which is left where the data begins.

    Args:
        file: At its beginning.
        room: Bytes of the file, header included: numpy makes room for what the header promises.

    Raises:
        ValueError: It is not `.npy`, or promises more than there is.
    """
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:  # version 3 is for structured arrays, which are of no use here
        return (), np.dtype(np.void)
    try:
        shape, _, dtype = read(file)
    except Exception as error:  # a tokenizer's, a parser's, whatever they come upon
        raise ValueError(f"its header is damaged: {type(error).__name__}") from None
    if any(n < 0 for n in shape):
        raise ValueError(f"its header states the shape {shape}")
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > room:
        raise ValueError(
            f"it is cut short: its header promises {_size(math.prod(shape) * dtype.itemsize)} "
            f"and it has {_size(room)}"
        )
    return shape, dtype


def npz_headers(path: Path) -> dict[str, Header]:
    """Shape and type of every array in an `.npz` file, by name.

    Raises:
        ValueError, zipfile.BadZipFile and others: It is damaged, or a decompression bomb.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            refuse_excess(member.file_size, member.compress_size, f"array `{name}`")
            with archive.open(member) as file:
                found[name] = npy_header(file, member.file_size)
    return found


def npz_arrays(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    """Some arrays of an `.npz` file whose headers were found good; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[f"{name}.npy"]) for name in names}
