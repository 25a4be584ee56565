"""Pictures and tables in shards: tars in WebDataset's layout, and folders of parquet files."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from wgan.data import DataOptions, Order, Source, open_source, row_groups, shards, tables
from wgan.data.arrays import FileChangedError
from wgan.data.base import Blocks
from wgan.data.shards import UnreadableError
from wgan.errors import UnknownNameError, UserError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def coded(pixels: np.ndarray, form: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def tar(path: Path, members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def samples(numbers: range) -> dict[str, bytes]:
    """Sample i: picture i, class i, its number in json, three numbers in an array."""
    found: dict[str, bytes] = {}
    for i in numbers:
        array = io.BytesIO()
        np.save(array, np.array([i, 2 * i, -i], np.float32))
        found |= {
            f"part.a/{i:03d}.png": coded(PIXELS[i]),
            f"part.a/{i:03d}.cls": str(i).encode(),
            f"part.a/{i:03d}.json": json.dumps({"age": i / 2, "name": "x"}).encode(),
            f"part.a/{i:03d}.npy": array.getvalue(),
        }
    return found


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    folder = tmp_path / "tars"
    tar(folder / "b.tar", samples(range(5, 12)), tarfile.USTAR_FORMAT)
    tar(folder / "a.tar", samples(range(5)))
    return folder


@pytest.fixture
def parquets(tmp_path: Path) -> Path:
    folder = tmp_path / "parquets"
    folder.mkdir()
    for number, rows in enumerate((range(5), range(5, 12))):
        pictures = [{"bytes": coded(PIXELS[i]), "path": f"{i}.png"} for i in rows]
        table = pa.table({"image": pictures, "label": list(rows), "caption": ["x"] * len(rows)})
        pyarrow.parquet.write_table(table, folder / f"{number}.parquet", row_group_size=2)
    return folder


def options(path: Path, **how: object) -> DataOptions:
    return DataOptions(size=8, cache=path.parent / "cache", **how)  # type: ignore[arg-type]


def own(source: Source) -> np.ndarray:
    return source.codec.decode(source.batch(torch.arange(source.size or 0)).values)


def given(source: Source, rows: list[int]) -> np.ndarray:
    """The conditions of some samples in their own units."""
    condition = source.batch(torch.tensor(rows)).condition
    assert condition is not None
    return source.codec.conditions.decode(condition.numpy())


@pytest.mark.parametrize("kind", ["tars", "parquets"])
@pytest.mark.parametrize("kept", [True, False])
def test_pictures_are_read_by_number_to_the_byte(
    kind: str, kept: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = request.getfixturevalue(kind)
    if not kept:
        monkeypatch.setattr(shards, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 0)  # one row group at a time
    for _ in range(2):  # the second time by the index in the cache
        source = open_source(path, options(path))
        assert (source.name, source.size, source.shape) == (kind, 12, (3, 8, 8))
        for rows in ([11, 0, 5, 5], [4, 4, 1]):
            values = source.batch(torch.tensor(rows)).values
            np.testing.assert_array_equal(source.codec.decode(values), PIXELS[rows])
    np.testing.assert_array_equal(own(source), PIXELS)
    train, held = source.split(0.25, 0)
    assert (train.size, held.size) == (9, 3)
    both = np.sort(np.concatenate([own(train), own(held)]).reshape(12, -1), axis=0)
    np.testing.assert_array_equal(both, np.sort(PIXELS.reshape(12, -1), axis=0))
    assert source.describe()["shards"] == 2


def test_only_what_is_asked_for_is_read(tars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(tars, options(tars))
    read: list[tuple[int, int, int]] = []
    before = shards.Tars._read

    def noted(self: shards.Tars, number: int, at: int, length: int) -> bytes:
        read.append((number, at, length))
        return before(self, number, at, length)

    monkeypatch.setattr(shards.Tars, "_read", noted)
    source.batch(torch.tensor([3, 9]))
    assert [number for number, _, _ in read] == [0, 1]
    source.batch(torch.tensor([9, 3]))
    assert len(read) == 2  # decoded once


def test_grey_pictures_stay_grey(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    tar(tmp_path / "t" / "a.tar", {f"{i}.png": coded(grey[i]) for i in range(3)})
    source = open_source(tmp_path / "t" / "a.tar", options(tmp_path))
    assert (source.name, source.shape) == ("a", (1, 8, 8))
    np.testing.assert_array_equal(own(source), grey[:3])


def test_conditions_of_tars(tars: Path) -> None:
    source = open_source(tars, options(tars, condition=("npy", "age", "cls")))
    assert source.codec.condition == ("npy_0", "npy_1", "npy_2", "age", "cls")
    decoded = given(source, [0, 11])
    np.testing.assert_allclose(decoded, [[0.0] * 5, [11.0, 22, -11, 5.5, 11]], atol=1e-5)
    with pytest.raises(UnknownNameError, match=r"condition in sample part.a/000 .*'agee'.*age"):
        open_source(tars, options(tars, condition=("agee",)))
    plain = open_source(tars, options(tars))
    assert source.fingerprint != plain.fingerprint


def test_conditions_of_parquet_pictures(parquets: Path) -> None:
    source = open_source(parquets, options(parquets, condition=("label",)))
    np.testing.assert_allclose(given(source, [0, 11]), [[0.0], [11.0]], atol=1e-5)
    with pytest.raises(UnknownNameError, match=r"column of numbers .*'caption'. Known: label"):
        open_source(parquets, options(parquets, condition=("caption",)))
    with pytest.raises(UnknownNameError, match=r"column of bytes .*'label'. Known: image"):
        open_source(parquets, options(parquets, key="label"))
    assert open_source(parquets / "0.parquet", options(parquets)).size == 5
    learnt = open_source(parquets, options(parquets, columns=("label",)))
    assert learnt.codec.kind == "rows"


def test_the_fingerprint_is_of_the_content(tars: Path, tmp_path: Path) -> None:
    mark = open_source(tars, options(tars)).fingerprint
    (tmp_path / "else").mkdir()
    for name in ("a.tar", "b.tar"):
        (tmp_path / "else" / name).write_bytes((tars / name).read_bytes())
    assert open_source(tmp_path / "else", options(tars)).fingerprint == mark
    content = bytearray((tars / "a.tar").read_bytes())
    content[content.index(b"000.cls") + 512] = ord("9")
    (tars / "a.tar").write_bytes(content)
    assert open_source(tars, options(tars)).fingerprint != mark


# -- the order -------------------------------------------------------------------------------------


def test_samples_in_blocks_are_read_once_each_a_few_blocks_at_a_time() -> None:
    of = torch.arange(10).repeat_interleave(7)
    order = Order(70, 3, Blocks(of, 2))
    epochs = [order.take(70 * e, 70) for e in range(2)]
    for epoch in epochs:
        assert epoch.sort().values.equal(torch.arange(70))
        windows = of[epoch].reshape(5, 14)
        assert all(len(window.unique()) == 2 for window in windows)
        assert any((window.diff() != 0).sum() > 2 for window in windows)  # mixed within
    assert not epochs[0].equal(epochs[1])
    # a function of the seed and of the number drawn alone
    assert Order(70, 3, Blocks(of, 2)).take(33, 50).equal(torch.cat(epochs)[33:83])


def test_row_groups_that_do_not_fit_are_blocks(
    parquets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(parquets, options(parquets, condition=("label",)))
    assert source.blocks is None  # type: ignore[attr-defined]
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 0)
    source = open_source(parquets, options(parquets, condition=("label",)))
    train, _ = source.split(0.25, 0)
    blocks = train.blocks  # type: ignore[attr-defined]
    assert blocks.at_once == 1
    expected = [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6]
    assert blocks.of.tolist() == [expected[i] for i in train.indices]  # type: ignore[attr-defined]


# -- tables ----------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    folder = tmp_path / "table"
    folder.mkdir()
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30))
    b[[4, 17]] = np.nan
    for i in range(2):
        part = slice(15 * i, 15 * i + 15)
        columns = {"a": a[part], "b": pa.array(b[part], from_pandas=True), "n": np.arange(30)[part]}
        pyarrow.parquet.write_table(pa.table(columns), folder / f"{i}.pq", row_group_size=4)
    return folder


def test_a_folder_of_tables_is_one_table(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = {"drop_missing": True, "columns": ("n", "a", "b"), "condition": ("b",)}
    whole = open_source(table, options(table, **how))
    assert (whole.size, whole.codec.columns) == (28, ("n", "a"))
    assert own(whole)[[3, 4, 15, 16], 0].tolist() == [3, 5, 16, 18]
    monkeypatch.setattr(tables, "IN_MEMORY_BYTES", 0)
    for kept in (2**28, 0):
        monkeypatch.setattr(row_groups, "KEPT_BYTES", kept)
        for _ in range(2):
            streamed = open_source(table, options(table, **how))
            assert streamed.fingerprint == whole.fingerprint
            for rows in (torch.arange(28), torch.tensor([27, 0, 13, 13])):
                for ours, theirs in zip(streamed.batch(rows), whole.batch(rows), strict=True):
                    torch.testing.assert_close(ours, theirs)
        assert (streamed.blocks is None) == (kept > 0)  # type: ignore[attr-defined]


def test_files_of_a_folder_have_one_schema(table: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"a": [1.0], "c": [2.0]}), table / "2.pq")
    with pytest.raises(UserError, match=r"2\.pq and .*0\.pq differ in the columns a?,?.*b, c, n"):
        open_source(table)


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_shard_that_changes_or_vanishes(
    tars: Path, parquets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(row_groups, "KEPT_BYTES", 0)
    for path, name in ((tars, "a.tar"), (parquets, "0.parquet")):
        source = open_source(path, options(path))
        source.batch(torch.tensor([0]))
        kept = (path / name).read_bytes()
        (path / name).rename(path / "away")
        np.testing.assert_array_equal(
            source.codec.decode(source.batch(torch.tensor([4])).values), PIXELS[[4]]
        )  # it goes on being read as it was
        fresh = open_source
        (path / "away").rename(path / name)
        source = fresh(path, options(path))
        (path / name).unlink()
        with pytest.raises(FileChangedError, match=f"{name} was there and cannot be read any more"):
            source.batch(torch.tensor([4]))
        (path / name).write_bytes(kept)
        with pytest.raises(FileChangedError, match=f"{name} was changed while it was in use"):
            source.batch(torch.tensor([4]))
        source = fresh(path, options(path))
        source.batch(torch.tensor([0]))
        os.truncate(path / name, 700)
        with pytest.raises(FileChangedError, match=f"{name} was changed while it was in use"):
            source.batch(torch.tensor([4]))


def test_a_picture_that_is_damaged_further_on(tmp_path: Path) -> None:
    members = samples(range(4))
    damaged = members["part.a/002.png"]
    members["part.a/002.png"] = damaged[:60] + bytes(20) + damaged[80:]
    members["part.a/003.png"] = b"no picture"
    path = tmp_path / "t"
    tar(path / "a.tar", members)
    with pytest.raises(UserError, match=r"1 of 4 pictures .*a\.tar:part\.a/003 \(not a picture\)"):
        open_source(path, options(path))
    del members["part.a/003.png"]  # now a sample without a picture
    tar(path / "a.tar", members)
    source = open_source(path, options(path))
    assert (source.size, source.describe()["other_samples"]) == (3, 1)
    source.batch(torch.tensor([0, 1]))
    with pytest.raises(UnreadableError, match=r"picture at byte \d+ of .*a\.tar cannot be read"):
        source.batch(torch.tensor([2]))
    without = open_source(path, options(path, skip_bad=True))
    assert (without.size, without.describe()["skipped"]) == (2, 1)
    np.testing.assert_array_equal(own(without), PIXELS[:2])


def header_size(content: bytes, name: bytes, claim: bytes) -> bytes:
    """A tar in which a member claims another size, its checksum right."""
    data = bytearray(content)
    at = data.index(name)
    data[at + 124 : at + 136] = claim.ljust(12, b"\0")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = f"{sum(data[at : at + 512]):06o}\0 ".encode()
    return bytes(data)


def test_tars_that_are_not_what_they_claim(tmp_path: Path) -> None:
    path = tmp_path / "t" / "a.tar"
    tar(path, {f"{i}.png": coded(PIXELS[i]) for i in range(3)}, tarfile.USTAR_FORMAT)
    whole = path.read_bytes()
    long_name = bytearray(whole)
    long_name[156] = ord("L")
    cases = {
        "it is cut short in 1.png": header_size(whole, b"1.png", b"77777777777"),
        "cannot read .*a.tar as a tar": header_size(whole, b"1.png", b"\xff" * 12),
        "damaged or cut short at byte": whole[: whole.index(b"2.png")] + b"x" * 512 + whole[-1024:],
        r"damaged or cut short at byte \d+$": whole[: whole.index(b"2.png")],
        "it has a header of 8589934592 bytes": header_size(
            bytes(long_name), b"0.png", b"77777777777"
        ),
        "as a tar: invalid header": b"no tar" * 200,
    }
    for expected, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=expected) as caught:
            open_source(path, options(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"a.png": b"", "a.pyd": b""}, r"a\.tar holds a\.pyd: a pickle runs whatever it says"),
        ({"a.png": b"", "a.x.pickle": b""}, "holds a.x.pickle"),
        ({"a.png": b"", "a.jpg": b""}, "several pictures: choose one with `key`: png, jpg"),
        ({"a.png": b"", "b.png": b"", "b.PNG": b""}, "has b.PNG twice"),
        ({"a.txt": b""}, r"holds shards without pictures \(1 other samples\)"),
        ({}, r"holds shards without pictures \(0 other samples\)"),
    ],
)
def test_tars_that_are_no_data(tmp_path: Path, members: dict[str, bytes], expected: str) -> None:
    tar(tmp_path / "t" / "a.tar", members)
    with pytest.raises(UserError, match=expected):
        open_source(tmp_path / "t", options(tmp_path))


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("cls", b"cat", r"the \.cls of sample 0 of .* holds no numbers: invalid literal"),
        ("json", b"{", r"the \.json of sample 0 of .* is not valid"),
        ("json", b'{"age": "old"}', "unknown condition in sample 0 .*'age'"),
        ("npy", b"\x93NUMPY\1\0" + b"\0" * 100, r"the \.npy of sample 0 .* holds no numbers"),
        ("cls", b"1" * 2**21, r"the \.cls of sample 0 .* has 2,097,152 bytes, more than 1,048,576"),
    ],
)
def test_conditions_that_are_no_numbers(
    tmp_path: Path, kind: str, content: bytes, expected: str
) -> None:
    tar(tmp_path / "t" / "a.tar", {"0.png": coded(PIXELS[0]), f"0.{kind}": content})
    asked = ("age",) if kind == "json" else (kind,)
    with pytest.raises(UserError, match=expected) as caught:
        open_source(tmp_path / "t", options(tmp_path, condition=asked))
    assert "\n" not in str(caught.value)


def test_members_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "t" / "a.tar"
    names = ("../../escaped.png", "/escaped.png", "./._hidden.png")
    tar(path, {name: coded(PIXELS[i]) for i, name in enumerate(names)})
    with tarfile.open(path, "a") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo("link.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    before = sorted(tmp_path.rglob("*"))
    source = open_source(path, options(tmp_path / "x"))
    np.testing.assert_array_equal(own(source), PIXELS[:2])
    assert [p for p in sorted(tmp_path.rglob("*")) if "cache" not in str(p)] == before


def test_compressed_tars_and_mixed_folders_are_refused(tars: Path, parquets: Path) -> None:
    (tars / "c.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"c\.tar\.gz is compressed"):
        open_source(tars)
    (parquets / "photo.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 shards such as 0\.parquet beside photo\.png"):
        open_source(parquets)
    (parquets / "photo.png").unlink()
    os.mkfifo(parquets / "2.parquet")
    with pytest.raises(UserError, match=r"2\.parquet is not an ordinary file"):
        open_source(parquets)


def test_too_many_pixels_and_repeated_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8000)
    tar(tmp_path / "t" / "a.tar", {"0.png": coded(np.zeros((90, 90), np.uint8))})
    with pytest.raises(UserError, match=r"8100 pixels, more than 8000"):
        open_source(tmp_path / "t", options(tmp_path))
    # Unfolded, these take 400 times as much as the one that they are.
    column = pa.array([coded(PIXELS[0]) + bytes(2**16)] * 400)
    path = tmp_path / "p" / "a.parquet"
    path.parent.mkdir()
    pyarrow.parquet.write_table(pa.table({"image": column}), path)
    assert path.stat().st_size < 2**18
    assert open_source(path.parent, options(tmp_path)).size == 400
    table = row_groups.RowGroups([path]).read(0, ["image"], ("image",))
    assert table.nbytes < 2**18


def test_a_picture_without_bytes(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = pa.array([{"bytes": coded(PIXELS[0]), "path": "a"}, {"bytes": None}, None], kind)
    (tmp_path / "p").mkdir()
    pyarrow.parquet.write_table(pa.table({"image": pictures}), tmp_path / "p" / "a.parquet")
    with pytest.raises(UserError, match=r"2 of 3 pictures .*row 1 of row group 0 of .*a\.parquet"):
        open_source(tmp_path / "p", options(tmp_path))
    assert open_source(tmp_path / "p", options(tmp_path, skip_bad=True)).size == 1
