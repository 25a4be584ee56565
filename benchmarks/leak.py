"""Does a long run leak? 100,000 tiny steps, with all that goes on beside them.

    python -m benchmarks.leak [--steps 100000] [--samples 20]

Trains a network of a few hundred weights with records, TensorBoard, checkpoints, sheets and audits,
and writes down at equal intervals the resident memory, the objects that Python keeps, open files,
threads and the bytes of every part of the run directory. After the first fifth, in which pools and
caches fill, memory may grow by `SLACK` and nothing else may grow but the records, TensorBoard's
file and the sheets, which have `BYTES` a step. The report at the end must fit `REPORT_BYTES`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wgan.api import start
from wgan.session import Session, report

SLACK = 16 * 2**20
"""Bytes that memory may grow by after the first fifth of a run."""

OBJECTS = 5_000
"""Python objects that may come to be in that time."""

BYTES = {"records.jsonl": 500, "tensorboard": 200, "samples": 200}
"""Bytes a step that parts of a run directory may take."""

REPORT_BYTES = 8 * 2**20

TINY: Mapping[str, Any] = {"width": 8, "depth": 1, "batch_size": 8, "latent": 2, "n_critic": 1}


def now(path: Path, step: int, began: float) -> dict[str, float]:
    """What a run has and holds at this moment."""
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    sizes = {part: _bytes(path / part) for part in (*BYTES, "checkpoints")}
    return {
        "step": step,
        "seconds": time.monotonic() - began,
        "resident": resident,
        "objects": len(gc.get_objects()),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        **sizes,
    }


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def judge(seen: list[dict[str, float]], report_bytes: int) -> list[str]:
    """What grew beyond its bounds, in words."""
    settled = seen[len(seen) // 5 :]
    first, last = settled[0], settled[-1]
    found = []

    def bound(name: str, grown: float, most: float) -> None:
        if grown > most:
            found.append(f"{name} grew by {grown:,.0f}, and {most:,.0f} are allowed")

    bound("memory", last["resident"] - first["resident"], SLACK)
    bound("the number of objects", last["objects"] - first["objects"], OBJECTS)
    for name in ("files", "threads"):
        bound(f"the number of open {name}", last[name] - first[name], 0)
    bound("checkpoints", last["checkpoints"] - first["checkpoints"], 0.01 * first["checkpoints"])
    for part, most in BYTES.items():
        bound(part, last[part] - first[part], most * (last["step"] - first["step"]))
    bound("the report", report_bytes, REPORT_BYTES)
    return found


def run(steps: int, samples: int, folder: Path) -> tuple[list[dict[str, float]], int]:
    """Train; what was seen on the way, and the bytes of the report."""
    often = max(10, steps // 200)
    given = {**TINY, "steps": steps, "audit_every": often, "checkpoint_every": often}
    session, _ = start("gaussians8", given, folder / "run")
    assert isinstance(session, Session)  # there is one process
    began, every = time.monotonic(), max(1, steps // samples)
    seen = []
    with contextlib.closing(session):
        for record in session.records():
            step = int(str(record["step"]))
            if step % every == 0:
                seen.append(now(session.run.path, step, began))
                _show(seen[-1])
        session.finish()
        return seen, report([session.run]).stat().st_size


def _show(row: Mapping[str, float]) -> None:
    print(
        f"{row['step']:>8,.0f} {row['seconds']:>7.0f} s {row['resident'] / 2**20:>8.1f} MiB "
        f"{row['objects']:>9,.0f} objects {row['files']:>4.0f} files {row['threads']:>3.0f} threads"
        + "".join(f"  {part} {row[part] / 1e6:.2f} MB" for part in (*BYTES, "checkpoints")),
        file=sys.stderr,
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="leak-") as folder:
        seen, report_bytes = run(given.steps, given.samples, Path(folder))
    found = judge(seen, report_bytes)
    print(json.dumps({"last": seen[-1], "report_bytes": report_bytes, "found": found}))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
