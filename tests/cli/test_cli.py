"""The command line, in-process where it can be: forms, lines and exit statuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import wgan
from wgan.cli import main
from wgan.run import Run

TINY = ["--width", "16", "--depth", "2", "--batch-size", "16", "--n-critic", "1", "--latent", "4"]


def tiny_run(path: Path, *flags: str, data: str = "gaussians8", steps: int = 4) -> Path:
    budget = ["--steps", str(steps), "--judge", "0", "--quiet"]
    assert main(["train", data, "--out", str(path), *budget, *TINY, *flags]) == 0
    return path


def test_train_ends_with_what_to_look_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", "--steps", "4", "--judge", "100", "--out", str(run), *TINY]) == 0
    out = capsys.readouterr().out
    assert "nn_accuracy" in out
    for name in ("samples.png", "report.html"):
        assert (run / name).stat().st_size > 1000
        assert str(run / name) in out
    for command in ("wgan resume", "wgan sample", "wgan evaluate"):
        assert f"{command} {run}" in out


def test_time_that_went_by_before_the_first_step_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgan.cli.train.STARTED", time.monotonic() - 30)
    words = ["train", "gaussians8", "--judge", "0", "--quiet", *TINY]
    assert main([*words, "--seconds", "20", "--out", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\d\d of the 20 s went by before the first step", out)
    assert f"wgan resume {tmp_path / 'a'} --steps 100" in out  # and no step was made
    assert main([*words, "--seconds", "200", "--steps", "2", "--out", str(tmp_path / "b")]) == 0
    assert "went by" not in capsys.readouterr().out


def test_what_has_changed_since_training_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{i % 7},{i * i % 31},{1 + i % 2}" for i in range(80)]
    table.write_text("\n".join(["a,b,c", *rows]))
    run = tiny_run(tmp_path / "run", "--condition", "c", data=str(table))
    assert main(["evaluate", str(run), "-n", "20"]) == 0
    assert main(["sample", str(run), "--given", "c=2", "--out", str(tmp_path / "x.npy")]) == 0
    assert "wgan:" not in capsys.readouterr().err
    assert main(["sample", str(run), "--given", "c=2.1", "--out", str(tmp_path / "x.npy")]) == 0
    assert "condition `c` was between 1 and 2 in training" in capsys.readouterr().err
    table.write_text("\n".join(["a,b,c", *rows[:-1]]))
    assert main(["evaluate", str(run), "-n", "20"]) == 0
    said = "table.csv is not what the run was trained on any more, so that memorisation"
    assert said in capsys.readouterr().err
    assert main(["doctor", str(run)]) == 0
    assert said in capsys.readouterr().out


def test_json_is_the_only_thing_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(tmp_path / "run", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["run"], found["step"]) == (str(run), 4)
    assert main(["evaluate", str(run), "-n", "50", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measurements"]
    assert main(["recipes", "--json"]) == 0
    recipes = {recipe["name"]: recipe for recipe in json.loads(capsys.readouterr().out)}
    on_pictures = recipes["wgan-gp"]["settings"]["image 3x64x64"]
    assert on_pictures["constraints"]["gradient-penalty"]["weight"] == 10.0
    assert recipes["wgan-gp"]["critic_passes_per_step"] == 16
    assert recipes["wgan"]["year"] == 2017
    assert main(["data", "--json"]) == 0
    assert "digits" in {source["name"] for source in json.loads(capsys.readouterr().out)}


def test_sample_writes_what_its_ending_says(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", data="digits")
    for name in ("sheet.png", "samples.npy", "folder"):
        assert main(["sample", str(run), "-n", "5", "--out", str(tmp_path / name)]) == 0
    assert np.load(tmp_path / "samples.npy").shape == (5, 8, 8)
    assert len(list((tmp_path / "folder").glob("*.png"))) == 5
    table = tiny_run(tmp_path / "table")
    for name in ("samples.csv", "samples.parquet"):
        assert main(["sample", str(table), "-n", "5", "--out", str(tmp_path / name)]) == 0
    assert len((tmp_path / "samples.csv").read_text().splitlines()) == 6


def test_resume_counts_steps_in_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(tmp_path / "run")
    assert main(["resume", str(run)]) == 0
    assert "is finished at step 4; to extend it" in capsys.readouterr().out
    assert main(["resume", str(run), "--steps", "6", "--judge", "0", "--quiet"]) == 0
    assert Run.open(run).steps()[-1] == 6
    assert main(["resume", str(run), "--steps", "6"]) == 0
    assert "is at step 6 already" in capsys.readouterr().out


def test_a_run_is_not_data_and_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run(tmp_path / "run")
    capsys.readouterr()
    assert main(["train", str(run)]) == 2
    assert f"is a run, not data; to go on with it: wgan resume {run}" in capsys.readouterr().err
    for place, message in ((run, "or go on: wgan resume"), (tmp_path, "is not a run")):
        assert main(["train", "digits", "--out", str(place)]) == 2
        assert message in capsys.readouterr().err


def test_report_of_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tiny_run(tmp_path / "a"), tiny_run(tmp_path / "b", "--recipe", "wgan")
    both = tmp_path / "both.html"
    assert main(["report", str(first), str(second), "--out", str(both)]) == 0
    text = both.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "wgan-gp" in text
    other = tiny_run(tmp_path / "c", data="swissroll")
    capsys.readouterr()
    assert main(["report", str(first), str(other)]) == 2
    assert "different data" in capsys.readouterr().err


def test_constraints_are_overridden_or_added(tmp_path: Path) -> None:
    run = tiny_run(
        tmp_path / "run",
        *("--constraint", "gradient-penalty:weight=5"),
        *("--constraint", "drift:weight=0.001"),
    )
    constraints = Run.open(run).config["constraints"]
    assert constraints["gradient-penalty"]["weight"] == 5.0
    assert constraints["drift"]["weight"] == 0.001


def test_published_settings_are_the_papers(tmp_path: Path) -> None:
    flags = ["--recipe", "wgan", "--settings", "published", "--steps", "1", "--judge", "0"]
    assert main(["train", "gaussians8", *flags, "--out", str(tmp_path / "run")]) == 0
    run = Run.open(tmp_path / "run")
    expected = {"width": 512, "batch_size": 64, "n_critic": 5, "critic_lr": 5e-5, "average": 0.0}
    assert {name: run.config[name] for name in expected} == expected
    assert run.config["optimizer"] == "rmsprop"
    assert run.card["departures"] == []


MISTAKES = {
    "recipe": (["train", "--recipe", "sinkhorm"], "Did you mean 'sinkhorn'?"),
    "data": (["train", "digit"], "Did you mean 'digits'?"),
    "flag": (["train", "--bacth-size", "3"], "--bacth-size"),
    "number": (["train", "--steps", "many"], "many"),
    "n_critic": (["train", "--n-critic", "-1"], "`n_critic` must be >= 1, got -1"),
    "lr": (["train", "--lr", "0"], "`lr` must be > 0"),
    "steps": (["train", "--steps", "0"], "`steps` must be >= 1, got 0"),
    "batch": (["train", "digits", "--batch-size", "2000"], "there are 1618 samples to train on"),
    "holdout": (["train", "--holdout", "1"], "`holdout` must be in [0, 1)"),
    "size": (["train", "digits", "--size", "30"], "multiple of 4"),
    "device": (["train", "--device", "tpu"], "unknown device 'tpu'"),
    "not its own": (["train", "--beta1", "0.5", "--recipe", "wgan"], "optimizer `rmsprop`"),
    "constraint": (["train", "--constraint", "gradient"], "gradient-penalty"),
    "field": (["train", "--constraint", "gradient-penalty:wight=1"], "Did you mean 'weight'"),
    "batch norm": (["train", "--critic-norm", "batch"], "normalises over the batch"),
    "network": (["train", "gaussians8", "--network", "dcgan"], "use --network mlp"),
    "no run": (["sample", "nowhere"], "no run directory at nowhere"),
    "no runs": (["report"], "name at least one run"),
    "command": (["trian", "digits"], "unknown command 'trian'. Did you mean 'train'?"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, expected = MISTAKES[name]
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert expected in err
    assert not list(tmp_path.iterdir()), "something was written"


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(["train", "--device", "cuda"]) == 2
    assert "not on this machine; use --device cpu" in capsys.readouterr().err


def test_a_run_that_fails_exits_1_and_stays_resumable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "gaussians8", "--lr", "1e30", "--steps", "9", "--quiet", *TINY]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 1
    assert "is not finite at step" in capsys.readouterr().err
    assert Run.open(tmp_path / "run").card["status"] == "failed"
    assert Run.open(tmp_path / "run").latest()[0].step == 0


def test_wgan_alone_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "wgan train digits" in capsys.readouterr().out
    for command in ("train", "resume", "sample", "evaluate", "verify", "report", "recipes", "data"):
        assert main([command, "--help"]) == 0
        assert "Example: " in capsys.readouterr().out


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wgan", *arguments], stderr=subprocess.PIPE, text=True
    )


def wait_for(path: Path) -> None:
    for _ in range(600):
        # a quick run has dropped it again for a later one
        if path.parent.is_dir() and any(p.name >= path.name for p in path.parent.glob("0*")):
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    flags = ["--out", str(run), "--checkpoint-every", "5", "--quiet", *TINY]
    process = started("train", "gaussians8", "--steps", "1000000", *flags)
    wait_for(run / "checkpoints" / "00000005")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"go on with: wgan resume {run}" in err
    card = Run.open(run).card
    assert card["status"] == "interrupted"
    assert Run.open(run).steps()[-1] == card["step"] >= 5


def test_a_killed_run_resumes_to_the_bit(tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    flags = ["--checkpoint-every", "7", "--sample-every", "1000", *TINY]
    process = started("train", "gaussians8", "--steps", "2000", "--out", str(run), *flags)
    wait_for(run / "checkpoints" / "00000021")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    killed_at = Run.open(run).latest()[0].step
    steps = killed_at + 20
    assert main(["resume", str(run), "--steps", str(steps), "--judge", "0", "--quiet"]) == 0
    tiny_run(whole, *flags[:4], steps=steps)
    one, other = wgan.load(run), wgan.load(whole)
    assert one.step == other.step == steps
    for ours, theirs in zip(one.records, other.records, strict=True):
        ours, theirs = (
            {k: v for k, v in r.items() if not k.endswith("_seconds")} for r in (ours, theirs)
        )
        assert ours == theirs
    expected, got = (Run.open(p).latest()[0].tensors for p in (whole, run))
    assert all(torch.equal(expected[name], got[name]) for name in expected)
