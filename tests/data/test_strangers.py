"""Files that claim more than they hold, escape, or are no files: each is refused in one line."""

import gzip
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from wgan.config import read_config, resolve
from wgan.data import DataOptions, open_source
from wgan.data.arrays import FileChangedError, Mapped
from wgan.errors import UserError
from wgan.files import memory_bytes, parse_yaml, refuse_excess
from wgan.metrics.features import feature_space
from wgan.networks import NetworkSpec, Shapes, make_critic, make_generator

TERABYTES = 10**13


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def npy(path: Path) -> None:
    path.write_bytes(npy_header((TERABYTES, 3)) + b"\0" * 100)


def npz(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy_header((TERABYTES, 3)) + b"\0" * 100)


def packed_npz(path: Path) -> None:
    """Two GiB of zeros, stated in the directory and stored in 100 bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_header((2**29,)) + b"\0" * 1000)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\1\2") + 24
    content[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)


def idx(path: Path) -> None:
    path.write_bytes(bytes([0, 0, 13, 2]) + struct.pack(">2I", 2**32 - 1, 2**32 - 1) + b"\0" * 9)


def idx_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes([0, 0, 13, 2]) + struct.pack(">2I", 2**32 - 1, 2**30)))


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(TERABYTES, 3), chunks=(1000, 3), dtype="f4")


def hdf5_elsewhere(path: Path) -> None:
    (path.parent / "secret").write_bytes(b"\1" * 400)
    with h5py.File(path, "w") as file:
        external = [(str(path.parent / "secret"), 0, 400)]
        file.create_dataset("x", shape=(100,), dtype="f4", external=external)


def pipe(path: Path) -> None:
    os.mkfifo(path)


CLAIMS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "npy": ("a.npy", npy, "its header promises 1.12e\\+05 GiB and it has"),
    "npz": ("a.npz", npz, "its header promises"),
    "npz bomb": ("a.npz", packed_npz, "a decompression bomb"),
    "idx": ("a.idx", idx, "it promises 73786976260478"),
    "idx.gz": ("a.gz", idx_gz, "it promises"),
    "hdf5": ("a.h5", hdf5, "a decompression bomb"),
    "hdf5 elsewhere": ("a.h5", hdf5_elsewhere, "takes its numbers from other files"),
    "pipe": ("a.npy", pipe, "but a pipe or a device"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_claims_too_much_is_refused_in_a_line(name: str, tmp_path: Path) -> None:
    file, make, expected = CLAIMS[name]
    make(tmp_path / file)
    with pytest.raises(UserError, match=expected) as caught:
        open_source(tmp_path / file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("groups", [1, 8])  # each by itself within measure
def test_a_parquet_file_that_unfolds_beyond_measure(
    groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgan.files.BOMB_BYTES", 2**25)
    table = pa.table({"a": np.zeros(2**24, dtype=np.float32)})
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=2**24 // groups)
    with pytest.raises(UserError, match="a decompression bomb"):
        open_source(tmp_path / "a.parquet")


def test_a_packed_table_that_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a\n" + b"1\n" * 50_000))
    assert open_source(tmp_path / "a.csv.gz").size == 50_000
    monkeypatch.setattr("wgan.data.tables.BOMB_BYTES", 0)
    monkeypatch.setattr("wgan.data.tables.memory_bytes", lambda: 200_000)
    with pytest.raises(UserError, match="more than 50,000 bytes, a quarter of the memory"):
        open_source(tmp_path / "a.csv.gz")


def test_pictures_of_too_many_pixels_or_bytes_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, options = tmp_path / "photos", DataOptions(size=8, cache=tmp_path / "cache")
    folder.mkdir()
    Image.new("L", (90, 90)).save(folder / "large.png")
    Image.new("L", (8, 8)).save(folder / "small.png")
    os.mkfifo(folder / "pipe.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8000)
    with pytest.raises(UserError, match="2 of 3 pictures") as caught:
        open_source(folder, options)
    assert "large.png (8100 pixels, more than 8000)" in str(caught.value)
    assert "pipe.png (pipe.png is not an ordinary file)" in str(caught.value)


def test_members_of_a_zip_stay_inside(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "png")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "a.zip", "w") as archive:
        for name in ("../../escaped.png", "/escaped.png"):
            archive.writestr(name, buffer.getvalue())
    before = sorted(tmp_path.rglob("*"))
    source = open_source(
        tmp_path / "in" / "a.zip", DataOptions(size=8, cache=tmp_path / "in" / ".c")
    )
    assert source.size == 1  # what begins with a dot is passed over
    assert [p for p in sorted(tmp_path.rglob("*")) if ".c" not in p.parts] == before
    assert not Path("/escaped.png").exists()


def test_weights_are_numbers_and_no_more_than_the_file_holds(tmp_path: Path) -> None:
    pictures = np.zeros((2, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", x=np.array([object()]))
    with pytest.raises(UserError, match="array `x` holds object, not weights"):
        feature_space(str(tmp_path / "a.npz"), pictures)
    npz(tmp_path / "b.npz")
    with pytest.raises(UserError, match="its header promises"):
        feature_space(str(tmp_path / "b.npz"), pictures)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a: !!python/object/apply:os.system ['touch hacked']",
            "could not determine a constructor",
        ),
        ("a: 2001-99-99", "month must be in"),
        ("[" * 5000, "nested too deeply"),
        ("width: 5\n? [1]\n: 2", "unhashable key"),
        ("a: " + "x" * 2**20, "more than 1,048,576 bytes"),
    ],
)
def test_yaml_is_plain_data_or_nothing(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=expected) as caught:
        read_config(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)
    assert parse_yaml(b"a: &x [1, 2]\nb: *x") == {"a": [1, 2], "b": [1, 2]}


def test_settings_of_the_wrong_kind_are_named() -> None:
    source = open_source("gaussians8")
    for given, expected in (
        ({"constraints": {5: {}}}, "`constraints` must hold"),
        ({"constraints": ["drift"]}, "`constraints` must hold"),
        ({"size": "large"}, "`size` must be a whole number, got 'large'"),
        ({"columns": [1, 2]}, r"`columns` must be a list of names, got \[1, 2\]"),
        ({"batch_size": 10**13}, "such a batch takes"),
    ):
        with pytest.raises(UserError, match=expected):
            resolve(given, source, "gaussians8")


def test_networks_beyond_memory_are_refused_before_they_are_made() -> None:
    for width in (10**6, 10**12, 10**20):
        with pytest.raises(UserError, match="network `mlp` is too large to train"):
            make_generator("mlp", NetworkSpec(width, 3), Shapes((2,)), 0)
        with pytest.raises(UserError, match="network `dcgan` is too large"):
            make_critic("dcgan", NetworkSpec(width), Shapes((3, 64, 64)), 0)
    with pytest.raises(UserError, match="`depth` must be <= 10,000"):
        NetworkSpec(8, 10**9)
    refuse_excess(memory_bytes(), memory_bytes())
    with pytest.raises(ValueError, match="and this machine has"):
        refuse_excess(memory_bytes() + 1, memory_bytes() + 1)


@pytest.mark.parametrize("how", ["write", "cut"])
def test_a_mapped_file_that_changes_is_noticed(tmp_path: Path, how: str) -> None:
    rows = np.arange(600, dtype=np.uint8).reshape(100, 6)
    np.save(tmp_path / "a.npy", rows)
    mapped = Mapped(np.load(tmp_path / "a.npy", mmap_mode="r"))
    some = np.array([5, 99, 0, 5])
    np.testing.assert_array_equal(mapped[some], rows[some])
    np.testing.assert_array_equal(mapped[90:200], rows[90:])
    np.testing.assert_array_equal(mapped[::7], rows[::7])
    if how == "cut":
        os.truncate(tmp_path / "a.npy", 200)
    else:
        with (tmp_path / "a.npy").open("r+b") as file:
            file.write(b"!")
    with pytest.raises(FileChangedError, match=r"a\.npy was changed while it was in use"):
        mapped[some]


def test_scattered_and_partial_maps_read_right(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 4))
    np.save(tmp_path / "f.npy", np.asfortranarray(rows))
    part = np.load(tmp_path / "f.npy", mmap_mode="r")
    some = np.array([3, 49])
    np.testing.assert_array_equal(Mapped(part)[some], rows[some])
    np.testing.assert_array_equal(Mapped(part[10:])[some[:1]], rows[13:14])
    assert torch.equal(
        open_source(part).batch(torch.arange(50)).values,
        open_source(rows).batch(torch.arange(50)).values,
    )
