"""Can a run be lost? Kill it, stop it, damage it, starve it, and compare it with one left alone.

    python -m benchmarks.torture [--kills 200] [--operations 3] [--commands 3] [--only NAME ...]

A tiny run is interrupted again and again, resumed each time, and at the end compared to the bit
with one that was never interrupted: every tensor and every plain value of every checkpoint, every
record but for its times, every picture. `kills`: SIGKILL at random instants. `operations`: SIGKILL
at every N-th file operation, which walks through each instant that matters. `commands`: SIGKILL of
the real command. The others are one fault each; every one must end in one clear line and a run that
resumes.

The trainers write the numbers of their pictures in place of pictures, and no report, since drawing
takes most of their time; `commands` are whole. As root, on Linux, all faults are tried; elsewhere
those that need a mount say that they were left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

import wgan.data.arrays
from benchmarks.bench import (
    EVERY,
    PATIENCE,
    QUIET,
    TINY,
    Bench,
    LeftOutError,
    LostError,
    Trainer,
    at,
    beyond,
    draw_nothing,
    untimed,
)
from wgan.integrity import verify
from wgan.run import Run

# -- interruptions ---------------------------------------------------------------------------------


def kills(bench: Bench) -> str:
    """SIGKILL at random instants."""
    run, steps = bench.fresh("kills"), 10**9
    spans = [bench.start(run, 3).signal_after(bench.rng.uniform(0, 0.3), signal.SIGKILL)]
    for _ in range(bench.kills - 1):
        spans.append(
            bench.start(run, steps).signal_after(bench.rng.uniform(0.0, 1.2), signal.SIGKILL)
        )
    if (strange := set(spans) - {-signal.SIGKILL}) and strange != {0}:
        raise LostError(f"statuses {strange}")
    end = beyond(run)
    bench.to_the_end(run, end)
    bench.compare(run, end)
    return f"{len(spans)} times, resumed to step {end}"


def operations(bench: Bench) -> str:
    """SIGKILL at every file operation in turn, of a run from its beginning and of a resumed one."""
    begun, steps, done = bench.fresh("begun"), 23, []
    bench.to_the_end(begun, 13)
    newest = begun / "checkpoints" / f"{at(begun):08d}" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])  # so that something is removed, too
    for origin in (None, begun):
        n = 1
        while True:
            run = bench.fresh("operations")
            if origin is not None:
                shutil.copytree(origin, run)
            trainer = bench.start(run, steps, lambda n=n, run=run: _kill_at_operation(n, run))  # type: ignore[misc]
            status = trainer.wait()
            if status == 0:
                break
            if status != -signal.SIGKILL:
                raise LostError(f"status {status}, killed at operation {n}: {trainer.said()}")
            bench.to_the_end(run, steps)
            bench.compare(run, steps, replay=n % 7 == 0)
            n += bench.operations
        done.append(n - 1)
    return f"at every {bench.operations}. of {done[0]} operations, and of {done[1]} of a resumption"


def _kill_at_operation(number: int, place: Path) -> None:
    """This process dies at its n-th operation on files of a run, or of what is to become one."""
    names = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
    count, under = 0, (str(place), str(place.with_name(f".{place.name}.")))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in names and str(arguments[0]).startswith(under):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def commands(bench: Bench) -> str:
    """SIGKILL of the real command."""
    run, end = bench.fresh("commands"), 0
    for i in range(bench.commands):
        arguments = ["train", *bench.data, "--out", str(run), *TINY]
        if (run / "card.json").is_file():
            arguments = ["resume", str(run)]
        process = subprocess.Popen(
            [sys.executable, "-m", "wgan", *arguments, "--steps", "1000000000", *QUIET],
            stderr=subprocess.PIPE,
        )
        goal = at(run) + EVERY * (1 + i % 2)
        until = time.monotonic() + PATIENCE
        while at(run) < goal and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(bench.rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
    end = beyond(run)
    bench.to_the_end(run, end)
    bench.compare(run, end, sheets=False)  # drawn ones, and not
    return f"{bench.commands} times, resumed to step {end}"


def stops(bench: Bench) -> str:
    """SIGTERM and SIGINT at random instants."""
    run, statuses = bench.fresh("stops"), []
    count = max(2, bench.kills // 5)
    for i in range(count):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        trainer = bench.start(run, 10**9, _count_signals)
        began = time.monotonic()
        while not trainer.said() and time.monotonic() - began < PATIENCE:
            time.sleep(0.001)  # until it listens
        trainer.log.write_text("")
        status = trainer.signal_after(bench.rng.uniform(0.0, 1.5), number)
        if status != 128 + number:
            raise LostError(f"status {status} after signal {number}: {trainer.said()!r}")
        said = trainer.said()
        if said.count("\n") != 1 or not ("go on with: wgan resume" in said or "stopped" in said):
            raise LostError(f"expected one line, got: {said!r}")
        statuses.append("saved" in said)
    end = beyond(run)
    bench.to_the_end(run, end)
    bench.compare(run, end)
    return f"{count} times, {sum(statuses)} of them with a checkpoint at once, to step {end}"


def _count_signals() -> None:
    """As the command does first of all, so that none comes too early; then say so."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.write(2, b"ready\n")


# -- a disk that is full or closed -----------------------------------------------------------------


@contextmanager
def mounted(path: Path, size: str) -> Iterator[Path]:
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        path.rmdir()
        raise LeftOutError("no right to mount a small disk")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
        path.rmdir()


def full_disk(bench: Bench) -> str:
    """A disk that is full, at several fill levels."""
    lines = []
    with mounted(bench.folder / "small", "4m") as disk:
        run, ballast = disk / "run", disk / "ballast"
        for level in (0, 30) if bench.quick else (0, 2, 30, 120, 200, 260):  # KiB that are left
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            ballast.write_bytes(b"\0" * max(0, free - 1024 * level))
            trainer = bench.start(run, 10**9)
            status = trainer.wait()
            lines.append(trainer.line("No space left on device"))
            if status not in (1, 2):
                raise LostError(f"status {status}")
            ballast.unlink()
        end = beyond(run)
        bench.to_the_end(run, end)
        bench.compare(run, end)
    return f"{len(lines)} times: {lines[-1]}"


def file_limit(bench: Bench) -> str:
    """A limit on the size of files."""
    run = bench.fresh("limit")
    for size in (20_000,) if bench.quick else (2_000, 20_000, 4_000):
        trainer = bench.start(
            run,
            10**9,
            lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),  # type: ignore[misc]
        )
        if trainer.wait() not in (1, 2):
            raise LostError(f"it went on: {trainer.said()}")
        line = trainer.line("File too large")
        bench.to_the_end(run, at(run) + EVERY) if size < 20_000 else None
    end = beyond(run)
    bench.to_the_end(run, end)
    bench.compare(run, end)
    return line


def read_only(bench: Bench) -> str:
    """A directory that may not be written, from the start and from midway on."""
    run = bench.fresh("closed")
    with mounted(bench.folder / "other", "8m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        trainer = bench.start(disk / "run", 3)
        trainer.wait()
        trainer.line("cannot create the run directory", "Read-only file system")
    bench.to_the_end(run, 3)
    place = run / "checkpoints"
    trainer = bench.start(run, 10**9)
    _wait_for(lambda: at(run) > EVERY, trainer)
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        if (status := trainer.wait()) != 1:
            raise LostError(f"status {status}")
        line = trainer.line("Read-only file system; mend that, then `wgan resume")
        again = bench.start(run, 10**9)
        again.wait()
        again.line("Read-only file system")
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
    end = beyond(run)
    bench.to_the_end(run, end)
    bench.compare(run, end)
    return line


def _wait_for(ready: Callable[[], bool], trainer: Trainer) -> None:
    until = time.monotonic() + PATIENCE
    while not ready():
        if trainer.done() is not None or time.monotonic() > until:
            raise LostError(f"the trainer stopped early: {trainer.said()}")
        time.sleep(0.005)


# -- what was saved, damaged -----------------------------------------------------------------------


def damage(bench: Bench) -> str:
    """The newest checkpoint truncated or with one bit flipped, in each of its files."""
    run, end, count = bench.fresh("damage"), 3 * EVERY, 0
    bench.to_the_end(run, end)
    for name in ("tensors.safetensors", "state.json", "checksums.json"):
        for how in ("flip", "truncate", "remove")[: 1 if bench.quick else 3]:
            path = run / "checkpoints" / f"{at(run):08d}" / name
            content = bytearray(path.read_bytes())
            if how == "flip":
                content[bench.rng.randrange(len(content))] ^= 1 << bench.rng.randrange(8)
            elif how == "truncate":
                del content[bench.rng.randrange(len(content)) :]
            path.write_bytes(content)
            if how == "remove":
                path.unlink()
            if verify(run).good:
                raise LostError(f"verify finds nothing wrong after {how} of {name}")
            line = bench.to_the_end(run, end).line("is damaged")
            bench.compare(run, end)
            count += 1
    return f"{count} times: {line}"


# -- time and company ------------------------------------------------------------------------------


def clock(bench: Bench) -> str:
    """A clock that jumps by days; deadlines hold all the same."""
    run = bench.fresh("clock")
    trainer = bench.start(run, 33, lambda: _jumping_clock(bench.rng))
    if trainer.wait() != 0:
        raise LostError(trainer.said())
    bench.compare(run, 33)
    bounded = bench.fresh("bounded")

    def train_for_two_seconds() -> None:
        _jumping_clock(bench.rng)
        tiny: dict[str, Any] = {"width": 8, "depth": 1, "batch_size": 8, "latent": 2}
        wgan.train("gaussians8", out=bounded, seconds=2.0, **tiny)
        os._exit(0)

    began = time.monotonic()
    trainer = Trainer.start([], bench.folder / "log.txt", train_for_two_seconds)
    if trainer.wait() != 0 or not (run / "report.html").is_file():
        raise LostError(trainer.said())
    took = time.monotonic() - began
    if not 1.0 < took < 30.0:
        raise LostError(f"2 s took {took:.1f} s")
    return f"`seconds=2` took {took:.1f} s, machine load included"


def _jumping_clock(rng: random.Random) -> None:
    real = time.time
    time.time = lambda: real() + rng.uniform(-1e6, 1e6)


def two_trainers(bench: Bench) -> str:
    """A second trainer is refused; the lock of a dead one is taken over."""
    run = bench.fresh("two")
    bench.to_the_end(run, 3)
    first = bench.start(run, 10**9)
    _wait_for(lambda: at(run) > EVERY, first)
    second = Trainer.start(
        ["resume", str(run), "--steps", "9999", *QUIET], bench.folder / "second.txt"
    )
    if second.wait() != 2:
        raise LostError("the second was let in")
    line = second.line("another process is training in")
    if first.done() is not None:
        raise LostError("the first stopped")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    if not (run / ".lock").exists():
        raise LostError("there is no stale lock to take over")
    end = beyond(run)
    bench.to_the_end(run, end)
    bench.compare(run, end)
    return line


# -- data ------------------------------------------------------------------------------------------


def data_changes(bench: Bench) -> str:
    """A data file is written to, cut short, replaced or removed while a run reads it."""
    path, kept = bench.folder / "pictures.npy", bench.folder / "kept.npy"
    pictures = np.random.default_rng(0).integers(0, 256, (400, 8, 8), dtype=np.uint8)
    np.save(kept, pictures)
    shutil.copy(kept, path)
    on = Bench(bench.folder, bench.rng, 0, 0, 0, [str(path), "--network", "mlp"])
    lines = []
    cases = list(product(("file", "memory"), ("write", "truncate", "replace", "remove")))
    for held, what in [cases[1], cases[7]] if bench.quick else cases:
        run = on.fresh(f"data-{held}-{what}")
        trainer = on.start(run, 10**9, lambda held=held: _keep_in_file(held == "file"))  # type: ignore[misc]
        _wait_for(lambda run=run: at(run) >= EVERY, trainer)  # type: ignore[misc]
        if what == "write":
            with path.open("r+b") as file:
                file.seek(-9, os.SEEK_END)
                file.write(b"\1\2\3")
        elif what == "truncate":
            os.truncate(path, 500)
        elif what == "replace":
            np.save(bench.folder / "new.npy", pictures[::-1])
            (bench.folder / "new.npy").replace(path)
        else:
            path.unlink()
        if held == "file" and what in ("write", "truncate"):
            if (status := trainer.wait()) != 1:
                raise LostError(f"status {status} after {what}: {trainer.said()}")
            lines.append(trainer.line("while it was in use", "wgan resume"))
        else:  # it goes on with what it had
            step = at(run)
            _wait_for(lambda run=run, step=step: at(run) > step + EVERY, trainer)  # type: ignore[misc]
            os.kill(trainer.pid, signal.SIGKILL)
            trainer.wait()
        again = on.start(run, 10**9)
        if again.wait() != 2:
            raise LostError(f"resumed on other data after {what}")
        lines.append(again.line())
        shutil.copy(kept, path)
        end = beyond(run)
        on.to_the_end(run, end)
        on.compare(run, end)
    return lines[0]


def _keep_in_file(yes: bool) -> None:
    if yes:
        vars(wgan.data.arrays).update(IN_MEMORY_BYTES=0)


def cache(bench: Bench) -> str:
    """SIGKILL while pictures are decoded into the cache, at file operations in turn."""
    from PIL import Image

    from wgan.data import DataOptions, open_source

    photos, place = bench.folder / "photos", bench.fresh("cache")
    photos.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(
            photos / f"{i:02d}.png"
        )
    options = DataOptions(size=8, cache=place)

    def fill(n: int) -> None:
        _kill_at_operation(n, place)
        open_source(photos, options)
        os._exit(0)

    n, done = 1, 0
    while True:
        trainer = Trainer.start([], bench.folder / "log.txt", lambda n=n: fill(n))  # type: ignore[misc]
        if (status := trainer.wait()) == 0:
            break
        if status != -signal.SIGKILL:
            raise LostError(f"status {status}: {trainer.said()}")
        n, done = n + (4 if bench.quick else 1), done + 1
    mark = open_source(photos, options).fingerprint
    shutil.rmtree(place)
    if mark != open_source(photos, options).fingerprint:
        raise LostError("the cache differs")
    return f"{done} times"


def divergence(bench: Bench) -> str:
    """A run that diverges and rolls back, killed at random instants all the while."""
    hot = ["--lr", "3e17", "--on-divergence", "rollback", "--max-rollbacks", "60"]
    on = Bench(bench.folder, bench.rng, 0, 0, 0, ["gaussians8", *hot])
    run, end, count = on.fresh("hot"), 23, 0
    trainer = on.start(run, end)
    for _ in range(max(1, bench.kills // 10)):
        if trainer.signal_after(bench.rng.uniform(0.1, 1.0), signal.SIGKILL) == 0:
            break
        count += 1
        trainer = on.start(run, end)
    else:
        trainer.wait()
    on.to_the_end(run, end + 1)
    records = Run.open(run).records()
    whole = on.fresh("hot-whole")
    on.to_the_end(whole, end)
    on.to_the_end(whole, end + 1)
    if untimed(Run.open(run)) != untimed(Run.open(whole)):
        raise LostError("the records differ")
    rollbacks = records[-1].get("rollbacks")
    if not rollbacks:
        raise LostError("it never rolled back")
    if not (found := verify(run)).good:
        raise LostError(f"verify finds: {found.findings}")
    return f"{rollbacks} rollbacks, {count} kills, {end + 1} steps"


FAULTS: tuple[Callable[[Bench], str], ...] = (
    kills,
    operations,
    commands,
    stops,
    full_disk,
    file_limit,
    read_only,
    damage,
    clock,
    two_trainers,
    data_changes,
    cache,
    divergence,
)


def main() -> int:
    names = [fault.__name__ for fault in FAULTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--operations", type=int, default=3, metavar="N", help="every N-th")
    parser.add_argument("--commands", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="each fault in fewer forms")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    draw_nothing()
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # its first one imports a lot
    results = {}
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        os.environ["WGAN_CACHE"] = str(Path(folder) / "cache")
        for fault in FAULTS:
            if fault.__name__ not in given.only:
                continue
            bench = Bench(
                Path(folder),
                random.Random(given.seed),
                given.kills,
                given.operations,
                given.commands,
                ["gaussians8"],
                given.quick,
            )
            began = time.monotonic()
            try:
                outcome = ("survived", fault(bench))
            except LeftOutError as reason:
                outcome = ("left out", str(reason))
            except LostError as reason:
                outcome = ("LOST", str(reason))
            results[fault.__name__] = outcome
            took = time.monotonic() - began
            print(
                f"{fault.__name__:<14} {outcome[0]:<9} {took:>6.1f} s  {outcome[1]}",
                file=sys.stderr if given.json else sys.stdout,
                flush=True,
            )
    if given.json:
        print(json.dumps(results))
    return int(any(outcome == "LOST" for outcome, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main())
