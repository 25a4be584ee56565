"""Verdicts, budgets, results and the gallery, on an experiment made of given numbers."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from wgan.cli import main
from wgan.errors import UserError
from wgan.experiments import reproduction
from wgan.experiments.reproduction.base import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Budget,
    Claim,
    Experiment,
    MissingDataError,
    Outcome,
    OutOfTimeError,
    judge,
    overall,
    read,
    reproduce,
)
from wgan.experiments.reproduction.gallery import page, write_gallery
from wgan.reports.style import new_axes

CLAIM = Claim("small", "it is small", "its size |x|", "<=", 1.0)


def made(trial: Callable[[int], float], seeds: int = 3) -> Experiment:
    def run(budget: Budget) -> Outcome:
        found = budget.trials(trial, seeds)
        return Outcome({"small": found}, {"depth": 2}, new_axes()[0], {"note": 1})

    return Experiment(
        "sizes", "Sizes", "nobody 2026", (CLAIM,), "numbers", "All of it.", 1, seeds, 2, run
    )


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.5, 1.0, 0.1], HOLDS),
        ([0.5, 1.1, 1.2], FAILS),
        ([0.5, 0.6, 1.2], UNDECIDED),
        ([2.0, 0.5], UNDECIDED),  # not most
        ([0.5], UNDECIDED),  # too few
        ([float("nan")] * 3, FAILS),
        ([], UNDECIDED),
    ],
)
def test_a_claim_holds_if_every_seed_meets_it_and_fails_if_most_miss_it(
    values: list[float], verdict: str
) -> None:
    assert judge(values, CLAIM, needed=2) == verdict


def test_one_claim_that_fails_decides_and_one_undecided_leaves_it_open() -> None:
    assert overall([HOLDS, HOLDS]) == HOLDS
    assert overall([HOLDS, UNDECIDED]) == UNDECIDED
    assert overall([HOLDS, UNDECIDED, FAILS]) == FAILS


def test_a_budget_drops_the_trial_that_it_cuts_short() -> None:
    budget = Budget(seed=5, seconds=0.2)

    def trial(seed: int) -> int:
        while seed == 7:
            budget.check()
            time.sleep(0.01)
        return seed

    assert budget.trials(trial, 9) == [5, 6]
    with pytest.raises(OutOfTimeError):
        budget.trials(trial, 9)
    for wrong in ({"seconds": 0.0}, {"seconds": float("inf")}, {"seed": -1}):
        with pytest.raises(UserError):
            Budget(**wrong)


def test_a_result_is_written_and_read_back(tmp_path: Path) -> None:
    experiment = made(lambda seed: seed / 10)
    result = reproduce(experiment, tmp_path, seed=4)
    assert result.verdict == HOLDS
    assert result.claims[0].values == (0.4, 0.5, 0.6)
    assert read(experiment, tmp_path) == result
    with Image.open(tmp_path / "sizes.png") as image:
        assert image.width > 300
    path = tmp_path / "sizes" / "result.json"
    written = json.loads(path.read_text())
    assert (written["settings"], written["notes"]) == ({"depth": 2}, {"note": 1})
    path.write_text(json.dumps(written | {"claims": []}))
    with pytest.raises(UserError, match="of other claims"):
        read(experiment, tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="is not a result"):
        read(experiment, tmp_path)


def test_no_time_gives_no_verdict_no_number_and_no_picture(tmp_path: Path) -> None:
    reproduce(made(lambda seed: 0), tmp_path)
    result = reproduce(made(lambda seed: 0), tmp_path, seconds=1e-9)
    assert (result.verdict, result.claims[0].values) == (UNDECIDED, ())
    assert not (tmp_path / "sizes.png").exists()


def test_all_goes_on_where_it_stopped_and_writes_the_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def trial(seed: int) -> float:
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return 0.25 * seed

    one = made(trial, seeds=2)
    two = Experiment(**{**vars(one), "name": "more"})
    monkeypatch.setattr(reproduction, "EXPERIMENTS", {"sizes": one, "more": two})
    page = tmp_path / "docs" / "reproduction.md"
    given = ["--out", str(tmp_path / "out"), "--page", str(page)]
    assert main(["reproduce", "all", *given]) == 130
    assert "1 of 2 are done" in capsys.readouterr().err
    assert not page.exists()
    assert main(["reproduce", "all", *given]) == 0
    assert calls == [0, 1, 0, 0, 1]
    text = page.read_text()
    assert r"| it is small | its size \|x\| | 0 to 0.25 | <= 1 | holds |" in text
    assert "All of it." in text
    with Image.open(page.parent / "images" / "reproduction" / "more.png") as image:
        assert image.mode == "P"
    assert main(["reproduce", *given[:2]]) == 0
    assert "nobody 2026  holds" in capsys.readouterr().out
    assert main(["reproduce", "all", *given, "--seed", "1"]) == 2
    assert "of seed 0 and 1 was asked for" in capsys.readouterr().err
    assert main(["reproduce", "more", *given[:2], "--seed", "5"]) == 0
    assert main(["reproduce", "all", *given]) == 0  # of any seed, as none is asked for
    assert "`wgan reproduce more --seed 5`: 2 seeds from 5" in page.read_text()


def test_an_experiment_without_its_data_is_left_out_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trial(seed: int) -> float:
        raise MissingDataError("`more` needs a book, and there is none")

    one, two = made(float), made(trial)
    experiments = {"sizes": one, "more": Experiment(**{**vars(two), "name": "more"})}
    monkeypatch.setattr(reproduction, "EXPERIMENTS", experiments)
    page = tmp_path / "page.md"
    given = ["--out", str(tmp_path / "out"), "--page", str(page)]
    assert main(["reproduce", "all", *given]) == 0
    assert "more is left out: `more` needs a book" in capsys.readouterr().err
    assert "| `more`: Sizes | nobody 2026 | not run |" in page.read_text()
    assert "## more" not in page.read_text()


def test_a_page_is_written_again_from_results_without_their_pictures(tmp_path: Path) -> None:
    one, out, place = made(float), tmp_path / "out", tmp_path / "page.md"
    found = [(one, reproduce(one, out))]
    write_gallery(place, found, out)
    first = place.read_bytes()
    (out / "sizes.png").unlink()
    place.unlink()
    write_gallery(place, found, out)
    assert place.read_bytes() == first
    (tmp_path / "images" / "reproduction" / "sizes.png").unlink()
    with pytest.raises(UserError, match="there is no picture"):
        write_gallery(place, found, out)


def test_the_page_in_the_documentation_is_that_of_the_kept_results() -> None:
    root = Path(__file__).parents[3]
    kept = root / "benchmarks" / "results" / "reproduction"
    found = [(one, read(one, kept)) for one in reproduction.EXPERIMENTS.values()]
    pairs = [(one, result) for one, result in found if result is not None]
    assert len(pairs) >= 8
    left = [one for one, result in found if result is None]
    assert page(pairs, left) == (root / "docs" / "reproduction.md").read_text()
    for one, _ in pairs:
        assert (root / "docs" / "images" / "reproduction" / f"{one.name}.png").is_file()


def test_an_unknown_name_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "paralel-lines", "--out", str(tmp_path)]) == 2
    assert "parallel-lines" in capsys.readouterr().err


def test_a_run_prints_its_verdict_with_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "sliding-gaussians", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("sliding-gaussians: holds\n")
    assert "(asked >= 0.999)" in out
    assert (tmp_path / "sliding-gaussians.png").is_file()
