"""A run that does not fit says so before it starts, by what it will really need."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wgan
from wgan import cli, files, memory
from wgan.build import build_state
from wgan.config import Config, resolve
from wgan.data import Source, open_source
from wgan.errors import UserError
from wgan.files import free_bytes, group_limits, memory_bytes
from wgan.memory import _Alive, needed, refuse_what_does_not_fit
from wgan.training import train

SMALL: dict[str, Any] = {"width": 16, "depth": 2, "latent": 4}


def made(data: Any, **given: Any) -> tuple[Config, Source]:
    source = open_source(data)
    return resolve({**SMALL, **given}, source, "x")[0], source


def peak(config: Config, source: Source) -> int:
    """Bytes alive at most in a step of the real size."""
    state = build_state(config, source)
    for _ in train(state, source, until=1):
        pass
    alive = _Alive()
    alive.add(state.tensors().values())
    with alive:
        for _ in train(state, source, until=2):
            pass
    return max(alive.trace)


@pytest.mark.parametrize(
    ("recipe", "batch"), [("wgan-gp", 500), ("cramer", 300), ("mmd", 300), ("sliced", 500)]
)
def test_steps_of_a_few_samples_tell_what_a_real_one_takes(
    recipe: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_tensors(monkeypatch)
    config, source = made("gaussians8", recipe=recipe, batch_size=batch, warmup=False)
    need = needed(config, source, free=2**24)
    assert need is not None
    assert need.at(batch) == pytest.approx(peak(config, source), rel=0.05)


def only_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be allowed for beside them."""
    for name, value in {
        "ALLOWANCE": 1,
        "PAIRS_ALLOWANCE": 1,
        "_KEPT_MOST": 0,
        "_BESIDE": 0,
    }.items():
        monkeypatch.setattr(memory, name, value)


TAKEN = """
from pathlib import Path
from wgan.build import build_state
from wgan.config import resolve
from wgan.data import open_source
from wgan.memory import needed
from wgan.training import train

source = open_source("gaussians8")
config, _ = resolve({"recipe": "mmd", "batch_size": 1024}, source, "x")
state = build_state(config, source)
for _ in train(build_state(resolve({"batch_size": 8}, source, "x")[0], source), source, until=1):
    pass
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

before = peak()
for _ in train(state, source, until=2):
    pass
print(peak() - before)
print(needed(config, source, free=2**24).at(1024))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts what Linux counts")
def test_a_process_takes_no_more_than_is_said_and_no_less_than_half() -> None:
    found = subprocess.run(
        [sys.executable, "-c", TAKEN], capture_output=True, text=True, check=True, timeout=120
    )
    taken, said = map(float, found.stdout.split())
    assert 1 <= said / taken <= 2


def test_pairs_of_a_large_batch_are_compared_as_the_real_step_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_tensors(monkeypatch)
    config, source = made("gaussians8", recipe="cramer", batch_size=600, warmup=False)
    need = needed(config, source, free=2**24)
    assert need is not None
    assert need.at(600) == pytest.approx(peak(config, source), rel=0.05)


def test_pictures_and_convolutions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    only_tensors(monkeypatch)
    pictures = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    source = open_source(pictures)
    config, _ = resolve({"width": 4, "batch_size": 64, "n_critic": 2, "warmup": False}, source, "x")
    need = needed(config, source, free=2**24)
    assert need is not None
    assert need.at(64) == pytest.approx(peak(config, source), rel=0.05)


def test_nothing_is_changed_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def critic_losses(name: str) -> list[object]:
        run = wgan.train(
            "gaussians8", out=tmp_path / name, steps=3, batch_size=32, audit_every=0, **SMALL
        )
        return [record["critic_loss"] for record in run.records]

    looked = critic_losses("a")
    monkeypatch.setattr("wgan.api.refuse_what_does_not_fit", lambda *given: None)
    assert critic_losses("b") == looked


def test_ones_own_networks_are_not_changed_by_looking() -> None:
    config, source = made("gaussians8", batch_size=32)
    state = build_state(config, source)
    assert state.critic is not None
    own = (state.generator.module, state.critic.module)
    before = [{k: v.clone() for k, v in module.state_dict().items()} for module in own]
    assert needed(config, source, 2**20, *own) is not None
    for module, tensors in zip(own, before, strict=True):
        assert all(torch.equal(module.state_dict()[k], v) for k, v in tensors.items())


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    config, source = made("gaussians8", recipe="mmd", batch_size=4000)
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**27)
    with pytest.raises(
        UserError,
        match=r"a step needs about [\d.]+ GiB with `batch_size` 4000, and 0\.125 GiB are free; "
        r"use --batch-size (\d+) or less.*, or a smaller --width",
    ) as caught:
        refuse_what_does_not_fit(config, source)
    fits = int(str(caught.value).split("--batch-size ")[1].split()[0])
    assert 8 < fits < 4000
    refuse_what_does_not_fit(made("gaussians8", recipe="mmd", batch_size=fits)[0], source)
    with pytest.raises(UserError):
        refuse_what_does_not_fit(made("gaussians8", recipe="mmd", batch_size=fits + 5)[0], source)


def test_networks_that_do_not_fit_make_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_step(*given: object, **named: object) -> None:
        raise AssertionError

    monkeypatch.setattr(memory, "train", no_step)
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**20)
    with pytest.raises(UserError, match=r"the networks, .* and 0\.000977 GiB are free; use a smal"):
        wgan.train("gaussians8", out=tmp_path / "run", width=256, batch_size=8, steps=1)
    assert not (tmp_path / "run").exists()


LIMITED = """
import resource, sys
from pathlib import Path
import wgan.session
from wgan.cli import main
real = wgan.session.train
def train(*args, **kwargs):
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (100 << 20), resource.RLIM_INFINITY))
    return real(*args, **kwargs)
wgan.session.train = train
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits what Linux limits")
def test_memory_that_runs_out_in_a_step_is_said_in_a_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", "gaussians8", "--width", "512", "--batch-size", "8192", "--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words, "--out", str(run)], capture_output=True, text=True
    )
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("wgan:"))
    assert "memory ran out at step 1" in line
    assert "--batch-size" in line
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert wgan.load(run).run.card["status"] == "failed"


@pytest.mark.parametrize("ours", [False, True])
def test_memory_that_runs_out_elsewhere_is_said_and_an_error_of_ours_is_kept(
    ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample(*args: Any, **kwargs: Any) -> None:
        if ours:
            raise RuntimeError("ours")
        torch.empty(2**50)

    run = wgan.train("gaussians8", steps=1, out=tmp_path / "run", **SMALL)
    monkeypatch.setattr(type(run), "sample", sample)
    words = ["sample", str(tmp_path / "run"), "--out", str(tmp_path / "x.npy")]
    if ours:
        with pytest.raises(RuntimeError, match="ours"):
            cli.main(words)
        return
    assert cli.main(words) == 1
    assert capsys.readouterr().err.startswith("wgan: memory ran out; ask for fewer samples")


def test_the_limit_of_a_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, groups = tmp_path / "own", tmp_path / "groups"
    (groups / "a" / "b").mkdir(parents=True)
    own.write_text("0::/a/b\n")
    (groups / "a" / "b" / "memory.max").write_text("max\n")
    (groups / "a" / "b" / "memory.current").write_text("5\n")
    (groups / "a" / "memory.max").write_text("1000\n")
    (groups / "a" / "memory.current").write_text("700\n")
    (groups / "a" / "memory.stat").write_text("anon 1\ninactive_file 200\n")
    assert group_limits(groups, own) == [(1000, 500)]
    own.write_text("12:cpu:/\n3:memory:/c\n")
    (groups / "memory" / "c").mkdir(parents=True)
    (groups / "memory" / "c" / "memory.limit_in_bytes").write_text("800\n")
    (groups / "memory" / "c" / "memory.usage_in_bytes").write_text("300\n")
    (groups / "memory" / "c" / "memory.stat").write_text("total_inactive_file 100\n")
    assert group_limits(groups, own) == [(800, 200)]
    assert 0 < free_bytes() <= memory_bytes()
    monkeypatch.setattr(files, "group_limits", lambda: [(1000, 500), (2000, 700)])
    assert free_bytes() == 500


def test_the_peak_is_on_the_card(tmp_path: Path) -> None:
    run = wgan.train("gaussians8", out=tmp_path / "run", steps=1, audit_every=0, **SMALL)
    peak = run.run.card["peak_memory_bytes"]
    assert 2**25 < peak < 2**36
