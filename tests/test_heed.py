"""What a run does about its warnings with `--heed`, and that a resumed run does it again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import wgan
from wgan.cli import main
from wgan.diagnostics import live
from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules import Finding, Rule
from wgan.errors import UserError
from wgan.run import Run

TINY: dict[str, Any] = {
    "width": 8, "audit_every": 0, "depth": 1, "batch_size": 8, "n_critic": 1, "latent": 2,
    "checkpoint_every": 4, "sample_every": 100, "steps": 12,
}  # fmt: skip

Fires = dict[str, int]


@pytest.fixture
def fires(monkeypatch: pytest.MonkeyPatch) -> Fires:
    """Name to the step from which a rule of that name fires, at full rates; looks every 2 steps."""
    steps: Fires = {}

    def rule(name: str) -> Rule:
        def check(x: Examination) -> Finding | None:
            late = x.steps >= steps.get(name, 10**9) and not x.late("rollbacks") > 0
            return Finding(name, "it is so", "because", "do so", 0.9) if late else None

        return Rule(name, "", "", "ill", "always", check)

    monkeypatch.setattr(live, "RULES", [rule(name) for name in live.ACTS])
    monkeypatch.setattr(live, "_FIRST", 2)
    monkeypatch.setattr(live, "_LEAST", 2)
    return steps


def untimed(path: Path) -> list[wgan.Record]:
    return [
        {k: v for k, v in r.items() if not k.endswith("_seconds")} for r in Run.open(path).records()
    ]


def tensors(path: Path) -> dict[str, Tensor]:
    return Run.open(path).latest()[0].tensors


def equal(one: Path, other: Path) -> bool:
    a, b = tensors(one), tensors(other)
    return untimed(one) == untimed(other) and all(torch.equal(a[name], b[name]) for name in a)


def test_a_warning_changes_nothing(tmp_path: Path, fires: Fires) -> None:
    wgan.train("gaussians8", out=tmp_path / "calm", **TINY)
    fires["critic-under-trained"] = 4
    wgan.train("gaussians8", out=tmp_path / "warned", **TINY)
    calm, warned = untimed(tmp_path / "calm"), untimed(tmp_path / "warned")
    assert [r["step"] for r in warned if "warnings" in r] == [6]  # the second look that finds it
    assert warned[5].pop("warnings") == "critic-under-trained"
    assert warned == calm
    (said,) = Run.open(tmp_path / "warned").card["warnings"]
    assert (said["step"], said["name"], said["done"]) == (6, "critic-under-trained", "")
    assert "warnings" not in Run.open(tmp_path / "calm").card
    page = (tmp_path / "warned" / "report.html").read_text()
    assert "Warnings on the way" in page
    assert "critic-under-trained, at step 6" in page
    assert "Warnings on the way" not in (tmp_path / "calm" / "report.html").read_text()


@pytest.mark.parametrize("name", ["critic-under-trained", "learning-rate-too-high"])
def test_a_resumed_run_does_it_again(tmp_path: Path, fires: Fires, name: str) -> None:
    fires[name] = 5
    wgan.train("gaussians8", out=tmp_path / "whole", heed=True, **TINY)
    whole = untimed(tmp_path / "whole")
    (said,) = Run.open(tmp_path / "whole").card["warnings"]
    if name == "critic-under-trained":
        assert [r["critic_updates"] for r in whole] == [1] * 8 + [3] * 4
        assert whole[7]["heeded"] == "n_critic: critic-under-trained"
        assert [r.get("n_critic") for r in whole] == [None] * 7 + [3] * 5
        assert said["done"] == "n_critic 3 from here on"
    else:
        assert [r.get("rollbacks", 0) for r in whole] == [0] * 4 + [1] * 8
        (event,) = Run.open(tmp_path / "whole").card["rollbacks"]
        assert (event["term"], event["at"], event["to"]) == (name, 8, 4)
        assert said["done"].startswith("rolled back")
    assert wgan.verify(tmp_path / "whole").good
    for stop in (3, 7, 10):
        path = tmp_path / f"stopped-{stop}"
        for record in wgan.iterate("gaussians8", out=path, heed=True, **TINY):
            if record["step"] == stop and (
                stop < 8 or said["done"].startswith("n_c") or "rollbacks" in record
            ):
                break
        wgan.resume(path)
        assert equal(path, tmp_path / "whole")
        assert len(Run.open(path).card["warnings"]) == 1


def test_it_stops_and_can_be_extended(tmp_path: Path, fires: Fires) -> None:
    fires["mode-collapse"] = 3
    path = tmp_path / "run"
    wgan.train("gaussians8", out=path, heed=True, **TINY)
    card = Run.open(path).card
    assert (card["step"], card["status"]) == (6, "finished")
    assert card["stopped_by"] == "mode-collapse, at which --heed stops"
    wgan.resume(path, steps=9)
    assert len(untimed(path)) == 9
    assert [r["step"] for r in untimed(path) if "warnings" in r] == [6]


def test_the_command_line_says_what_it_does(
    tmp_path: Path, fires: Fires, capsys: pytest.CaptureFixture[str]
) -> None:
    fires["learning-rate-too-high"] = 3
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in TINY.items()]
    assert main(["train", "gaussians8", *flags, "--judge=0", f"--out={tmp_path / 'a'}"]) == 0
    err = capsys.readouterr().err
    assert err.count("warning at step 6: learning-rate-too-high: it is so\n  do: do so") == 1
    flags += ["--heed", "--judge=0", "--quiet"]
    assert main(["train", "gaussians8", *flags, f"--out={tmp_path / 'b'}"]) == 0
    err = capsys.readouterr().err
    assert "learning-rate-too-high (it is so) at step 6; back to step 4 with a new draw" in err
    assert "(rollback 1 of 3)" in err


def test_settings_of_heed(tmp_path: Path) -> None:
    run = wgan.train("gaussians8", out=tmp_path / "a", heed=True, **{**TINY, "steps": 1})
    assert run.config.on_divergence == "rollback"  # it heeds a loss that is not finite, too
    with pytest.raises(UserError, match="`heed` must be true or false, got 'yes'"):
        wgan.train("gaussians8", out=tmp_path / "b", heed="yes")
