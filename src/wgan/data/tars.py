"""Tar files in the layout of WebDataset: consecutive members of one name are one sample.

A sample's name is that of its members up to the first dot (of the last part of their path), and the
rest, such as `jpg` or `cls`, says what each of them is. Nothing is unpacked: a member is a place
and a length in its file.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wgan.errors import UnknownNameError, UserError
from wgan.files import npy_header, parse_json

PICTURES = ("png", "jpg", "jpeg", "webp")
"""What a picture may be called."""

MEMBER_BYTES = 2**28
"""A member that has more than this is none to read."""

_PICKLES = ("pyd", "pickle", "pkl", "pth", "pt")
_HEADER_BYTES = 2**20
_CONDITION_BYTES = 2**20
_BLOCK = 512


class Member(NamedTuple):
    """Where a member's content lies in its tar."""

    at: int
    length: int


Members = dict[str, Member]
"""The members of a sample, by what they are."""


class _Headers(io.FileIO):
    """A file of which only headers are read; no room is made for one that claims to be huge."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _HEADER_BYTES:
            raise ValueError(f"it has a header of {size} bytes")
        return super().read(size) or b""


def samples(path: Path) -> Iterator[tuple[str, Members]]:
    """Name and members of every sample of a tar, in its order.

    Raises:
        UserError: It is damaged, compressed or cut short, or it holds pickles.
    """
    name, members = "", Members()
    for member, place in _members(path):
        folder, slash, last = member.rpartition("/")
        if last.startswith("."):
            continue
        stem, _, kind = last.partition(".")
        kind = kind.lower()
        if kind.rpartition(".")[2] in _PICKLES:
            raise UserError(
                f"{path} holds {_shown(member)}: a pickle runs whatever it says when it is read, "
                "and is refused; write numbers as .npy, .json or .cls"
            )
        if (own := f"{folder}{slash}{stem}") != name:
            if members:
                yield name, members
            name, members = own, {}
        if kind in members:
            raise UserError(f"{path} has {_shown(member)} twice")
        members[kind] = place
    if members:
        yield name, members


def _members(path: Path) -> Iterator[tuple[str, Member]]:
    """Name and place of every ordinary file of a tar."""
    size = path.stat().st_size
    try:
        with _Headers(path) as file:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  (it holds nothing)
            before = -1
            while (info := archive.next()) is not None:
                if info.size < 0 or archive.offset <= before:
                    raise ValueError(f"{_shown(info.name)} has no size that could be")
                if info.offset_data + info.size > size:
                    raise ValueError(f"it is cut short in {_shown(info.name)}")
                if info.issparse():
                    raise ValueError(f"{_shown(info.name)} is stored with holes; pack it anew")
                before = archive.offset
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                if info.isreg():
                    yield info.name, Member(info.offset_data, info.size)
            # What it cannot read as a header, tarfile takes for the end.
            file.seek(archive.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise ValueError(f"it is damaged or cut short at byte {archive.offset}")
    except UserError:
        raise
    except Exception as error:  # tarfile raises whatever a damaged header makes it raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot read {path} as a tar: {reason}") from error


def picture_of(path: Path, name: str, members: Members, key: str | None) -> Member | None:
    """The picture of a sample, or None where it has none.

    Args:
        path: The tar, for messages.
        name: The sample.
        members: What it holds.
        key: What the picture is called; None: there must not be several.
    """
    if key is not None:
        return members.get(key)
    found = [kind for kind in members if kind in PICTURES]
    if len(found) > 1:
        raise UserError(
            f"sample {_shown(name)} of {path} has several pictures: choose one with `key`: "
            f"{', '.join(found)}"
        )
    return members[found[0]] if found else None


def conditions_of(
    path: Path, name: str, contents: Mapping[str, bytes], asked: tuple[str, ...]
) -> list[list[float]]:
    """The numbers of a sample that are called so: `cls`, `npy`, or a number in its `json`.

    Args:
        path: The tar, for messages.
        name: The sample.
        contents: Of its `.cls`, `.npy` and `.json`.
        asked: What to find.

    Raises:
        UserError: It is not there, or holds no numbers.
    """
    where = f"sample {_shown(name)} of {path}"
    try:
        plain = parse_json(contents["json"]) if "json" in contents else {}
    except ValueError as error:
        raise UserError(f"the .json of {where} is not valid: {error}") from None
    known: dict[str, list[float]] = {}
    if isinstance(plain, dict):
        known |= {k: [float(v)] for k, v in plain.items() if _is_number(v)}
    for kind, read in (("cls", _class), ("npy", _array)):
        if kind in contents and kind in asked:
            try:
                known[kind] = read(contents[kind])
            except (ValueError, EOFError, OverflowError, TypeError) as error:
                raise UserError(f"the .{kind} of {where} holds no numbers: {error}") from None
        elif kind in contents:
            known[kind] = []
    for one in asked:
        if one not in known:
            raise UnknownNameError(f"condition in {where}:", one, known)
    return [known[one] for one in asked]


CONDITIONS = ("cls", "npy", "json")
"""Members that conditions are read from."""


def refuse_large(path: Path, name: str, kind: str, member: Member) -> None:
    """Raise `UserError` for a member that is too large to be what its name says."""
    most = _CONDITION_BYTES if kind in CONDITIONS else MEMBER_BYTES
    if member.length > most:
        raise UserError(
            f"the .{kind} of sample {_shown(name)} of {path} has {member.length:,} bytes, more "
            f"than {most:,}"
        )


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) < 2**1000
    return isinstance(value, float)


def _class(content: bytes) -> list[float]:
    return [float(int(content.decode("ascii").strip()[:100]))]


def _array(content: bytes) -> list[float]:
    file = io.BytesIO(content)
    shape, dtype = npy_header(file, len(content))
    if dtype.kind not in "biuf":
        raise ValueError(f"it is of {dtype}")
    count = int(np.prod(shape))
    numbers = np.frombuffer(content, dtype, count, file.tell()).astype(np.float64)
    if not count:
        raise ValueError("it is empty")
    return [float(number) for number in numbers]


def _shown(name: str) -> str:
    """A name as it may be printed."""
    return name.encode("utf-8", "replace").decode()[:200]
