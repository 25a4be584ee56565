"""Folders and zip archives of pictures, decoded once into the cache; and samples as PNG files."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from wgan.data.arrays import ArraySource, Rows, fingerprint
from wgan.data.cache import Meta, decoded_once
from wgan.data.codec import Codec, Scale
from wgan.data.options import DataOptions, Progress
from wgan.errors import UserError
from wgan.files import refuse_excess, refuse_special

MEMBER_BYTES = 2**28
"""A zip member that declares more than this is no picture to open."""

# Pillow hands EPS to Ghostscript, which runs it as a program; the others it only names.
_NEVER_OPENED = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
# What Pillow would log of a damaged file, the reason given for it says.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_GREY_MODES = {"1", "L", "LA", "La", "I", "F"}
_AT_ONCE = 256

T = TypeVar("T")


class Album(Protocol):
    """Where pictures lie: their names in order, what identifies them, and their bytes."""

    names: list[str]
    stamps: list[list[int]]
    ignored: int

    def open(self, name: str) -> IO[bytes]: ...


class FolderAlbum:
    """The pictures under a folder, at any depth; hidden files and other files are passed over."""

    def __init__(self, path: Path, extensions: set[str]) -> None:
        self._path = path
        self.ignored = 0
        found = []
        for folder, folders, files in os.walk(path, onerror=_unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if name.startswith("."):
                    continue
                file = Path(folder, name)
                if file.suffix.lower() in extensions:
                    found.append((file.relative_to(path).as_posix(), _stamp(file)))
                else:
                    self.ignored += 1
        found.sort(key=lambda item: item[0])
        self.names = [name for name, _ in found]
        self.stamps = [stamp for _, stamp in found]

    def open(self, name: str) -> IO[bytes]:
        refuse_special(self._path / name)
        return (self._path / name).open("rb")


class ZipAlbum:
    """The pictures in a zip archive, which are read and never unpacked to the disk."""

    def __init__(self, path: Path, extensions: set[str]) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise UserError(f"cannot read {path} as a zip archive: {error}") from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.ignored = 0
        for member in self._archive.infolist():
            parts = Path(member.filename).parts
            if (
                not parts
                or member.is_dir()
                or any(p.startswith(".") or p == "__MACOSX" for p in parts)
            ):
                continue
            if Path(member.filename).suffix.lower() in extensions:
                self._members[member.filename] = member
            else:
                self.ignored += 1
        self.names = sorted(self._members)
        self.stamps = [[self._members[n].file_size, self._members[n].CRC] for n in self.names]

    def open(self, name: str) -> IO[bytes]:
        member = self._members[name]
        if member.file_size > MEMBER_BYTES:
            raise ValueError(f"declares {member.file_size} bytes, more than {MEMBER_BYTES}")
        refuse_excess(member.file_size, member.compress_size)
        return io.BytesIO(self._archive.read(member))


def _stamp(file: Path) -> list[int]:
    try:
        state = file.stat()
    except OSError:  # a link to nowhere: reading it will say so
        return []
    return [state.st_size, state.st_mtime_ns]


def _unreadable(error: OSError) -> None:
    raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error


class Bad(NamedTuple):
    """A picture that could not be read, and why."""

    name: str
    reason: str


class Glance(NamedTuple):
    """What the header of a picture tells."""

    grey: bool
    enlarged: bool


def open_pictures(
    path: Path,
    name: str,
    options: DataOptions,
    progress: Progress | None = None,
) -> ArraySource:
    """The pictures of a folder (at any depth) or a zip archive, in the order of their paths.

    Each is turned upright (EXIF), flattened on white where it is transparent, resized on its
    shorter side (Lanczos) and cropped at the centre to `options.size`. They stay grey if all are;
    16-bit grey is brought to 8 bits; of an animation the first frame is taken.

    Args:
        path: A folder or a `.zip`.
        name: A short name.
        options: `size`, `skip_bad` and `cache` apply.
        progress: Called with how many are decoded, of how many; not if the cache has them.

    Raises:
        UserError: No pictures, none that can be read, or (without `skip_bad`) some that cannot.
    """
    formats = picture_formats()
    extensions = {end for end, name in Image.registered_extensions().items() if name in formats}
    album: Album = (FolderAlbum if path.is_dir() else ZipAlbum)(path, extensions)
    if not album.names:
        raise UserError(
            f"{path} holds no pictures ({album.ignored} other files); "
            "any format that Pillow reads will do, known by its extension"
        )
    settings = ["pictures", 1, options.size, album.names, album.stamps]

    def build(meta: Meta) -> Iterator[NDArray[Any]]:
        return _decode_all(album, options.size, formats, progress, meta)

    rows, meta = decoded_once(options.cache_folder, name, settings, build)
    refuse_bad(meta["bad"], len(album.names), path, skip=options.skip_bad)
    assert rows is not None
    return picture_source(name, rows, meta, other_files=album.ignored)


def picture_formats() -> list[str]:
    """The formats that pictures are read in, as Pillow calls them."""
    Image.init()
    return [name for name in Image.OPEN if name not in _NEVER_OPENED]


def refuse_bad(bad: Sequence[Sequence[str]], count: int, path: Path, *, skip: bool) -> None:
    """Raise `UserError` for pictures that cannot be read, unless they are some and are left out.

    Args:
        bad: Name and reason of each.
        count: All pictures, these included.
        path: Where they are.
        skip: Whether they are left out.
    """
    listed = "; ".join(f"{file} ({reason})" for file, reason in bad[:3])
    listed += f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    if bad and len(bad) == count:
        raise UserError(f"none of the {len(bad)} pictures in {path} can be read: {listed}")
    if bad and not skip:
        raise UserError(
            f"{len(bad)} of {count} pictures in {path} cannot be read: {listed}. "
            "Mend or remove them, or leave them out with --skip-bad"
        )


def picture_source(name: str, rows: Rows, meta: Meta, **about: object) -> ArraySource:
    """The source of pictures ``[n, size, size]`` or ``[n, size, size, 3]`` of bytes.

    Args:
        name: A short name.
        rows: The pictures.
        meta: With `digest`, `enlarged` and `bad`.
        **about: What else there is to say of them.
    """
    colour, size = len(rows.shape) == 4, rows.shape[1]
    codec = Codec(
        kind="image",
        shape=(3 if colour else 1, size, size),
        layout="channels-last" if colour else "no-channels",
        dtype="uint8",
        values=Scale.between(0, 255),
        low=0.0,
        high=255.0,
        bounded=True,
    )
    told = {
        "what": f"{'colour' if colour else 'grey'} pictures, {size} x {size}",
        "scaled": "0..255 to -1..1",
        "enlarged": meta["enlarged"],
        "skipped": len(meta["bad"]),
        **about,
    }
    return ArraySource(name, rows, codec, fingerprint(codec, meta["digest"]), told)


def _decode_all(
    album: Album,
    size: int,
    formats: list[str],
    progress: Progress | None,
    meta: Meta,
) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures that can be read; `meta` gets the others, with counts and a hash."""
    bad: list[Bad] = []
    hashed = hashlib.sha256()
    meta.update(bad=bad, enlarged=0, digest="")

    def attempt(work: Callable[[Image.Image], T]) -> Callable[[str], T | Bad]:
        return lambda name: attempted(name, lambda: album.open(name), formats, work)

    with without_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        good: list[str] = []
        grey = True
        for some in _parts(album.names):
            for name, seen in zip(some, pool.map(attempt(glance(size)), some), strict=True):
                if isinstance(seen, Bad):
                    bad.append(seen)
                    continue
                good.append(name)
                grey &= seen.grey
                meta["enlarged"] += seen.enlarged
        done = 0
        for some in _parts(good):
            pixels = []
            for decoded in pool.map(attempt(decode(size, grey)), some):
                if isinstance(decoded, Bad):
                    bad.append(decoded)
                else:
                    pixels.append(decoded)
            done += len(some)
            if pixels:
                block = np.stack(pixels)
                hashed.update(block.data)
                yield block
            if progress:
                progress(done, len(good))
    bad.sort()
    meta["digest"] = hashed.hexdigest()


def _parts(names: list[str]) -> Iterator[list[str]]:
    """So many names that all workers are busy, and so few that the results fit in memory."""
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]


def attempted(
    name: str,
    open_file: Callable[[], IO[bytes]],
    formats: list[str],
    work: Callable[[Image.Image], T],
) -> T | Bad:
    """What `work` makes of a picture, or why it cannot be read; called without warnings."""
    try:
        with open_file() as file, Image.open(file, formats=formats) as image:
            pixels, most = image.width * image.height, Image.MAX_IMAGE_PIXELS
            if most is not None and pixels > most:
                raise ValueError(f"{pixels} pixels, more than {most}")
            return work(image)
    except Exception as error:  # decoders raise whatever a damaged file makes them raise
        if isinstance(error, UnidentifiedImageError):
            return Bad(name, "not a picture")
        text = str(error) or type(error).__name__
        return Bad(name, text.splitlines()[0][:100])


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow's warnings name no file, and too many pixels are refused by :func:`attempted`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def glance(size: int) -> Callable[[Image.Image], Glance]:
    """What the header of a picture tells of it, if it is to become `size` pixels high and wide."""

    def look(image: Image.Image) -> Glance:
        grey = image.mode in _GREY_MODES or image.mode.startswith("I;16")
        if image.mode in ("P", "PA"):
            palette = np.asarray(image.getpalette() or [0, 0, 1]).reshape(-1, 3)
            grey = bool((palette == palette[:, :1]).all())
        return Glance(grey, min(image.size) < size)

    return look


def decode(size: int, grey: bool) -> Callable[[Image.Image], NDArray[np.uint8]]:
    """Upright, eight bits, opaque, one size; ``[size, size]`` if grey, else ``[size, size, 3]``."""

    def pixels(image: Image.Image) -> NDArray[np.uint8]:
        image.draft(None, (4 * size, 4 * size))  # a large JPEG is decoded at a fraction of its size
        upright = _eight_bits(ImageOps.exif_transpose(image))
        if upright.has_transparency_data:
            layer = upright.convert("RGBA")
            white = Image.new("RGBA", layer.size, "white")
            upright = Image.alpha_composite(white, layer)
        upright = upright.convert("L" if grey else "RGB")
        # Cutting the box while resizing equals resizing the shorter side and then cropping,
        # without the half pixel that rounding would cost.
        side = min(upright.size)
        left, top = (upright.width - side) / 2, (upright.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(upright.resize((size, size), Image.Resampling.LANCZOS, box=box))

    return pixels


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pictures of 16-bit grey brought to 8 bits; Pillow itself would clip them at 255."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; use an .npy array")
    if image.mode == "I" or image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("32-bit pixels have no known range; use an .npy array")
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    return image


def as_pixels(codec: Codec, own: NDArray[Any]) -> NDArray[np.uint8]:
    """Image samples in their own units as bytes ``[n, h, w, channels]``, for the eye.

    The own range, `codec.low` to `codec.high`, becomes 0 to 255.

    Raises:
        UserError: Samples that are not images of 1, 3 or 4 channels.
    """
    if codec.kind != "image" or codec.shape[0] not in (1, 3, 4):
        raise UserError(
            f"samples of kind `{codec.kind}` and shape {list(codec.shape)} cannot be drawn as "
            "pictures (images of 1, 3 or 4 channels can); write them to an .npy file"
        )
    own = own.reshape(len(own), *codec.own_shape)
    if codec.layout == "channels-first":
        own = np.moveaxis(own, 1, -1)
    elif codec.layout == "no-channels":
        own = own[..., None]
    low, high = codec.low or 0.0, 255.0 if codec.high is None else codec.high
    span = (high - low) or 1.0
    scaled = (own.astype(np.float64) - low) * (255 / span)
    pixels: NDArray[np.uint8] = np.rint(scaled.clip(0, 255)).astype(np.uint8)
    return pixels


def write_images(folder: str | os.PathLike[str], codec: Codec, own: NDArray[Any]) -> Path:
    """Write one PNG file per sample, `00000.png` and so on, into a new or empty folder.

    Args:
        folder: Made if it is not there.
        codec: The codec of an image source.
        own: Samples in their own units, ``[n, *codec.own_shape]``.

    Raises:
        UserError: Samples that are not images, or a folder with something in it.
    """
    folder = Path(folder)
    pixels = as_pixels(codec, own)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; choose another folder")
        width = max(5, len(str(len(pixels) - 1)))
        for i, picture in enumerate(pixels):
            squeezed = picture[..., 0] if picture.shape[-1] == 1 else picture
            Image.fromarray(squeezed).save(folder / f"{i:0{width}d}.png")
    except OSError as error:
        raise UserError(f"cannot write pictures to {folder}: {error.strerror or error}") from error
    return folder
