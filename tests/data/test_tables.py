from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

from wgan.data import Codec, DataOptions, Source, open_source, tables, write_table
from wgan.data.arrays import Mapped
from wgan.errors import MissingExtraError, UserError

COLUMNS = {
    "age": pa.array([20, 30, 40, 50, 60], pa.int16()),
    "height": pa.array([1.5, 1.625, 1.75, 1.875, 2.0], pa.float32()),
    "member": pa.array([True, False, True, True, False]),
    "score": pa.array([-10.0, 0.5, 2.5, 100.0, 0.1], pa.float64()),
}
ENDINGS = ["csv", "csv.gz", "parquet"]


def write(path: Path, columns: dict[str, pa.Array] | pa.Table) -> Path:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=2)
        return path
    with pa.output_stream(str(path)) as stream:
        pyarrow.csv.write_csv(table, stream)
    return path


def everything(source: Source) -> torch.Tensor:
    return source.batch(torch.arange(source.size or 0)).values


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_goes_there_and_back(tmp_path: Path, ending: str) -> None:
    source = open_source(write(tmp_path / f"people.{ending}", COLUMNS))
    assert source.name == "people"
    assert source.codec.columns == tuple(COLUMNS)
    assert source.codec.kind == "rows"
    values = everything(source)
    torch.testing.assert_close(values.mean(0), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.std(0, unbiased=False), torch.ones(4))
    own = source.codec.decode(values)
    for j, column in enumerate(COLUMNS.values()):
        np.testing.assert_allclose(
            own[:, j], column.to_numpy(zero_copy_only=False), rtol=1e-4, atol=1e-5
        )
    again = write_table(tmp_path / f"again.{ending}", source.codec, own)
    second = open_source(again)
    assert second.codec.columns == source.codec.columns
    assert second.codec.dtypes == source.codec.dtypes
    torch.testing.assert_close(everything(second), values, atol=1e-4, rtol=0)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [again.name, f"people.{ending}"]


def test_parquet_keeps_the_dtypes(tmp_path: Path) -> None:
    codec = open_source(write(tmp_path / "a.parquet", COLUMNS)).codec
    assert codec.dtypes == ("int16", "float32", "bool", "float64")
    own = np.array([[1.0, 2.0, 1.0, 3.0]])
    write_table(tmp_path / "b.parquet", codec, own)
    assert pyarrow.parquet.read_schema(tmp_path / "b.parquet").types == [
        column.type for column in COLUMNS.values()
    ]


def test_columns_are_chosen_and_ordered(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", COLUMNS)
    source = open_source(path, DataOptions(columns=("score", "age")))
    assert source.codec.columns == ("score", "age")
    torch.testing.assert_close(everything(source), everything(open_source(path))[:, [3, 0]])
    with pytest.raises(UserError, match=r"unknown column in .*: 'hight'. Did you mean 'height'\?"):
        open_source(path, DataOptions(columns=("hight",)))


@pytest.mark.parametrize("ending", ENDINGS)
def test_conditions_are_not_learnt(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", COLUMNS)
    source = open_source(path, DataOptions(condition=("age", "score")))
    assert source.codec.columns == ("height", "member")
    assert source.codec.condition == ("age", "score")
    train, _ = source.split(0.2, seed=0)
    for part in (source, train):
        values, condition = part.batch(torch.tensor([0, 3]))
        assert condition is not None
        # height is a linear function of age, so that they are equal when standardised
        torch.testing.assert_close(condition[:, 0], values[:, 0])
    condition = source.batch(torch.arange(5)).condition
    assert condition is not None
    torch.testing.assert_close(condition, everything(open_source(path))[:, [0, 3]])
    assert source.codec.encode_condition(np.array([[40.0, 0]]))[0, 0] == 0
    assert source.describe()["condition"] == {"age": [20.0, 60.0], "score": [-10.0, 100.0]}
    with_all = open_source(path, DataOptions(columns=("age", "score"), condition=("age",)))
    assert with_all.codec.columns == ("score",)
    with pytest.raises(UserError, match="left to learn"):
        open_source(path, DataOptions(columns=("age",), condition=("age",)))


def test_text_columns_are_named_and_the_others_offered(tmp_path: Path) -> None:
    texts = {"name": pa.array(list("abcde")), "day": pa.array([1] * 5, pa.date32())}
    path = write(tmp_path / "a.parquet", {**COLUMNS, **texts})
    with pytest.raises(
        UserError, match=r"name \(string\), day \(date32.*--columns age,height,member,score$"
    ):
        open_source(path)
    with pytest.raises(UserError, match=r"learnt yet: name \(string\);"):
        open_source(path, DataOptions(columns=("age", "name")))
    assert open_source(path, DataOptions(columns=("age", "score"))).shape == (2,)


@pytest.mark.parametrize("ending", ENDINGS)
def test_missing_values_are_refused_or_dropped(tmp_path: Path, ending: str) -> None:
    holes = {
        "a": pa.array([1, None, 3, 4], pa.int64()),
        "b": pa.array([1.0, float("nan"), float("nan"), 4.0]),
        "whole": pa.array([5, 6, 7, 8]),
        "flag": pa.array([True, True, None, False]),
    }
    path = write(tmp_path / f"a.{ending}", holes)
    with pytest.raises(UserError, match=r"missing values: a 1, b 2, flag 1; .*--drop-missing"):
        open_source(path)
    source = open_source(path, DataOptions(drop_missing=True))
    assert source.size == 2
    assert source.describe()["dropped"] == 2
    np.testing.assert_allclose(source.codec.decode(everything(source))[:, 2], [5, 8])
    # A hole in a column that is not used does not matter.
    assert open_source(path, DataOptions(columns=("whole",))).size == 4
    with pytest.raises(UserError, match="missing values: a 1"):
        open_source(path, DataOptions(columns=("whole",), condition=("a",)))


def test_a_column_of_nothing_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,\n2,\n")
    with pytest.raises(UserError, match="missing values: y 2"):
        open_source(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"every row of .* has a missing value"):
        open_source(tmp_path / "a.csv", DataOptions(drop_missing=True))


def test_infinity_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"x": [1.0, 2.0, 3.0], "y": [0.0, float("-inf"), 1.0]})
    with pytest.raises(UserError, match="infinite value: column `y`, row 2"):
        open_source(path, DataOptions(drop_missing=True))


def test_a_constant_column_is_harmless(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"x": [0.1] * 3, "y": [1, 2, 3]})
    source = open_source(path)
    assert everything(source)[:, 0].tolist() == [0, 0, 0]
    assert source.codec.decode(everything(source))[:, 0].tolist() == [0.1] * 3


def test_the_index_of_pandas_is_no_measurement(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"x": [1.0, 2.0], "__index_level_0__": [3, 4]})
    assert open_source(path).codec.columns == ("x",)


def test_the_fingerprint_knows_content_columns_and_conditions(tmp_path: Path) -> None:
    a = write(tmp_path / "a.parquet", COLUMNS)
    b = write(tmp_path / "b.parquet", {**COLUMNS, "score": [-10.0, 0.5, 2.5, 100.0, 0.2]})
    seen = [
        open_source(path, options).fingerprint
        for path, options in [
            (a, DataOptions()),
            (b, DataOptions()),
            (a, DataOptions(columns=("age", "height"))),
            (a, DataOptions(columns=("height", "age"))),
            (a, DataOptions(columns=("age",), condition=("height",))),
        ]
    ]
    assert len(set(seen)) == len(seen)
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(a.read_bytes())
    assert open_source(copy).fingerprint == seen[0]


def test_parquet_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    columns = {name: pa.array(rng.normal(size=1000)) for name in "abc"}
    path = write(tmp_path / "big.parquet", columns)
    options = DataOptions(columns=("c", "a"), condition=("b",), cache=tmp_path / "cache")
    whole = open_source(path, options)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(tables, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(tables, "_BATCH_ROWS", 300)
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        mapped = open_source(path, options, progress=lambda *done: seen.append(done))
        assert isinstance(mapped._rows, Mapped)  # type: ignore[attr-defined]
        assert mapped.fingerprint == whole.fingerprint
        indices = torch.tensor([999, 0, 512, 512])
        for ours, theirs in zip(mapped.batch(indices), whole.batch(indices), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert seen[-1] == (1000, 1000)
    assert len([done for done, _ in seen if done == 1000]) == 1  # the second time it was there


def test_more_digits_further_down_are_no_surprise(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n" + "1,2\n" * 400_000 + "1.5,2\n")
    assert open_source(tmp_path / "a.csv").codec.dtypes == ("float64", "int64")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("ragged.csv", b"x,y\n1,2\n1,2,3\n"),
        ("text.parquet", b"hello"),
        ("text.csv.gz", b"hello"),
        ("cut.csv.gz", gzip.compress(b"x\n" + b"1\n" * 10_000, mtime=0)[:-30]),
        ("head.csv", b"x,y\n"),
        ("twice.csv", b"x,x\n1,2\n"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as caught:
        open_source(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_rows_without_names_are_numbered(tmp_path: Path) -> None:
    codec = Codec(kind="rows", shape=(2,), dtype="int32")
    write_table(tmp_path / "a.csv", codec, np.array([[1, 2], [3, 4]], dtype=np.int32))
    assert (tmp_path / "a.csv").read_text() == '"x0","x1"\n1,2\n3,4\n'


def test_what_is_no_table_is_not_written(tmp_path: Path) -> None:
    rows = Codec(kind="rows", shape=(2,))
    with pytest.raises(UserError, match="kind `image` are no table"):
        write_table(tmp_path / "a.csv", Codec(kind="image", shape=(1, 2, 2)), np.zeros((1, 2, 2)))
    with pytest.raises(UserError, match=r"\.csv, \.csv\.gz or \.parquet"):
        write_table(tmp_path / "a.xlsx", rows, np.zeros((1, 2)))
    with pytest.raises(UserError, match="cannot write"):
        write_table(tmp_path / "nowhere" / "a.csv", rows, np.zeros((1, 2)))
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.csv", COLUMNS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wgan\[tables\]'"):
        open_source(path)


DAMAGED = """
import sys
from pathlib import Path

from wgan.data import open_source
from wgan.errors import UserError

path, outcomes = Path(sys.argv[1]), set()
whole = path.read_bytes()
footer = int.from_bytes(whole[-8:-4], "little")
for at in range(len(whole) - 8 - footer, len(whole) - 8):
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    try:
        open_source(path)
        outcomes.add("read")
    except UserError:
        outcomes.add("refused")
print(*sorted(outcomes))
"""


def test_no_damage_of_a_footer_ends_the_process(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, None, 3.0], "b": [1, 2, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    arguments = [sys.executable, "-W", "ignore", "-c", DAMAGED, str(tmp_path / "a.parquet")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "read refused\n"), done.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a;b\n1;2\n", "is separated by semicolons, and by commas it has one column"),
        ("a\tb\n1\t2\n", "is separated by tabs"),
        ("name,kind\nx,y\n", r"no column of numbers, .* name \(string\), kind \(string\)$"),
        ("name,n\nx,1\n", r"choose among the others: --columns n$"),
    ],
)
def test_text_is_refused_with_what_to_do(lines: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines)
    with pytest.raises(UserError, match=said):
        open_source(tmp_path / "a.csv")
