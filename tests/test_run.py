import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from wgan.errors import RunFailedError, UserError
from wgan.run import FORMAT, Checkpoint, DamagedError, Run, next_path


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with contextlib.closing(Run.create(tmp_path / "run", {"seed": 0}, {"name": "test"})) as run:
        yield run


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"w": torch.full((3,), float(step))}, {"drawn": step * 2})


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()


def test_a_checkpoint_comes_back(run: Run) -> None:
    run.save(checkpoint(5))
    found, said = run.latest()
    assert (found.step, found.plain, said) == (5, {"step": 5, "drawn": 10}, [])
    assert torch.equal(found.tensors["w"], torch.full((3,), 5.0))


def test_the_newest_and_the_best_are_kept(run: Run) -> None:
    for step in range(8):
        run.save(checkpoint(step), best=step == 2)
    assert run.steps() == [2, 5, 6, 7]
    assert run.best_step() == 2


@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "checksums.json"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    run: Run, name: str, how: str
) -> None:
    run.save(checkpoint(1))
    damage(run.save(checkpoint(2)) / name, how)
    found, said = run.latest()
    assert found.step == 1
    assert len(said) == 1
    assert "00000002 is damaged" in said[0]
    run.drop_after(1)
    assert run.steps() == [1]


def test_no_good_checkpoint(run: Run) -> None:
    with pytest.raises(DamagedError, match="has no checkpoint: the run was stopped before"):
        run.latest()
    damage(run.save(checkpoint(1)) / "state.json", "flip")
    with pytest.raises(DamagedError, match="no checkpoint that can be read"):
        run.latest()


def test_a_newer_format_is_refused(run: Run) -> None:
    run.card["format"] = FORMAT + 1
    run.write_card()
    with pytest.raises(UserError, match="written by a newer version of wgan"):
        Run.open(run.path)


def test_records_survive_a_cut_last_line_and_nothing_else(run: Run) -> None:
    for step in (1, 2, 3):
        run.log({"step": step, "critic_loss": 0.1 * step})
    run.flush()
    path = run.path / "records.jsonl"
    path.write_text(path.read_text() + '{"step": 4, "crit')
    assert [r["step"] for r in run.records()] == [1, 2, 3]
    run.cut_records(2)
    assert [r["step"] for r in run.records()] == [1, 2]
    path.write_text('{"step": 1}\n{"st\n{"step": 2}\n')
    with pytest.raises(DamagedError, match="line 2: not a record"):
        run.records()


def test_records_are_on_the_disk_before_the_checkpoint(run: Run) -> None:
    run.log({"step": 1})
    run.save(checkpoint(1))
    assert json.loads((run.path / "records.jsonl").read_text()) == {"step": 1}


def test_what_is_not_a_run(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UserError, match="no run directory at"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"not a run directory: it has no config\.yaml"):
        Run.open(tmp_path)
    (run.path / "card.json").write_text("{")
    with pytest.raises(DamagedError, match="is damaged"):
        Run.open(run.path)
    with pytest.raises(UserError, match="exists; choose another --out"):
        Run.create(run.path, {}, {})


def test_config_cannot_build_objects(run: Run) -> None:
    text = "a: !!python/object/apply:os.system ['touch hacked']"
    (run.path / "config.yaml").write_text(text)
    with pytest.raises(DamagedError, match=r"config\.yaml"):
        Run.open(run.path)


def test_two_writers_are_refused_and_a_dead_one_is_not(run: Run) -> None:
    script = f"from wgan.run import Run; Run.open({str(run.path)!r}).lock()"

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )

    assert "another process is training" in other().stderr
    run.close()
    assert other().returncode == 0
    run.lock()  # the other process is gone, its lock with it


def test_a_disk_that_cannot_be_written_stops_the_run_resumably(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.save(checkpoint(1))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailedError, match="No space left on device; make room"):
        run.save(checkpoint(2))
    monkeypatch.undo()
    assert run.latest()[0].step == 1
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["00000001"]


def test_what_a_kill_left_half_written_is_cleared(run: Run) -> None:
    run.save(checkpoint(1))
    (run.path / "checkpoints" / ".00000002.77").mkdir()
    run.drop_after(1)
    assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["00000001"]


def test_runs_are_numbered(tmp_path: Path) -> None:
    assert next_path(tmp_path, "digits-wgan").name == "0001-digits-wgan"
    (tmp_path / "0007-other").mkdir()
    (tmp_path / "mine").mkdir()
    assert next_path(tmp_path, "digits-wgan").name == "0008-digits-wgan"
