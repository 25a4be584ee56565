"""A bench on which a run is put, interrupted, and compared with one that was left alone.

The trainers are forked from this process, so that torch is imported once.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - imported once, before forking

import wgan.cli.app
import wgan.pictures
import wgan.session
from wgan.cli import main as command
from wgan.integrity import verify
from wgan.reports.style import write_whole
from wgan.run import Run

EVERY = 5
TINY = [
    *("--width", "8", "--depth", "1", "--batch-size", "8", "--n-critic", "1", "--latent", "2"),
    *("--checkpoint-every", str(EVERY), "--sample-every", "20", "--audit-every", "13"),
]
QUIET = ["--judge", "0", "--quiet"]
PATIENCE = 120.0


class LostError(AssertionError):
    """A run did not come through."""


class LeftOutError(Exception):
    """What is missing on this machine."""


@dataclass
class Trainer:
    """A forked process that runs one command of `wgan`."""

    pid: int
    log: Path

    @classmethod
    def start(
        cls, arguments: list[str], log: Path, before: Callable[[], object] = lambda: None
    ) -> Trainer:
        log.unlink(missing_ok=True)
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(out, 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                sys.argv = ["wgan", *arguments]
                before()
                status = command()
            except BaseException:  # to the log, for whoever asks what it said
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        return cls(pid, log)

    def done(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return None if pid == 0 else os.waitstatus_to_exitcode(status)

    def wait(self) -> int:
        began = time.monotonic()
        while (status := self.done()) is None:
            if time.monotonic() - began > PATIENCE:
                os.kill(self.pid, signal.SIGKILL)
                raise LostError(f"no end after {PATIENCE:.0f} s; it said: {self.said()}")
            time.sleep(0.005)
        return status

    def signal_after(self, seconds: float, number: int) -> int:
        """Send a signal at an instant, if it still runs; the exit status."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (status := self.done()) is not None:
                return status
            time.sleep(min(0.002, max(0.0, until - time.monotonic())))
        os.kill(self.pid, number)
        return self.wait()

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def line(self, *parts: str) -> str:
        """Its one line, which must have these parts."""
        said = self.said()
        if said.count("\n") != 1 or not said.startswith("wgan: "):
            raise LostError(f"expected one line, got: {said!r}")
        for part in parts:
            if part not in said:
                raise LostError(f"expected {part!r} in: {said!r}")
        return said.strip()


@dataclass
class Bench:
    """Where trainers work, and what a run left alone came to."""

    folder: Path
    rng: random.Random
    kills: int
    operations: int
    commands: int
    data: list[str]
    quick: bool = False

    def fresh(self, name: str) -> Path:
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    def start(self, run: Path, steps: int, before: Callable[[], object] = lambda: None) -> Trainer:
        """Begin the run, or go on with it."""
        if (run / "card.json").is_file():
            arguments = ["resume", str(run), "--steps", str(steps), *QUIET]
        else:
            arguments = ["train", *self.data, "--out", str(run), "--steps", str(steps)]
            arguments += [*TINY, *QUIET]
        return Trainer.start(arguments, self.folder / "log.txt", before)

    def to_the_end(self, run: Path, steps: int) -> Trainer:
        trainer = self.start(run, steps)
        if (status := trainer.wait()) != 0:
            raise LostError(f"resume ended with status {status}: {trainer.said()}")
        return trainer

    def compare(self, run: Path, steps: int, *, sheets: bool = True, replay: bool = True) -> None:
        """Raise unless a run equals one of so many steps that was never interrupted."""
        whole = self.folder / f"whole-{steps}-{'-'.join(self.data).replace('/', '_')}"
        if not whole.exists():
            self.to_the_end(whole, steps)
        one, other = Run.open(run), Run.open(whole)
        if one.steps() != other.steps() or one.best_step() != other.best_step():
            raise LostError(f"checkpoints {one.steps()} where {other.steps()} were to be")
        for step in one.steps():
            ours, theirs = one.load(step), other.load(step)
            if ours.plain != theirs.plain or ours.tensors.keys() != theirs.tensors.keys():
                raise LostError(f"checkpoint {step} differs in its plain values")
            for name, tensor in ours.tensors.items():
                if not torch.equal(tensor, theirs.tensors[name]):
                    raise LostError(f"checkpoint {step} differs in {name}")
        if untimed(one) != untimed(other):
            raise LostError("the records differ")
        for sheet in (whole / "samples").iterdir():  # a stop leaves more of them
            if sheets and (run / "samples" / sheet.name).read_bytes() != sheet.read_bytes():
                raise LostError(f"samples/{sheet.name} differs")
        left = [p for p in run.rglob(".*") if p.name != ".lock"]
        left += list(run.parent.glob(f".{run.name}.*"))
        if left:
            raise LostError(f"left behind: {left}")
        if replay and not (found := verify(run)).good:
            raise LostError(f"verify finds: {found.findings}")


def untimed(run: Run) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if not name.endswith("_seconds")}
        for record in run.records()
    ]


def at(run: Path) -> int:
    """The step of the newest checkpoint."""
    return max(Run.open(run).steps(), default=0) if (run / "card.json").is_file() else 0


def beyond(run: Path) -> int:
    """Where a run is to end that has come so far."""
    return -(-(at(run) + EVERY) // 20) * 20 + 3


def draw_nothing() -> None:
    def sheet(samples: Any, codec: Any, *, path: Path, real: Any = None) -> None:
        write_whole(path, np.ascontiguousarray(samples).tobytes())

    def report(path: Path, inputs: Any) -> None:
        write_whole(path, b"no report\n")

    for module, name, function in (
        (wgan.pictures, "sample_sheet", sheet),
        (wgan.session, "write_report", report),
    ):
        assert hasattr(module, name)
        setattr(module, name, function)
