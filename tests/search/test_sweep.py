"""Sweeps: the objective, the winner, what happens to trials, and to processes."""

import dataclasses
import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
import yaml

import wgan
from wgan import memory, session, training
from wgan.cli import main
from wgan.cli.sweep import seconds_of
from wgan.errors import MissingExtraError, NonFiniteError, RunFailedError, UserError
from wgan.run import Run
from wgan.search import planning, storage
from wgan.search.planning import settle
from wgan.search.space import parse_space
from wgan.search.storage import JournalLock, Plan, trial_lock
from wgan.search.sweeping import _importances
from wgan.session import Session
from wgan.training import TrainState
from wgan.types import Record

TINY: dict[str, Any] = {
    "recipe": "sliced", "width": 16, "depth": 1, "batch_size": 32, "generator_batch_size": 32,
    "latent": 2, "holdout": 0.3, "average": 0.0,
}  # fmt: skip
"""No critic, so that a few steps make a difference and audits take little time."""


def flags(settings: dict[str, Any]) -> list[str]:
    return [part for k, v in settings.items() for part in (f"--{k.replace('_', '-')}", str(v))]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two clusters, between which an untrained generator's samples lie."""
    path = tmp_path_factory.mktemp("data") / "table.npy"
    rng = np.random.default_rng(0)
    ends = rng.choice([-1.0, 1.0], size=(600, 1)) * np.ones((1, 2))
    np.save(path, ends + 0.1 * rng.normal(size=(600, 2)))
    return str(path)


@pytest.fixture(scope="module")
def found(table: str, tmp_path_factory: pytest.TempPathFactory) -> wgan.Sweep:
    """Of two learning rates one is far too small; a third is not finite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "_STARTUP", 1)
        return wgan.sweep(
            table, {"lr": "1e-7|0.03|1e30"}, steps=10, trials=5, seed=5,
            out=tmp_path_factory.mktemp("sweep") / "sweep", **TINY,
        )  # fmt: skip


def test_the_setting_that_is_clearly_better_wins(found: wgan.Sweep) -> None:
    assert len(found.trials) == 5
    assert found.done
    assert found.best.values == {"lr": 0.03}
    slow = [t for t in found.trials if t.values["lr"] == 1e-7 and t.excess is not None]
    assert slow
    assert min(trial.excess for trial in slow if trial.excess) > 1.25 * (found.best.excess or 0.0)


def test_the_best_has_the_smallest_excess_of_those_that_ran_to_their_end(found: wgan.Sweep) -> None:
    best = found.best
    assert best.excess is not None
    others = (
        dataclasses.replace(best, number=7, excess=best.excess - 1),
        dataclasses.replace(best, number=8, excess=best.excess - 2, state="pruned"),
        dataclasses.replace(best, number=9, excess=best.excess + 1),
    )
    assert dataclasses.replace(found, trials=(*found.trials, *others)).best.number == 7


def test_the_objective_is_the_audited_excess(found: wgan.Sweep) -> None:
    for trial in found.trials:
        audits = [
            (record["step"], float(str(record["audit.excess"])))
            for record in Run.open(trial.path).records()
            if "audit.excess" in record
        ]
        assert trial.curve == tuple(audits)
        if trial.state != "failed":
            assert trial.excess == min(value for _, value in audits)
            assert (trial.step, trial.excess) in audits
    complete = [trial.excess for trial in found.trials if trial.state == "complete"]
    assert found.best.excess == min(complete)  # type: ignore[type-var]


def test_the_winner_is_reported_on_data_that_chose_nothing(found: wgan.Sweep) -> None:
    best = found.best
    card = Run.open(best.path).card["audit"]
    assert best.reported == (card.get("best") or card["last"])
    assert best.reported is not None
    assert best.reported["step"] == best.step
    assert best.reported["low"] < best.reported["excess"] < best.reported["high"]
    assert best.reported["excess"] != best.excess
    assert found.held == card["samples"]  # and they are not among those that report
    assert found.held + 2 * best.reported["size"] <= 0.3 * 600


def test_pruned_and_diverged_trials_are_ordinary_runs_that_say_so(found: wgan.Sweep) -> None:
    states = {trial.state for trial in found.trials}
    assert states == {"complete", "pruned", "failed"}
    for trial in found.trials:
        run = Run.open(trial.path)
        assert run.card["sweep"] == {"trial": trial.number, **trial.values}
        if trial.state == "pruned":
            assert run.card["stopped_by"] == f"pruned: {trial.reason}"
            assert "that ran on was" in trial.reason
            assert trial.steps < found.steps
        if trial.state == "failed":
            assert trial.values == {"lr": 1e30}
            assert run.card["status"] == "failed"
            assert "is not finite at step" in trial.reason
    for state in ("pruned", "failed"):
        trial = next(trial for trial in found.trials if trial.state == state)
        assert main(["report", str(trial.path)]) == 0


def test_the_page_and_the_winners_configuration_are_there_to_use(
    found: wgan.Sweep, tmp_path: Path
) -> None:
    page = (found.path / "report.html").read_text()
    for said in ("Trial", "the smallest audited excess", "pruned: its"[8:], "data:image/png"):
        assert said in page
    assert page.count("<svg") == 3  # one setting has no importance
    for trial in found.trials:
        assert f">{trial.number:04d}<" in page
        assert escape(trial.reason) in page
    assert f"wgan report {found.best.path}" in page
    assert '<th scope="row">generator_lr</th>' in page
    settings = yaml.safe_load((found.path / "best.yaml").read_text())
    assert settings["generator_lr"] == 0.03
    out = tmp_path / "again"
    again = ["train", "--config", str(found.path / "best.yaml"), "--out", str(out)]
    assert main([*again, "--judge", "0", "--quiet"]) == 0
    records = [
        [
            {k: v for k, v in record.items() if not k.endswith("seconds") and "audit." not in k}
            for record in run.records()
        ]
        for run in (Run.open(out), Run.open(found.best.path))
    ]
    assert records[0] == records[1]
    assert not {"audit_every", "checkpoint_every", "sample_every", "device"} & set(settings)


def test_the_same_sweep_again_has_nothing_left_to_do(
    found: wgan.Sweep, table: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    again = wgan.sweep(
        table, ["lr=1e-7|0.03|1e30"], steps=10, trials=5, seed=5, out=found.path,
        tell=lines.append, **TINY,
    )  # fmt: skip
    assert lines == []
    assert again.trials == found.trials
    with pytest.raises(UserError, match=r"another sweep: its search was lr=1e-07\|0.03\|1e\+30"):
        wgan.sweep(table, ["lr=1|2"], steps=10, trials=5, seed=5, out=found.path, **TINY)
    same = {"steps": 10, "trials": 5, "seed": 5, "out": found.path, **TINY}
    for other, said in (
        ({"width": 8}, "its given was .* width=16 .* and .* width=8 "),
        ({"pruner": "none"}, "its pruner was median and none is asked for"),
        ({"seed": 6}, "its given was .* seed=5 and .* seed=6 is asked for"),
    ):
        with pytest.raises(UserError, match=said):
            wgan.sweep(table, ["lr=1e-7|0.03|1e30"], **{**same, **other})
    moved = tmp_path / "table.npy"
    np.save(moved, np.load(table) + 1)
    with pytest.raises(UserError, match="is a sweep on other data"):
        wgan.sweep(str(moved), ["lr=1e-7|0.03|1e30"], **same)
    with pytest.raises(UserError, match="trials of 10 steps, and 50 are asked for"):
        wgan.sweep(table, ["lr=1e-7|0.03|1e30"], steps=50, trials=5, seed=5, out=found.path, **TINY)


def test_a_stopped_sweep_goes_on_and_comes_out_the_same(table: str, tmp_path: Path) -> None:
    search = {"lr": "loguniform(1e-3,1e-1)", "beta2": "uniform(0.9,0.99)"}
    asked = {"steps": 10, "trials": 2, **TINY}
    whole = wgan.sweep(table, search, out=tmp_path / "whole", **asked)
    assert whole.best.excess
    lines: list[str] = []
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 6

    first = wgan.sweep(table, search, out=tmp_path / "parts", stop=stop, tell=lines.append, **asked)
    assert [trial.state for trial in first.trials] == ["running"]
    assert "stopped at step" in lines[-1]
    with pytest.raises(RunFailedError, match=r"no trial of .* has run to its end"):
        _ = first.best
    rest = wgan.sweep(table, search, out=tmp_path / "parts", tell=lines.append, **asked)
    assert "trial 0: going on where it was stopped" in lines
    assert [t.curve for t in rest.trials] == [t.curve for t in whole.trials]
    assert [t.values for t in rest.trials] == [t.values for t in whole.trials]
    study = storage.open_study(tmp_path / "parts", Plan.read(tmp_path / "parts"))  # type: ignore[arg-type]
    assert not study.get_trials()[0].user_attrs["paused"]  # a death of it would count


def test_a_killed_sweep_goes_on_with_the_trial_that_was_left(table: str, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    command = [
        *(sys.executable, "-m", "wgan", "sweep", table, "--search", "lr=loguniform(1e-3,1e-1)"),
        *("--steps", "5000", "--trials", "1", "--out", str(out), *flags(TINY)),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    checkpoints = out / "trials" / "0000" / "checkpoints"
    for _ in range(6000):
        if process.poll() is not None or any(
            path.name > "0" * 8 for path in checkpoints.glob("0*")
        ):
            break
        time.sleep(0.1)
    process.kill()
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    lock = trial_lock(out, 0)
    assert lock.acquire(wait=False)  # nobody holds it
    lock.release()
    with (out / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code": 9, "wor')  # as a kill within a write would leave it
    lines: list[str] = []
    calls = 0

    def soon() -> bool:
        nonlocal calls
        calls += 1
        return calls > 5

    asked = {"steps": 5000, "trials": 1, "out": out, **TINY}
    search = ["lr=loguniform(1e-3,1e-1)"]
    found = wgan.sweep(table, search, stop=soon, tell=lines.append, **asked)
    assert lines[0] == "trial 0: taken up again, the process that trained it is dead"
    assert len(found.trials) == 1
    assert Run.open(found.trials[0].path).card["resumptions"][0]["step"] >= 500
    # A trial on which process after process dies must not take the sweep with it.
    study = storage.open_study(out, Plan.read(out))  # type: ignore[arg-type]
    (left,) = study.get_trials()
    assert left.user_attrs["deaths"] == 1
    study._storage.set_trial_user_attr(left._trial_id, "paused", False)
    study._storage.set_trial_user_attr(left._trial_id, "deaths", 2)
    found = wgan.sweep(table, search, tell=lines.append, **asked)
    assert found.trials[0].state == "failed"
    assert lines[-1] == "trial 0: failed, 3 processes died while they trained it"


def test_two_processes_share_a_sweep_and_one_goes_on_if_the_other_is_killed(
    table: str, tmp_path: Path
) -> None:
    lines: list[str] = []

    def tell(line: str) -> None:
        if ": excess " in line and not any(": excess " in earlier for earlier in lines):
            multiprocessing.active_children()[0].kill()
        lines.append(line)

    found = wgan.sweep(
        table, {"lr": "loguniform(1e-4,1e-1)"}, steps=10, trials=4, jobs=2, out=tmp_path / "two",
        tell=tell, **TINY,
    )  # fmt: skip
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3]
    assert {trial.state for trial in found.trials} <= {"complete", "pruned"}
    assert len({trial.values["lr"] for trial in found.trials}) == 4
    assert found.default is not None
    assert found.default.number == 0
    died = "a process of the sweep was killed (SIGKILL, perhaps for want of memory)"
    assert [line for line in lines if "process of the sweep" in line] == [
        f"{died}; the others go on"
    ]
    assert (found.path / "report.html").is_file()
    for trial in found.trials:
        taken = (
            f"trial {trial.number}: taken up again, the process that trained it is dead" in lines
        )
        begun = [line for line in lines if line.startswith(f"trial {trial.number}: lr ")]
        assert len(begun) == 1 + taken
        assert len(Run.open(trial.path).card["resumptions"]) <= taken


def test_hyperband_prunes_and_a_kill_changes_nothing(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"steps": 4, "trials": 3, "pruner": "hyperband", **TINY}
    search = {"lr": "1e-7|1.0"}  # whose excess rises again
    whole = wgan.sweep(table, search, out=tmp_path / "whole", **asked)
    pruned = [trial for trial in whole.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        step, excess = trial.curve[-1]
        assert trial.steps == step < 4
        assert trial.reason.startswith(f"its excess at step {step} is {excess:.4g}, which is not")
    complete = [trial for trial in whole.trials if trial.state == "complete"]
    assert any(trial.step != trial.steps for trial in complete)
    for trial in whole.trials:
        assert trial.reported is not None
        assert trial.reported["step"] == trial.step  # that of the best checkpoint
    report, finish = optuna.trial.Trial.report, Session.finish
    done: set[str] = set()

    def dying_report(self: Any, value: float, step: int) -> None:
        if step == pruned[0].steps and self.number == pruned[0].number and "report" not in done:
            done.add("report")
            raise SystemExit  # an audit is in the records and not in the journal
        report(self, value, step)

    def dying_finish(self: Session) -> None:
        if self.stopped_by and "finish" not in done:
            done.add("finish")
            raise SystemExit  # a run is to end and has not
        finish(self)

    monkeypatch.setattr(optuna.trial.Trial, "report", dying_report)
    monkeypatch.setattr(Session, "finish", dying_finish)
    for _ in range(2):
        with pytest.raises(SystemExit):
            wgan.sweep(table, search, out=tmp_path / "killed", **asked)
    found = wgan.sweep(table, search, out=tmp_path / "killed", **asked)
    for one, other in zip(found.trials, whole.trials, strict=True):
        assert (one.state, one.reason, one.curve) == (other.state, other.reason, other.curve)


def test_a_trial_without_memory_fails_and_the_others_go_on(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = training.train

    def train(state: TrainState, *args: Any, **kwargs: Any) -> Iterator[Record]:
        if state.generator.spec.lr == 0.02:
            torch.empty(2**50)
        return real(state, *args, **kwargs)

    monkeypatch.setattr(session, "train", train)
    monkeypatch.setattr(memory, "free_bytes", lambda: 150 << 20)
    settings = {name: value for name, value in TINY.items() if name != "width"} | {"depth": 3}
    search = {"lr": "0.01|0.02", "width": "16|2048"}
    found = wgan.sweep(table, search, steps=2, trials=8, out=tmp_path / "sweep", **settings)
    kinds = {(trial.values["width"], trial.values["lr"]) for trial in found.trials}
    assert {(16, 0.01), (16, 0.02)} < kinds
    assert any(width == 2048 for width, _ in kinds)
    for trial in found.trials:
        if trial.values["width"] == 2048:
            assert trial.state == "failed"
            assert "0.146 GiB are free; use a smaller --width" in trial.reason
        elif trial.values["lr"] == 0.02:
            assert trial.state == "failed"
            assert "memory ran out at step 1" in trial.reason
        else:
            assert trial.state == "complete"


def test_audits_from_before_a_rollback_do_not_count(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [4, 4]  # steps that fail; the second time the run goes back beyond an audit
    real = training.train

    def train(state: TrainState, *args: Any, **kwargs: Any) -> Iterator[Record]:
        for record in real(state, *args, **kwargs):
            if state.step in left:
                left.remove(state.step)
                raise NonFiniteError("generator_loss", state.step)
            yield record

    monkeypatch.setattr(session, "train", train)
    asked: dict[str, Any] = {"steps": 6, "trials": 1, "on_divergence": "rollback", **TINY}
    found = wgan.sweep(table, {"lr": "0.3|0.2"}, out=tmp_path / "sweep", **asked)
    (trial,) = found.trials
    assert not left
    run = Run.open(trial.path)
    assert [(back["at"], back["to"]) for back in run.card["rollbacks"]] == [(4, 3), (4, 2)]
    audits = [(r["step"], r["audit.excess"]) for r in run.records() if "audit.excess" in r]
    assert list(trial.curve) == audits
    assert trial.excess == min(excess for _, excess in trial.curve)


def test_what_mattered_is_asked_of_pruned_trials_too_and_not_of_few() -> None:
    study = optuna.create_study()
    scales = {
        "lr": optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True),
        "n_critic": optuna.distributions.IntDistribution(1, 5),
    }
    for i in range(12):
        lr, n_critic = (1e-3, 1e-5, 1e-2)[i % 3], 1 + i % 5
        early = abs(math.log10(lr) + 3)  # the learning rate alone makes it
        values = {10: early, 20: early}
        if early == 0:  # the others are pruned
            values[30] = -9.0 * n_critic
        state = optuna.trial.TrialState.PRUNED if early else optuna.trial.TrialState.COMPLETE
        trial = optuna.create_trial(
            state=state, value=None if early else values[30], intermediate_values=values,
            params={"lr": lr, "n_critic": n_critic}, distributions=scales,
        )  # fmt: skip
        study.add_trial(trial)
        if i == 8:
            assert _importances(study) == ({}, 0)
    shares, step = _importances(study)
    assert step == 20
    assert shares["lr"] > 0.97
    assert sum(shares.values()) == pytest.approx(1.0)


def test_the_length_of_a_trial_follows_from_the_budget(
    table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = parse_space(["lr=1e-3|1e-2"])
    source = wgan.data.open_source(table)
    real = planning._timed

    def timed(*arguments: Any) -> Any:
        return real(*arguments)[0], 0.01, 0.5

    monkeypatch.setattr(planning, "_timed", timed)
    asked = {"trials": 10, "jobs": 1, "steps": None, "seed": 0}
    length = settle(space, TINY, source, table, budget=600.0, **asked)  # type: ignore[arg-type]
    # 85% of 60 s are 51 s, less 12 audits of 0.5 s and 1.5 s: 4,350 steps, rounded down
    assert (length.steps, length.audit_every) == (4300, 430)
    double = settle(space, TINY, source, table, budget=600.0, **{**asked, "jobs": 2})  # type: ignore[arg-type]
    assert double.steps > 2 * length.steps
    with pytest.raises(UserError, match=r"a budget of 20 s leaves 1\.7 s .* give --budget 77s"):
        settle(space, TINY, source, table, budget=20.0, **asked)  # type: ignore[arg-type]
    assert settle(space, TINY, source, table, budget=77.0, **asked).steps  # type: ignore[arg-type]


def test_what_cannot_be_swept_is_refused_before_anything_is_written(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "none"
    for settings, said in (
        ({}, "--budget 20m, or --steps"),
        ({"steps": 5, "trials": 0}, "`trials` must be >= 1"),
        ({"steps": 5, "pruner": "mean"}, "Did you mean 'median'"),
        ({"steps": 5, "lr": 1.0}, "`lr` is both given and searched"),
        ({"steps": 5, "audit_every": 2}, "`audit_every` is settled by a sweep"),
        ({"steps": 5, "batch_sise": 2}, "Did you mean 'batch_size'"),
        ({"steps": 5, "holdout": 0.05}, "which takes 60 or more: give a larger --holdout"),
    ):
        with pytest.raises(UserError, match=said):
            wgan.sweep(table, {"lr": "1e-3|1e-2"}, out=out, **{**TINY, **settings})
    with pytest.raises(UserError, match=r"lr=-1\.0: "):
        wgan.sweep(table, {"lr": "uniform(-1,1)"}, steps=5, out=out, **TINY)
    assert not out.exists()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'wgan\[sweep\]'"):
        wgan.sweep(table, {"lr": "1e-3|1e-2"}, steps=5, out=out)


def test_the_command_says_what_won_and_how_to_use_it(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    command = ["sweep", table, "--search", "lr=1e-3|1e-2", "recipe={energy,sliced}"]
    others = {name: value for name, value in TINY.items() if name != "recipe"}
    command += ["--steps", "5", "--out", str(out), *flags(others)]
    assert main([*command, "--trials", "2"]) == 0
    shown = capsys.readouterr()
    assert "more that chose nothing" in shown.out
    assert f"  use      wgan train --config {out / 'best.yaml'}\n" in shown.out
    assert "more --trials" not in shown.out
    assert shown.err.startswith("5 steps a trial, as was asked for")
    assert shown.err.count("excess") == 2
    assert main([*command, "--budget", "1h", "--trials", "3"]) == 0
    shown = capsys.readouterr()
    assert "3 of 3 trials" in shown.out
    left = re.search(r"go on    the same command with more --trials: (\d+) s", shown.out)
    assert left is not None
    assert 2880 < int(left[1]) < 3600
    assert main([*command, "--trials", "3", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["best"] in (0, 1, 2)
    assert len(plain["trials"]) == 3
    best = plain["trials"][plain["best"]]
    judged = best["reported"]
    assert f"excess {best['excess']:.4g} at step {best['step']}, on the" in shown.out
    assert f"on {2 * judged['size']:,} more that chose nothing" in shown.out
    assert {trial["state"] for trial in plain["trials"]} == {"complete"}


def test_a_budget_is_read_with_its_unit() -> None:
    read = [seconds_of(text) for text in ("90", "90s", "1.5m", "2h", " 1 d ")]
    assert read == [90, 90, 90, 7200, 86400]
    for text in ("", "m", "0m", "-3s", "3 weeks", "1e3"):
        with pytest.raises(UserError, match="must be a time such as"):
            seconds_of(text)


def test_half_a_line_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    for content, kept in ((b"", b""), (b"{}\n", b"{}\n"), (b"{}\n{", b"{}\n"), (b"{", b"")):
        journal.write_bytes(content)
        with JournalLock(journal, tmp_path / "lock"):
            assert journal.read_bytes() == kept
    assert os.path.getsize(journal) == 0
