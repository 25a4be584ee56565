"""The benchmark of recipes: its trials, what is left of them, and that it can be continued."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from wgan.cli import main
from wgan.data import open_source
from wgan.errors import NonFiniteError, UserError
from wgan.experiments import bench_recipes
from wgan.experiments.bench_recipes import HOLDOUT, Judge, Trial, plan, read, run_trial, run_trials
from wgan.training import train


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_recipes, "_JUDGED", 200)


def test_the_plan_takes_a_data_set_at_a_time_and_every_recipe_before_the_next_seed() -> None:
    trials = plan(["wgan-gp", "sliced"], ["gaussians8", "digits"], 1.0)
    names = ("wgan-gp", "sliced")
    assert [(t.data, t.settings, t.seed, t.recipe) for t in trials] == [
        *[("gaussians8", "auto", seed, name) for seed in (0, 1, 2) for name in names],
        *[("gaussians8", "published", 0, name) for name in names],
        *[("digits", "auto", 0, name) for name in names],
    ]
    assert len({trial.file for trial in trials}) == len(trials)
    for wrong in ((["wgan-gq"], ["digits"], 1.0), ([], ["digit"], 1.0), ([], [], 0.0)):
        with pytest.raises(UserError):
            plan(*wrong)


def test_a_trial_reads_results_after_its_time_and_after_critic_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_recipes, "_FIRST_PASSES", 20)
    result = run_trial(Trial("wgan-gp", "gaussians8", 0, 0.5))
    assert result["failed"] is None
    assert 0.5 <= result["seconds"] < 1.5
    # auto: two critic updates on real, fake and mixed samples, and one of the generator
    assert result["critic_passes"] == pytest.approx(result["steps"] * (2 * 3 + 1))
    rungs = [reading["critic_passes"] for reading in result["by_passes"]]
    assert all(20 * 2**k <= reached < 20 * 2**k + 7 for k, reached in enumerate(rungs))
    assert len(result["looks"]) == 20
    assert result["floor"]["w1"] < result["end"]["w1"]
    json.dumps(result)


def test_a_recipe_without_a_critic_has_no_passes() -> None:
    result = run_trial(Trial("energy", "swissroll", 0, 0.1))
    assert result["critic_passes"] is None
    assert result["by_passes"] == []


def test_what_stops_training_is_a_result_with_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any, **more: Any) -> Iterator[Any]:
        yield from itertools.islice(train(*given, **more), 2)
        raise NonFiniteError("critic_loss", 3)

    calls = iter([train, fails])  # the first is the step that is not timed
    monkeypatch.setattr(bench_recipes, "train", lambda *given, **more: next(calls)(*given, **more))
    result = run_trial(Trial("gan", "digits", 0, 5.0))
    assert "not finite at step 3" in result["failed"]
    assert result["steps"] == 2
    assert result["end"].keys() == {"w1", "nn_accuracy", "frechet"}


def test_real_digits_cannot_be_told_from_real_ones() -> None:
    """They lie in the file in an order of writers: neighbours there are alike."""
    source = open_source("digits")
    judge = Judge(source, *source.split(HOLDOUT, 0))
    assert judge.floor["nn_accuracy"] == pytest.approx(0.5, abs=0.06)


def test_results_are_continued_and_stopped_trials_leave_none(tmp_path: Path) -> None:
    done, broken, new = (Trial(name, "gaussians8", 0, 600.0) for name in ("gan", "no", "hinge"))
    (tmp_path / done.file).write_text(json.dumps({"trial": asdict(done), "failed": "before"}))
    found: list[tuple[Trial, str]] = []
    trials = [done, broken, new]
    for trial, result in run_trials(trials, tmp_path, jobs=2, stop=lambda: bool(found)):
        found.append((trial, result["failed"]))
    ((trial, failed),) = found
    assert trial == broken
    assert "unknown recipe 'no'" in failed
    assert read(new, tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [done.file, broken.file]


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    trial = Trial("gan", "digits", 0, 5.0)
    (tmp_path / trial.file).write_text(json.dumps({"trial": asdict(trial), "failed": None}))
    with pytest.raises(UserError, match="5 s and 6 s were asked for"):
        read(Trial("gan", "digits", 0, 6.0), tmp_path)
    (tmp_path / trial.file).write_text("{")
    with pytest.raises(UserError, match="not a result"):
        read(trial, tmp_path)


def test_the_command_writes_the_page_of_results_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial("gan", "digits", 0, 5.0)
    result = {"trial": asdict(trial), "failed": "its process ended with status -9"}
    (tmp_path / trial.file).write_text(json.dumps(result))
    page = tmp_path / "page.md"
    flags = ["--out", str(tmp_path), "--recipes", "gan", "--data", "digits", "--seconds", "5"]
    assert main(["bench-recipes", *flags, "--page", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert "- `gan`: its process ended with status -9" in page.read_text()
    assert main(["bench-recipes", "--recipes", "gam"]) == 2
