from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from wgan.data import DataOptions, Source, array_files, open_source
from wgan.data.arrays import Mapped
from wgan.errors import MissingExtraError, UserError

ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def own(source: Source) -> np.ndarray:
    assert source.size is not None
    return source.codec.decode(source.batch(torch.arange(source.size)).values)


def idx(array: np.ndarray, code: int) -> bytes:
    axes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + axes + array.tobytes()


def test_npy_is_mapped_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    monkeypatch.setattr("wgan.data.arrays.IN_MEMORY_BYTES", 0)
    source = open_source(tmp_path / "a.npy")
    assert source.name == "a"
    assert isinstance(source._rows, Mapped)  # type: ignore[attr-defined]
    np.testing.assert_allclose(own(source), ROWS, rtol=1e-5, atol=1e-6)


def test_the_same_numbers_have_one_fingerprint_in_every_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    np.save(tmp_path / "b.npy", np.asfortranarray(ROWS))
    np.savez(tmp_path / "c.npz", ROWS)
    np.savez_compressed(tmp_path / "d.npz", x=ROWS)
    (tmp_path / "e.idx2").write_bytes(idx(ROWS.astype(">f4"), 13))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["group/x"] = ROWS
    opened = [open_source(path) for path in sorted(tmp_path.iterdir())]
    assert len(opened) == 6
    assert {source.fingerprint for source in opened} == {open_source(ROWS).fingerprint}


class Canary:
    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize("name", ["a.npy", "b.npy", "c.npz"])
def test_nothing_is_unpickled(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, np.array([Canary()], dtype=object), allow_pickle=True)
    elif name == "b.npy":
        path.write_bytes(pickle.dumps(Canary()))
    else:
        np.savez(path, x=np.array([Canary()], dtype=object))
    with pytest.raises(UserError, match=r"never unpickled|magic string|no array of numbers"):
        open_source(path)
    if name == "c.npz":
        with pytest.raises(UserError, match=r"`x` of .* holds object"):
            open_source(path, DataOptions(key="x"))


@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_one_array_of_several(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"several.{ending}"
    arrays = {"x": ROWS, "y": np.arange(20), "images": np.zeros((20, 4, 4)), "pairs": ROWS[:, :2]}
    if ending == "npz":
        np.savez(path, **arrays, names=np.array(["a"] * 20))  # type: ignore[arg-type]
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
            file["names"] = "text"
    with pytest.raises(UserError, match=r"holds 4 arrays; choose one with --key.*x \[20, 3\]"):
        open_source(path)
    with pytest.raises(UserError, match=r"unknown array in .*: 'image'. Did you mean 'images'\?"):
        open_source(path, DataOptions(key="image"))
    with pytest.raises(UserError, match="both the key and a condition"):
        open_source(path, DataOptions(key="x", condition=("x",)))
    assert open_source(path, DataOptions(key="images")).shape == (1, 4, 4)
    source = open_source(path, DataOptions(condition=("y", "pairs"), key="x"))
    assert source.codec.condition == ("y", "pairs_0", "pairs_1")
    np.testing.assert_allclose(own(source), ROWS, rtol=1e-5, atol=1e-6)
    short = DataOptions(key="x", condition=("y",))
    condition = open_source(path, short).batch(torch.tensor([0, 19])).condition
    assert condition is not None
    assert condition.sum() == 0
    assert condition[1] > 1


@pytest.mark.parametrize(
    ("dtype", "code"), [("u1", 8), ("i1", 9), (">i2", 11), (">i4", 12), (">f4", 13), (">f8", 14)]
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_of_every_type(tmp_path: Path, dtype: str, code: int, ending: str) -> None:
    array = np.arange(5 * 4 * 3).reshape(5, 4, 3).astype(dtype)
    path = tmp_path / f"some-images-idx3-ubyte{ending}"
    content = idx(array, code)
    path.write_bytes(gzip.compress(content) if ending else content)
    source = open_source(path)
    assert source.name == "some-images-idx3-ubyte"
    assert source.shape == (1, 4, 3)
    back = own(source)
    np.testing.assert_allclose(back, array, atol=1e-4)
    assert back.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c + b"0", lambda c: c[:6]])
def test_idx_of_another_length_is_refused(tmp_path: Path, change: Any) -> None:
    content = change(idx(np.zeros((5, 4, 3), np.uint8), 8))
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=r"promises 60 bytes|cut short"):
        open_source(tmp_path / "a.gz")


def zipped(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, ROWS)
    whole = buffer.getvalue()
    (tmp_path / "cut.npy").write_bytes(whole[:-10])
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "text.gz").write_text("hello")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(idx(ROWS.astype(">f4"), 13))[:-20])
    zipped(tmp_path / "cut.npz", whole[:-10])
    # numpy would make room for a terabyte before it reads the first number
    zipped(tmp_path / "boast.npz", whole.replace(b"(20, 3)", b"(10000000, 30000)"))
    zipped(tmp_path / "text-in.npz", b"hello")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError, match=f"cannot read .*{path.name} as") as caught:
            open_source(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("chunks", [None, (7, 2)])
def test_hdf5_larger_than_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: tuple[int, ...] | None
) -> None:
    with h5py.File(tmp_path / "big.h5", "w") as file:
        file.create_dataset("x", data=ROWS, chunks=chunks)
    for module in ("arrays", "array_files"):
        monkeypatch.setattr(f"wgan.data.{module}.IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(array_files, "COPY_BYTES", 100)
    options = DataOptions(cache=tmp_path / "cache")
    seen: list[tuple[int, int]] = []
    source = open_source(
        tmp_path / "big.h5", options, progress=lambda done, total: seen.append((done, total))
    )
    np.testing.assert_allclose(own(source), ROWS, rtol=1e-5, atol=1e-6)
    indices = torch.tensor([5, 3, 3, 19, 0])
    torch.testing.assert_close(
        source.batch(indices).values, open_source(ROWS).batch(indices).values
    )
    assert source.fingerprint == open_source(ROWS).fingerprint
    # What is contiguous is read where it lies.
    assert seen == ([] if chunks is None else [(7, 20), (14, 20), (20, 20)])
    assert (tmp_path / "cache").exists() == (chunks is not None)


def test_hdf5_without_h5py_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").touch()
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wgan\[hdf5\]'"):
        open_source(tmp_path / "a.h5")
