"""The library as a notebook uses it, on runs of a few steps."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wgan
from wgan.errors import UserError
from wgan.run import Run

TINY: dict[str, Any] = {"width": 16, "depth": 2, "batch_size": 16, "n_critic": 1, "latent": 4}


def untimed(records: list[wgan.Record]) -> list[wgan.Record]:
    return [{k: v for k, v in r.items() if not k.endswith("_seconds")} for r in records]


def newest(path: Path) -> dict[str, Tensor]:
    return Run.open(path).latest()[0].tensors


@pytest.mark.parametrize("recipe", ["wgan", "wgan-gp"])
def test_resume_equals_never_having_stopped(tmp_path: Path, recipe: str) -> None:
    settings = {**TINY, "recipe": recipe, "checkpoint_every": 4, "sample_every": 100}
    settings["audit_every"] = 5  # what it has learned is in the checkpoint of another step
    whole = wgan.train("gaussians8", out=tmp_path / "whole", steps=12, **settings)

    for record in wgan.iterate("gaussians8", out=tmp_path / "cut", steps=12, **settings):
        if record["step"] == 7:
            break
    wgan.resume(tmp_path / "cut")
    wgan.train("gaussians8", out=tmp_path / "two", steps=6, **settings)
    wgan.resume(tmp_path / "two", steps=12)

    for name in ("cut", "two"):
        assert untimed(wgan.load(tmp_path / name).records) == untimed(whole.records)
        expected, got = newest(tmp_path / "whole"), newest(tmp_path / name)
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[k], got[k]) for k in expected)


def test_a_run_that_is_killed_as_soon_as_it_is_there_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Run.create

    def killed(*given: Any) -> Run:
        create(*given).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "create", killed)
    with pytest.raises(KeyboardInterrupt):
        wgan.train("gaussians8", out=tmp_path / "run", steps=4, audit_every=2, **TINY)
    monkeypatch.undo()
    assert wgan.resume(tmp_path / "run").step == 4
    card = Run.open(tmp_path / "run").card["audit"]
    assert card["every"] == 2
    assert card["floor"] > 0


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    runs = [
        wgan.train("digits", out=tmp_path / name, steps=3, seed=seed, **TINY)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    samples = [run.sample(5, seed=3) for run in runs]
    assert untimed(runs[0].records) == untimed(runs[1].records)
    assert (samples[0] == samples[1]).all()
    assert (samples[0] != samples[2]).any()


def test_samples_are_in_the_datas_own_units(tmp_path: Path) -> None:
    run = wgan.train("digits", out=tmp_path / "run", steps=2, **TINY)
    samples = run.sample(40, seed=1)
    assert samples.shape == (40, 8, 8)
    assert samples.dtype == np.uint8
    assert samples.max() <= 16
    assert (samples == run.sample(40, seed=1)).all()
    assert (samples != run.sample(40, seed=2)).any()
    assert (samples != run.sample(40, seed=1, raw=True)).any()
    assert [r["step"] for r in run.records] == [1, 2]


def test_arrays_of_any_shape(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for shape in ((5,), (6, 7), (3, 8, 8), (4, 5, 6)):
        data = rng.normal(3.0, 2.0, (50, *shape)).astype(np.float32)
        out = tmp_path / "x".join(map(str, shape))
        run = wgan.train(data, out=out, steps=2, network="mlp", **TINY)
        samples = run.sample(4)
        assert samples.shape == (4, *shape)
        assert samples.dtype == np.float32
        with pytest.raises(UserError, match="in memory"):
            wgan.resume(out)
        assert wgan.resume(out, steps=3, data=data).step == 3
        with pytest.raises(UserError, match="the data has changed"):
            wgan.resume(out, steps=4, data=data + 1)


def test_a_conditional_generator_learns_the_known_conditional_mean(tmp_path: Path) -> None:
    """x given c is N(c, 0.1^2) with c uniform on [-1, 1]: the samples' mean must follow c."""
    rng = np.random.default_rng(0)
    condition = rng.uniform(-1, 1, 4000).astype(np.float32)
    data = (condition + 0.1 * rng.normal(size=4000)).astype(np.float32)[:, None]
    run = wgan.train(
        data,
        condition=condition,
        out=tmp_path / "run",
        steps=400,
        width=32,
        depth=2,
        batch_size=128,
        latent=4,
        average=0.98,
        lr=2e-3,
    )
    name = run.codec.condition[0]
    for value in (-0.8, 0.0, 0.8):
        samples = run.sample(2000, given={name: value})
        assert samples.mean() == pytest.approx(value, abs=0.12)
        assert samples.std() < 0.3
    assert run.sample(2000).std() == pytest.approx(data.std(), abs=0.12)
    with pytest.raises(UserError, match="unknown condition"):
        run.sample(2, given={"other": 1.0})
    with pytest.raises(UserError, match="must be finite"):
        run.sample(2, given={name: float("nan")})


class OwnGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, latent: Tensor) -> Tensor:
        return self.layer(latent)  # type: ignore[no-any-return]


def test_own_modules(tmp_path: Path) -> None:
    settings = {"out": tmp_path / "run", "steps": 3, **TINY}
    critic = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    run = wgan.train("gaussians8", generator=OwnGenerator(), critic=critic, **settings)
    assert run.sample(3).shape == (3, 2)
    with pytest.raises(UserError, match="has its own generator"):
        wgan.load(tmp_path / "run")
    again = wgan.load(tmp_path / "run", generator=OwnGenerator(), critic=critic)
    assert (again.sample(3) == run.sample(3)).all()


def test_a_run_can_be_repeated_from_its_config(tmp_path: Path) -> None:
    from wgan.config import read_config

    first = wgan.train("digits", out=tmp_path / "a", steps=3, constraints=_weight(5.0), **TINY)
    given = read_config(tmp_path / "a" / "config.yaml")
    again = wgan.train(given.pop("data"), out=tmp_path / "b", **given)
    assert untimed(first.records) == untimed(again.records)
    config = [(tmp_path / name / "config.yaml").read_text() for name in "ab"]
    assert config[0] == config[1]


def _weight(value: float) -> dict[str, dict[str, float]]:
    return {"gradient-penalty": {"weight": value}}


def test_evaluate_compares_with_the_runs_own_data(tmp_path: Path) -> None:
    run = wgan.train("digits", out=tmp_path / "run", steps=2, **TINY)
    evaluation = run.evaluate(n=200)
    accuracy = evaluation["nn_accuracy"]
    assert accuracy.value > 0.9  # two steps: anyone can tell
    assert accuracy.floor is not None
    assert accuracy.floor < 0.65
    with pytest.raises(UserError, match="cannot be compared"):
        run.evaluate("gaussians8")


def test_damage_and_mistakes_leave_the_run_alone(tmp_path: Path) -> None:
    wgan.train("gaussians8", out=tmp_path / "run", steps=4, checkpoint_every=2, **TINY)
    newest_file = tmp_path / "run" / "checkpoints" / "00000004" / "tensors.safetensors"
    newest_file.write_bytes(newest_file.read_bytes()[:-10])
    trained = wgan.load(tmp_path / "run")
    assert trained.step == 2
    assert "is damaged" in trained.said[0]
    with pytest.raises(UserError, match="exists; choose another --out"):
        wgan.train("gaussians8", out=tmp_path / "run", steps=1, **TINY)
    with pytest.raises(UserError, match="`n` must be >= 1"):
        trained.sample(0)


def test_the_best_checkpoint_is_that_of_the_smallest_excess(tmp_path: Path) -> None:
    settings = {**TINY, "audit_every": 3, "checkpoint_every": 100, "sample_every": 100}
    run = wgan.train("gaussians8", out=tmp_path / "run", steps=10, **settings)
    excess = {r["step"]: r["audit.excess"] for r in run.records if "audit.excess" in r}
    assert list(excess) == [3, 6, 9]
    best = min(excess, key=lambda step: float(str(excess[step])))
    assert wgan.load(tmp_path / "run", checkpoint="best").step == best
    card = run.run.card["audit"]
    assert card["last"]["step"] == 10
    assert card["last"]["low"] < card["last"]["excess"] < card["last"]["high"]
    assert card["best"]["step"] == best
    assert card["best"]["excess"] != excess[best]  # reported on other data than chose it


def test_patience_ends_a_run_and_an_extension_starts_it_anew(tmp_path: Path) -> None:
    settings = {**TINY, "lr": 1e-9, "average": 0.0, "audit_every": 2, "patience": 2}
    run = wgan.train("gaussians8", out=tmp_path / "run", steps=20, **settings)
    stopped = run.step
    assert stopped < 20
    assert run.run.card["status"] == "finished"
    assert "has not fallen below" in run.run.card["stopped_by"]
    again = wgan.resume(tmp_path / "run", steps=30)
    assert stopped + 2 * 2 <= again.step


def test_rules_that_could_never_hold_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    place = tmp_path / "run"
    for settings, said in (
        ({"stop_when": "audit.exces < 1", "audit_every": 1}, "Did you mean 'audit.excess'"),
        ({"stop_when": "audit.at_bounds > 1", "audit_every": 1}, "unknown term of the records"),
        ({"stop_when": "audit.excess < 1"}, "this run has none: give `audit_every`"),
        ({"patience": 3, "audit_every": 0}, "this run has none"),
        ({"patience": 0}, "`patience` must be >= 1, got 0"),
        ({"audit_every": -1}, "`audit_every` must be >= 0, got -1"),
        ({"audit_features": "pca:x", "audit_every": 1}, "pca:K"),
    ):
        with pytest.raises(UserError, match=said):
            wgan.train("gaussians8", out=place, steps=5, **{**TINY, **settings})
        assert not place.exists()
    run = wgan.train("gaussians8", out=place, steps=9, stop_when="slope > 0", **TINY)
    assert run.step == 1  # any term of the records will do


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    settings = {**TINY, "steps": 4, "checkpoint_every": 2}
    whole = wgan.train("gaussians8", out=tmp_path / "whole", **settings)
    for _ in wgan.iterate("gaussians8", out=tmp_path / "run", **settings):
        break
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    (tmp_path / "run" / "samples" / "real.png").unlink()
    with pytest.raises(UserError, match="stopped before its first; to begin it again: wgan resume"):
        wgan.load(tmp_path / "run")
    assert untimed(wgan.resume(tmp_path / "run").records) == untimed(whole.records)
    assert all(
        torch.equal(tensor, newest(tmp_path / "whole")[name])
        for name, tensor in newest(tmp_path / "run").items()
    )
    assert (tmp_path / "run" / "samples" / "real.png").is_file()


def test_what_a_kill_left_out_at_the_end_is_made_up_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from wgan.cli import main

    wgan.train("gaussians8", out=tmp_path / "run", steps=2, **TINY)
    run = Run.open(tmp_path / "run")
    run.card |= {"status": "running"}
    del run.card["reported"]
    run.write_card()
    for name in ("samples.png", "report.html"):
        (tmp_path / "run" / name).unlink()
    assert main(["resume", str(tmp_path / "run"), "--judge", "0", "--quiet"]) == 0
    assert wgan.verify(tmp_path / "run").good
    capsys.readouterr()
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert "is finished at step 2" in capsys.readouterr().out
