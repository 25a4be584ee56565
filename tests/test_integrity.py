"""`wgan verify`: a good run is good, and each kind of damage is found and named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wgan
from wgan.cli import main
from wgan.errors import UserError
from wgan.run import Run

TINY: dict[str, Any] = {"width": 8, "depth": 1, "batch_size": 8, "n_critic": 1, "latent": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "run"
    wgan.train("gaussians8", out=path, steps=9, checkpoint_every=3, **TINY)
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def contents(path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_a_good_run_is_good_and_left_as_it_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    found = wgan.verify(run)
    assert found.good
    assert found.skipped == ()
    said = "\n".join(found.checked)
    assert "checkpoints of 3 steps: 3, 6, 9" in said
    assert "records of 9 steps" in said
    assert "steps 7 to 9, made again from the checkpoint of step 6" in said
    assert "the checkpoint of step 9, made again: equal to the bit" in said
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out.endswith("is good\n")
    assert contents(run) == before


def test_a_run_that_was_killed_is_checked_from_its_last_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    records = wgan.iterate("gaussians8", out=run, steps=9, checkpoint_every=3, **TINY)
    for record in records:
        if record["step"] == 7:
            break
    shutil.copytree(run, tmp_path / "killed")
    records.close()  # type: ignore[attr-defined]
    killed = Run.open(tmp_path / "killed")
    assert killed.steps() == [0, 3, 6]
    (killed.path / "records.jsonl").write_bytes((run / "records.jsonl").read_bytes())
    found = wgan.verify(killed.path)
    assert found.good, found.findings
    assert "step 7, made again from the checkpoint of step 6: as recorded" in found.checked[-1]


def _edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new, 1))

    return edit


def _flip(name: str) -> Callable[[Path], None]:
    def flip(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[len(content) // 2] ^= 4
        (run / name).write_bytes(content)

    return flip


def _without_a_record(run: Path) -> None:
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    (run / "records.jsonl").write_text("".join(lines[:4] + lines[5:]))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights": (_flip("checkpoints/00000006/tensors.safetensors"), "00000006 is damaged: tensors"),
    "state": (_flip("checkpoints/00000009/state.json"), "00000009 is damaged: state.json fails"),
    "config": (lambda run: (run / "config.yaml").write_text("a: [1"), "config.yaml"),
    "card": (lambda run: (run / "card.json").write_text("[]"), "card.json: it is not a mapping"),
    "a record": (_edit("records.jsonl", '"step": 5,', '"step": 5, "more": 1,'), "fails the checks"),
    "no record": (_without_a_record, "has step 6 where step 5 should be"),
    "half a line": (_edit("records.jsonl", '{"step": 2', '"step": 2'), "line 2: not a record"),
    "cut records": (
        lambda run: (run / "records.jsonl").write_text('{"step": 1}\n'),
        "ends where step 2 should be",
    ),
    "the best": (
        lambda run: (run / "checkpoints/best.json").write_text('{"step": 4}'),
        "the best checkpoint, of step 4, is not there",
    ),
    "no report": (lambda run: (run / "report.html").unlink(), "report.html is not there"),
    "plane": (
        lambda run: (run / "plane.safetensors").write_bytes(b"no"),
        "plane.safetensors is damaged",
    ),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints"), "there is no checkpoint"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harm, expected = DAMAGE[name]
    harm(run)
    assert main(["verify", str(run), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["good"]
    assert any(expected in line for line in found["findings"]), found["findings"]
    assert all("\n" not in line for line in found["findings"])


def test_numbers_that_do_not_come_out_again_are_found(run: Path) -> None:
    """A record altered together with its checksum: only training again can tell."""
    import hashlib

    _edit("records.jsonl", '"step": 8, "critic_loss": ', '"step": 8, "critic_loss": 1')(run)
    content = (run / "records.jsonl").read_bytes()
    sums = run / "checkpoints" / "00000009" / "checksums.json"
    stated = json.loads(sums.read_text())
    stated["records.jsonl"] = [len(content), hashlib.sha256(content).hexdigest()]
    sums.write_text(json.dumps(stated))
    (line,) = wgan.verify(run).findings
    assert line == (
        "step 8, made again from the checkpoint of step 6, differs from its record in critic_loss"
    )


def test_data_that_is_not_there_is_said_and_the_rest_checked(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    wgan.train(data, out=tmp_path / "run", steps=2, **TINY)
    found = wgan.verify(tmp_path / "run")
    assert found.good
    assert found.skipped == ("nothing is trained: the data was in memory; give it again",)
    assert "made again" in wgan.verify(tmp_path / "run", data=data).checked[-1]
    other = wgan.verify(tmp_path / "run", data=data + 1)
    assert other.good
    assert "the data has changed" in other.skipped[0]

    np.save(tmp_path / "a.npy", data)
    wgan.train(str(tmp_path / "a.npy"), out=tmp_path / "file", steps=2, **TINY)
    (tmp_path / "a.npy").rename(tmp_path / "b.npy")
    assert "no file or folder" in wgan.verify(tmp_path / "file").skipped[0]
    assert main(["verify", str(tmp_path / "file"), "--data", str(tmp_path / "b.npy")]) == 0


def test_little_time_is_said(run: Path) -> None:
    found = wgan.verify(run, seconds=1e-9)
    assert found.good
    assert found.skipped == ("steps 8 to 9: more than 1e-09 s of training",)


def test_a_run_in_training_is_not_looked_at(run: Path) -> None:
    trainer = Run.open(run)
    trainer.lock()
    with pytest.raises(UserError, match="another process is training in"):
        wgan.verify(run)
    trainer.close()
    with pytest.raises(UserError, match="no run directory"):
        wgan.verify(run / "nothing")


def test_a_gap_after_the_last_good_checkpoint_bounds_what_is_trained_again(run: Path) -> None:
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    (run / "records.jsonl").write_text("".join(lines[:7] + lines[8:]))
    found = wgan.verify(run)
    assert found.findings[0] == "records.jsonl has step 9 where step 8 should be"
    assert "step 7, made again from the checkpoint of step 6" in found.checked[-1]
