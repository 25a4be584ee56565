"""What is settled before a run's first step, and what a user is told of it."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wgan
from wgan.build import build_state
from wgan.config import find_precision, resolve
from wgan.data import Source, open_source
from wgan.planning import worth_compiling
from wgan.run import Run
from wgan.training import train

TINY: dict[str, Any] = {"width": 8, "batch_size": 8, "latent": 2, "audit_every": 0}
LONG = 1e6  # seconds


def pictures() -> Source:
    rng = np.random.default_rng(0)
    return open_source(rng.integers(0, 256, (60, 16, 16), dtype=np.uint8))


def judged(**given: Any) -> tuple[str, str]:
    source = open_source("gaussians8")
    config, _ = resolve({**TINY, **given}, source, "gaussians8")
    return worth_compiling(config, source)


def judged_pictures(**given: Any) -> tuple[str, str]:
    source = pictures()
    config, _ = resolve({**TINY, "recipe": "wgan", "network": "dcgan", **given}, source, "pictures")
    return worth_compiling(config, source)


def test_what_is_worth_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wgan.planning.has_compiler", lambda: True)
    dropout = {"recipe": "wgan-ct"}  # no chain
    choice, why = judged(**dropout, seconds=LONG)
    assert (choice, "about 60 s" in why) == ("on", True)
    short = ("off", "compiling would take more than 5% of the run's time")
    assert judged(**dropout, seconds=1000) == short
    assert judged(**dropout, steps=10) == short
    assert judged(**dropout, steps=10**9)[0] == "on"
    assert judged(recipe="wgan-gp", seconds=LONG)[0] == "on"
    assert "convolutions are slower" in judged_pictures(seconds=LONG)[1]
    assert "without a critic" in judged(recipe="energy", seconds=LONG)[1]
    assert "not finite" in judged(**dropout, seconds=LONG, lr=1e30)[1]
    monkeypatch.setattr("wgan.planning.has_compiler", lambda: False)
    assert "no C++ compiler" in judged(**dropout, seconds=LONG)[1]


def test_a_choice_is_on_the_card_and_told(tmp_path: Path, capsys: Any) -> None:
    from wgan.cli import main

    out = tmp_path / "run"
    arguments = ["--steps", "2", "--compile", "auto", "--width", "8", "--critic-norm", "layer"]
    assert main(["train", "gaussians8", *arguments, "--judge", "0", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "auto: compile auto -> off: compiling would take" in said
    run = Run.open(out)
    assert run.config["compile"] == "off"
    assert "compile" in [departure["field"] for departure in run.card["departures"]]


def test_what_cannot_be_compiled_is_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wgan.training.compiled.has_compiler", lambda: False)
    run = wgan.train("gaussians8", steps=1, compile="on", out=tmp_path / "run", **TINY)
    why = "there is no C++ compiler"
    assert run.run.card["compile"] == {"critic": why, "generator": why}


@pytest.mark.parametrize("fast", [True, False])
def test_precision_is_the_machines(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    name, why = find_precision("auto", "cpu", {"dcgan"})
    assert (name, bool(why)) == (("bf16", True) if fast else ("fp32", False))
    assert find_precision("auto", "cpu", {"mlp"}) == ("fp32", "")
    given = {**TINY, "steps": 1, "device": "cpu"}
    config, departures = resolve(given, pictures(), "pictures")
    assert config.precision == name
    assert ("precision" in [d.field for d in departures]) is fast
    config, departures = resolve({**given, "settings": "published"}, pictures(), "pictures")
    assert config.precision == "fp32"
    assert not departures


@pytest.mark.parametrize("recipe", ["wgan-gp", "wgan", "r3gan", "sngan"])
def test_half_precision_trains_and_resumes_to_the_bit(recipe: str) -> None:
    given = {**TINY, "recipe": recipe, "steps": 4, "device": "cpu"}

    def begun(precision: str) -> Any:
        config, _ = resolve({**given, "precision": precision}, pictures(), "pictures")
        return build_state(config, pictures())

    def records(state: Any, until: int) -> list[dict[str, Any]]:
        return [
            {k: v for k, v in record.items() if not k.endswith("_seconds")}
            for record in train(state, pictures(), until=until)
        ]

    exact, whole, first, second = (begun(p) for p in ("fp32", "bf16", "bf16", "bf16"))
    expected, found = records(exact, 1)[0], records(whole, 4)
    assert found[0] != expected
    assert all(np.isfinite(list(record.values())).all() for record in found)
    assert all(p.dtype == torch.float32 for p in whole.generator.parameters)
    for name in ("critic_loss", "critic_gradient_norm"):
        assert found[0][name] == pytest.approx(expected[name], rel=0.05, abs=2e-3), name
    head = records(first, 2)
    second.load({k: v.clone() for k, v in first.tensors().items()}, first.plain())
    assert head + records(second, 4) == found


def test_a_run_bounded_by_time_brings_its_schedule_to_an_end(tmp_path: Path) -> None:
    began = time.monotonic()
    run = wgan.train(
        "gaussians8",
        seconds=6,
        schedule="linear",
        checkpoint_every=20,
        out=tmp_path / "run",
        **TINY,
    )
    assert time.monotonic() - began < 9
    checkpoint, _ = run.run.latest()
    planned = checkpoint.plain["planned"]
    assert planned == pytest.approx(run.step, rel=0.3)
    rate = checkpoint.plain["optimizers"]["generator"][0]["lr"]
    assert rate < 0.3 * run.config.hyper.generator_lr
    assert run.run.card["planned"]["steps"] == planned
    again = wgan.resume(run.run.path, steps=run.step + 40)  # half of what was, then to nothing
    assert again.step == run.step + 40
