import contextlib
import hashlib
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
    (line,) = said
    assert "00000002 is damaged" in line
    assert line.endswith("; that of step 1 is used instead")
    run.drop_after(1)
    assert run.steps() == [1]


def test_untrained_networks_are_not_used_without_a_word(run: Run) -> None:
    run.save(checkpoint(0))
    damage(run.save(checkpoint(200)) / "tensors.safetensors", "flip")
    (line,) = run.latest()[1]
    assert line.endswith("; that of step 0, from before the first step, is used instead")


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


def test_a_run_is_created_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot create the run directory .*: No space left"):
        Run.create(tmp_path / "run", {}, {})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    script = (
        "import os, signal; from pathlib import Path; from wgan import run;"
        "run._sync = lambda folder: os.kill(os.getpid(), signal.SIGKILL);"
        f"run.Run.create(Path({str(tmp_path / 'run')!r}), {{}}, {{}})"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert [p.name.rsplit(".", 1)[0] for p in tmp_path.iterdir()] == [".run"]
    Run.create(tmp_path / "run", {}, {}).close()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_no_half_file_stays_on_a_full_disk(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(p.name for p in run.path.iterdir())
    monkeypatch.setattr(os, "fsync", full)
    for write in (run.write_card, run.write_config, lambda: run.save_json("a.json", {})):
        with pytest.raises(RunFailedError, match="No space left on device; make room"):
            write()
    assert sorted(p.name for p in run.path.iterdir()) == before


def test_a_checkpoint_loses_its_name_before_its_files(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(3):
        run.save(checkpoint(step))

    def killed(path: Path, **_: object) -> None:
        if Path(path).exists():
            raise KeyboardInterrupt

    monkeypatch.setattr("wgan.run.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        run.drop_after(1)
    monkeypatch.undo()
    assert run.steps() == [0, 1]
    run.drop_after(1)
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == ["00000000", "00000001"]


def test_a_checkpoint_between_regular_ones_is_kept_while_it_is_the_last(run: Run) -> None:
    run.config["checkpoint_every"] = 10
    for step in (0, 10, 13, 17):
        run.save(checkpoint(step))
    assert run.steps() == [0, 10, 17]
    for step in (20, 30):
        run.save(checkpoint(step))
    assert run.steps() == [10, 20, 30]


def test_the_lock_brings_what_others_have_written(run: Run) -> None:
    late = Run.open(run.path)
    run.card["step"] = 7
    run.write_card()
    with pytest.raises(UserError, match="another process is training"), run.quiet():
        pass
    run.close()
    late.lock()
    assert late.card["step"] == 7
    late.close()
    with late.quiet(), Run.open(run.path).quiet():
        pass


def test_records_go_on_without_those_that_are_damaged_and_say_so(run: Run) -> None:
    path = run.path / "records.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe\n{"step": 3}\n{"step": 4}\n\0\0\0')
    (line,) = run.cut_records(3)
    assert "lacks some of the records up to step 3" in line
    assert [r["step"] for r in run.records()] == [1, 3]
    path.write_bytes(b'{"step": 1}\n{"step": 2}\nnonsense\n{"step": 3}\n')
    assert run.cut_records(2) == []
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_checkpoints_vouch_for_the_records_before_them(run: Run) -> None:
    for step in (1, 2):
        run.log({"step": step, "loss": 0.5})
        run.save(checkpoint(step))
    assert run.checked_records(1) is None
    assert run.checked_records(2) is None
    path = run.path / "records.jsonl"
    path.write_text(path.read_text().replace('"step": 2, "loss": 0.5', '"step": 2, "loss": 0.6'))
    assert run.checked_records(1) is None
    assert "fails the checksum" in str(run.checked_records(2))
    path.write_text(path.read_text()[:10])
    assert "is cut short" in str(run.checked_records(1))


STRANGE = {
    "not of its step": (b'{"format": 1, "step": 6}', "state.json is not of step 5"),
    "a list": (b"[]", "state.json is not of step 5"),
    "deep": (b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_stranger_whose_checksums_are_right_is_refused_in_a_line(run: Run, name: str) -> None:
    content, expected = STRANGE[name]
    place = run.save(checkpoint(5))
    (place / "state.json").write_bytes(content)
    sums = json.loads((place / "checksums.json").read_text())
    sums["state.json"] = hashlib.sha256(content).hexdigest()
    (place / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(DamagedError, match=expected):
        run.load(5)


def test_tensors_that_claim_terabytes_are_refused_in_a_line(run: Run) -> None:
    place = run.save(checkpoint(5))
    header = b'{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    content = len(header).to_bytes(8, "little") + header
    (place / "tensors.safetensors").write_bytes(content)
    sums = json.loads((place / "checksums.json").read_text())
    sums["tensors.safetensors"] = hashlib.sha256(content).hexdigest()
    (place / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(DamagedError, match="00000005 is damaged"):
        run.load(5)


def test_pipes_and_yaml_bombs_are_no_runs(run: Run) -> None:
    (run.path / "records.jsonl").unlink(missing_ok=True)
    os.mkfifo(run.path / "records.jsonl")
    with pytest.raises(DamagedError, match="is not an ordinary file"):
        run.records()
    bomb = "a0: &a0 [x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    (run.path / "config.yaml").write_text(bomb)
    with pytest.raises(DamagedError, match="unfolds to more than 100,000 values"):
        Run.open(run.path)
