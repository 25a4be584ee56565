"""`wgan distance` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest

import wgan
from wgan.cli import main
from wgan.errors import UserError
from wgan.operands import gather


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "b.npy", x[:250] + np.array([1.0, 0.0]))
    return str(tmp_path / "a.npy"), str(tmp_path / "b.npy")


def test_json_keeps_the_three_questions_apart(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distance", *files, "--seconds", "1", "--bounds=-9,9", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"]["w1"] == pytest.approx(1, abs=0.2)
    assert found["samples"]["gap"] == pytest.approx(0, abs=1e-9)
    assert found["population"]["lower"] <= 1 <= found["population"]["upper"]
    assert found["population"]["interval"] == "bernstein"
    assert found["population"]["level"] == 0.95
    assert {"sliced_w1", "w2", "energy_p_value"} <= found["context"].keys()
    assert found["seconds"] > 0


def test_text_explains_and_draws(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "p.png"
    assert main(["distance", *files, "--seconds", "1", "--plot", str(place)]) == 0
    said = capsys.readouterr().out
    assert "W1 of the two samples" in said
    assert "Without known bounds of the data nothing can be said from above" in said
    assert place.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--bounds", "1"], "LO,HI"),
        (["--metric", "l7"], "euclidean"),
        (["--critics", "cones"], "cones-up"),
        (["--seconds", "0"], "`seconds`"),
        (["-n", "0"], "`n`"),
        (["--plot", "no/where.png"], "no folder"),
        (["--interval", "bernstein"], "give bounds LO,HI"),
        (["--interval", "wald"], "bernstein"),
        (["--paired"], "as many of `a` as of `b`, got 300 and 250"),
        (["--features", "pca:2"], "fitted to the samples"),
        (["--features", "mean"], "MODULE:FUNCTION"),
    ],
)
def test_mistakes_are_one_line(
    files: tuple[str, str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distance", *files, *more]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_run_is_compared_with_the_part_of_its_data_it_has_not_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.random.default_rng(0).normal(size=(700, 2)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    run = str(tmp_path / "run")
    wgan.train(str(tmp_path / "rows.npy"), recipe="wgan-gp", steps=2, out=run, width=8, holdout=0.2)
    found = wgan.distance(run, str(tmp_path / "rows.npy"), seconds=None, steps=20, critic=run)
    assert found.sizes == (1_000, 140)
    assert found.population is not None
    assert any(name.startswith("given 1") for name in found.population.critics)
    assert main(["distance", run, "--seconds", "1"]) == 0
    assert main(["distance", str(tmp_path / "rows.npy")]) == 2
    assert "give B" in capsys.readouterr().err


def test_features_by_name_and_pairs(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.py"
    own.write_text("def half(v):\n    return v[:, :1] / 2\n")
    x = np.load(files[0])
    np.save(tmp_path / "c.npy", x + np.array([1.0, 5.0]))
    sides = files[0], str(tmp_path / "c.npy")
    more = ["--seconds", "1", "--json"]
    assert main(["distance", *sides, "--features", f"{own}:half", *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"]["w1"] == pytest.approx(0.5)
    assert found["unit"] == "the features' units"
    assert main(["distance", *sides, "--paired", "--interval", "clt", *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["population"]["upper"] == pytest.approx(np.sqrt(26))
    assert found["population"]["upper_method"] == "the coupling given by the pairs"


def test_little_time_reads_fewer_large_samples() -> None:
    x = np.zeros((3_000, 2_000), dtype=np.float32)
    assert [len(side.samples) for side in gather(x, x)] == [3_000, 3_000]
    assert [len(side.samples) for side in gather(x, x, seconds=6.0)] == [1_500, 1_500]
    assert [len(side.samples) for side in gather(x, x, seconds=0.1)] == [1_000, 1_000]
    assert [len(side.samples) for side in gather(x, x, n=2_000, seconds=0.1)] == [2_000, 2_000]


def test_a_feature_space_and_other_metrics() -> None:
    x = np.random.default_rng(0).normal(size=(100, 2, 2))
    found = wgan.distance(
        x, x + 1, features=lambda v: v.reshape(len(v), -1)[:, :1], seconds=None, steps=5
    )
    assert found.samples.upper == pytest.approx(1)
    for metric, w1 in (("l1", 4), ("linf", 1), ("euclidean", 2)):
        found = wgan.distance(x, x + 1, metric=metric, seconds=None, steps=5)  # type: ignore[arg-type]
        assert found.samples.upper == pytest.approx(w1)
        assert found.lower is not None
        assert found.lower <= w1


def test_tables_are_read_as_told_and_as_the_run_read_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{u},{v},a\n" for u, v in rng.normal(size=(300, 2))]
    table, run = tmp_path / "t.csv", str(tmp_path / "run")
    table.write_text("u,v,word\n" + "".join(lines))
    assert main(["distance", str(table), str(table), "--seconds", "1"]) == 2
    assert "--columns u,v" in capsys.readouterr().err
    more = ["--seconds", "1", "--json"]
    assert main(["distance", str(table), str(table), "--columns", "v", *more]) == 0
    assert json.loads(capsys.readouterr().out)["samples"]["w1"] == pytest.approx(0, abs=1e-9)
    wgan.train(str(table), columns=("u",), recipe="wgan-gp", steps=2, out=run, width=8)
    assert main(["distance", run, *more]) == 0
    assert json.loads(capsys.readouterr().out)["samples"]["sizes"] == [1_000, 300]
    with pytest.raises(UserError, match="column"):
        wgan.distance(str(table), str(table), colums=("u",))
