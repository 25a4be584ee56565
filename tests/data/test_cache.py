from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wgan.data.cache import Meta, decoded_once
from wgan.errors import UserError

ROWS = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)


def build(meta: Meta) -> Iterator[np.ndarray[Any, Any]]:
    meta["about"] = "sixty numbers"
    yield ROWS[:7]
    yield ROWS[7:]


def never(meta: Meta) -> Iterator[np.ndarray[Any, Any]]:
    assert meta.get("wanted"), "it was there already"
    yield ROWS


def visible(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".tmp-" in path.name]


def test_rows_are_built_once_and_mapped(tmp_path: Path) -> None:
    for builder in (build, never):
        rows, meta = decoded_once(tmp_path / "deep" / "cache", "some", ["a", 1], builder)
        assert isinstance(rows, np.memmap)
        np.testing.assert_array_equal(rows, ROWS)
        assert rows.dtype == np.uint8
        assert not rows.flags.writeable
        assert meta == {"about": "sixty numbers"}
    assert len(visible(tmp_path / "deep" / "cache")) == 1


def test_other_settings_are_another_entry(tmp_path: Path) -> None:
    decoded_once(tmp_path, "some", ["a", 1], build)
    decoded_once(tmp_path, "some", ["a", 2], build)
    assert len(visible(tmp_path)) == 2


def test_no_rows_leave_nothing(tmp_path: Path) -> None:
    def nothing(meta: Meta) -> Iterator[np.ndarray[Any, Any]]:
        meta["bad"] = 3
        yield from ()

    assert decoded_once(tmp_path, "some", [], nothing) == (None, {"bad": 3})
    assert visible(tmp_path) == leftovers(tmp_path) == []


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails(meta: Meta) -> Iterator[np.ndarray[Any, Any]]:
        yield ROWS
        raise UserError("no good")

    with pytest.raises(UserError, match="no good"):
        decoded_once(tmp_path, "some", [], fails)
    assert visible(tmp_path) == leftovers(tmp_path) == []
    decoded_once(tmp_path, "some", [], build)


@pytest.mark.parametrize("damage", ["cut", "meta", "gone"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    decoded_once(tmp_path, "some", [], build)
    (entry,) = (tmp_path / name for name in visible(tmp_path))
    if damage == "cut":
        os.truncate(entry / "rows.npy", 100)
    elif damage == "meta":
        (entry / "meta.json").write_text('{"about": ')
    else:
        (entry / "rows.npy").unlink()
    rows, meta = decoded_once(tmp_path, "some", [], build)
    np.testing.assert_array_equal(rows, ROWS)
    assert meta["about"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the cache .*file/cache.*WGAN_CACHE"):
        decoded_once(tmp_path / "file" / "cache", "some", [], build)


SLOW = """
import sys, time
from pathlib import Path
import numpy as np
from wgan.data.cache import decoded_once

def build(meta):
    meta["about"] = "another process"
    for i in range(10):
        yield np.arange(6 * i, 6 * i + 6, dtype=np.uint8).reshape(1, 2, 3)
        Path(sys.argv[1], "started").touch()
        time.sleep(float(sys.argv[2]))

decoded_once(Path(sys.argv[1], "cache"), "some", [], build)
"""


def start_slow(folder: Path, pause_seconds: float) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(folder), str(pause_seconds)])
    deadline = time.monotonic() + 60
    while not (folder / "started").exists():
        assert process.poll() is None, "the other process failed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_kill_leaves_no_entry_and_its_leftovers_are_removed(tmp_path: Path) -> None:
    process = start_slow(tmp_path, 60)
    process.kill()
    process.wait()
    assert visible(tmp_path / "cache") == []
    assert len(leftovers(tmp_path / "cache")) == 1
    rows, meta = decoded_once(tmp_path / "cache", "some", [], build)
    np.testing.assert_array_equal(rows, ROWS)
    assert meta["about"] == "sixty numbers"
    assert leftovers(tmp_path / "cache") == []


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    process = start_slow(tmp_path, 0.02)
    rows, meta = decoded_once(tmp_path / "cache", "some", [], never)
    assert process.wait() == 0
    np.testing.assert_array_equal(rows, ROWS)
    assert meta["about"] == "another process"


def test_without_locks_the_first_to_finish_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", no_locks)

    def overtaken(meta: Meta) -> Iterator[np.ndarray[Any, Any]]:
        yield ROWS + 1
        decoded_once(tmp_path, "some", [], build)

    rows, _ = decoded_once(tmp_path, "some", [], overtaken)
    np.testing.assert_array_equal(rows, ROWS)
    assert leftovers(tmp_path) == []
