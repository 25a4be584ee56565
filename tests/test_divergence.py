"""Rollback: what it restores, changes and records, and that a resumed run repeats it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import wgan
from wgan.cli import main
from wgan.errors import NonFiniteError, UserError
from wgan.objectives import Wasserstein
from wgan.plugins import isolated, register
from wgan.recipes import get_recipe
from wgan.run import Run
from wgan.types import Loss

TINY: dict[str, Any] = {
    "width": 8,
    "audit_every": 0,
    "depth": 1,
    "batch_size": 8,
    "n_critic": 1,
    "latent": 2,
    "checkpoint_every": 2,
    "sample_every": 100,
    "on_divergence": "rollback",
}


@dataclass(frozen=True)
class Blows(Wasserstein):
    """Wasserstein, infinite at some steps, each so often."""

    name: ClassVar[str] = "blows"
    at: ClassVar[dict[int, int]] = {}

    def critic_loss(
        self, critic: Any, real: Tensor, fakes: Any, draw: Any, state: Any, step: int
    ) -> Any:
        loss, state = super().critic_loss(critic, real, fakes, draw, state, step)
        if self.at.get(step, 0) > 0:
            self.at[step] -= 1
            return Loss(loss.value * torch.inf, loss.terms), state
        return loss, state


@pytest.fixture(autouse=True)
def blowing() -> Iterator[None]:
    with isolated():
        register(replace(get_recipe("wgan-gp"), name="blowing", objective=Blows()))
        yield
    Blows.at.clear()


def untimed(path: Path) -> list[wgan.Record]:
    return [
        {k: v for k, v in r.items() if not k.endswith("_seconds")} for r in Run.open(path).records()
    ]


def tensors(path: Path) -> dict[str, Tensor]:
    return Run.open(path).latest()[0].tensors


def test_a_rollback_draws_anew_at_half_the_rates_and_says_so(tmp_path: Path) -> None:
    calm = wgan.train("gaussians8", out=tmp_path / "calm", recipe="blowing", steps=8, **TINY)
    Blows.at[6] = 1
    run = wgan.train("gaussians8", out=tmp_path / "run", recipe="blowing", steps=8, **TINY)
    ours, theirs = untimed(tmp_path / "run"), untimed(tmp_path / "calm")
    assert [r["step"] for r in ours] == list(range(1, 9))
    assert ours[:4] == theirs[:4]
    assert "rollbacks" not in ours[3]
    for one, other in zip(ours[4:], theirs[4:], strict=True):
        assert one["critic_loss"] != other["critic_loss"]
        assert (one["rollbacks"], one["lr_scale"]) == (1, 0.5)
    (event,) = run.run.card["rollbacks"]
    assert (event["term"], event["at"], event["to"]) == ("critic_loss", 6, 4)
    for role in ("generator", "critic"):
        rates = [r.run.latest()[0].plain["optimizers"][role][0]["lr"] for r in (run, calm)]
        assert rates[0] == rates[1] / 2
    assert wgan.verify(tmp_path / "run").good


def test_a_resumed_run_repeats_its_rollbacks(tmp_path: Path) -> None:
    """Stopped before, between and after two rollbacks, and where a schedule sets the rates."""
    settings = {**TINY, "recipe": "blowing", "schedule": "linear", "optimizer": "adam"}
    Blows.at.update({4: 1, 7: 1})
    wgan.train("gaussians8", out=tmp_path / "whole", steps=10, **settings)
    assert untimed(tmp_path / "whole")[-1]["lr_scale"] == 0.25
    for stop in (3, 6):
        Blows.at.update({4: 1, 7: 1})
        path = tmp_path / f"stopped-{stop}"
        seen: list[Any] = []
        for record in wgan.iterate("gaussians8", out=path, steps=10, **settings):
            seen.append(record["step"])
            if seen[-1] == stop and ("rollbacks" in record or stop < 4):
                break
        wgan.resume(path)
        assert untimed(path) == untimed(tmp_path / "whole")
        expected, got = tensors(tmp_path / "whole"), tensors(path)
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_rollback_that_came_to_nothing_goes_further_back(tmp_path: Path) -> None:
    Blows.at[5] = 2
    wgan.train("gaussians8", out=tmp_path / "run", recipe="blowing", steps=8, **TINY)
    run = Run.open(tmp_path / "run")
    assert [event["to"] for event in run.card["rollbacks"]] == [4, 2]
    assert [r.get("rollbacks", 0) for r in run.records()] == [0, 0, 2, 2, 2, 2, 2, 2]
    assert wgan.verify(run.path).good


def test_it_ends_where_it_may_not_go_back_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Blows.at[3] = 9
    with pytest.raises(NonFiniteError, match="`critic_loss` is not finite at step 3, after 2 roll"):
        wgan.train(
            *("gaussians8",),
            **{**TINY, "recipe": "blowing", "steps": 8, "max_rollbacks": 2},
            out=tmp_path / "run",
        )
    assert Run.open(tmp_path / "run").card["status"] == "failed"
    Blows.at[3] = 1
    with pytest.raises(NonFiniteError):  # off by default
        wgan.train(
            "gaussians8",
            out=tmp_path / "off",
            **{**TINY, "recipe": "blowing", "steps": 8, "on_divergence": None},
        )
    flags = ["--lr", "1e30", "--steps", "3", "--judge", "0", "--quiet", "--width", "8"]
    hot = ["--on-divergence", "rollback", "--out", str(tmp_path / "hot")]
    assert main(["train", "gaussians8", *flags, *hot]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "back to step 0 with a new draw and 0.125 of the learning rates" in lines[2]
    assert "(rollback 3 of 3)" in lines[2]
    assert "is not finite at step" in lines[3]


def test_a_rate_that_is_too_high_is_found_by_halving(tmp_path: Path) -> None:
    """Plain gradient steps on this penalty blow up above some rate, and not below it."""
    settings = {**TINY, "optimizer": "sgd", "lr": 3e4, "max_rollbacks": 40, "steps": 30}
    run = wgan.train("gaussians8", out=tmp_path / "run", **settings)
    last = run.records[-1]
    assert last["step"] == 30
    assert isinstance(last["rollbacks"], int)
    assert 1 <= last["rollbacks"] <= 40
    assert last["lr_scale"] == 0.5 ** last["rollbacks"]


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"unknown on_divergence 'rolback'\. Did you mean 'rollback'"
    ):
        wgan.train("gaussians8", out=tmp_path / "a", on_divergence="rolback")
    with pytest.raises(UserError, match="give `on_divergence` rollback too"):
        wgan.train("gaussians8", out=tmp_path / "a", max_rollbacks=2)
    with pytest.raises(UserError, match="`max_rollbacks` must be >= 0, got -1"):
        wgan.train("gaussians8", out=tmp_path / "a", on_divergence="rollback", max_rollbacks=-1)


def test_a_state_within_a_step_is_never_saved(tmp_path: Path) -> None:
    """Neither an error nor Ctrl-C in a notebook leaves a checkpoint of half a step."""
    settings = {**TINY, "recipe": "blowing", "steps": 6, "checkpoint_every": 4}
    settings["on_divergence"] = "stop"
    wgan.train("gaussians8", out=tmp_path / "calm", **settings)
    Blows.at[3] = 1
    with pytest.raises(NonFiniteError):
        for _ in wgan.iterate("gaussians8", out=tmp_path / "run", **settings):
            pass
    assert Run.open(tmp_path / "run").steps() == [0]
    wgan.resume(tmp_path / "run")
    assert untimed(tmp_path / "run") == untimed(tmp_path / "calm")
    expected, got = tensors(tmp_path / "calm"), tensors(tmp_path / "run")
    assert all(torch.equal(expected[name], got[name]) for name in expected)
