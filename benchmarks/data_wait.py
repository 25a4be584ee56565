"""Does reading ever hold up training? Steps a second, and the share of a step that waits for data.

    python benchmarks/data_wait.py [--steps 30]

Sources of every kind are made in a temporary folder: a synthetic one, arrays in memory and on disk,
HDF5, a table, and a folder of pictures from its cache. Prints one line for each: median step, the
share of it spent waiting for a batch, and this process's peak memory so far.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from wgan.build import build_state
from wgan.config import resolve
from wgan.data import DataOptions, Source, open_source
from wgan.training import train


def synthetic(folder: Path) -> Source:
    return open_source("gaussians8")


def digits(folder: Path) -> Source:
    return open_source("digits")


def array_on_disk(folder: Path) -> Source:
    path = folder / "pictures.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.integers(0, 256, (20_000, 28, 28), dtype=np.uint8))
    return open_source(path)


def hdf5(folder: Path) -> Source:
    import h5py

    path = folder / "volumes.h5"
    with h5py.File(path, "w") as file:
        rng = np.random.default_rng(0)
        file.create_dataset("showers", data=rng.gamma(0.5, size=(2_000, 24, 24, 25)), chunks=True)
    return open_source(path)


def table(folder: Path) -> Source:
    path = folder / "table.csv"
    rows = np.random.default_rng(0).normal(size=(50_000, 10))
    header = ",".join(f"column{i}" for i in range(10))
    np.savetxt(path, rows, delimiter=",", header=header, comments="")
    return open_source(path)


def pictures(folder: Path) -> Source:
    photos = folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for i in range(1_000):
        pixels = rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{i}.jpg")
    return open_source(photos, DataOptions(size=64, cache=folder / "cache"))


WORK: Mapping[str, tuple[Callable[[Path], Source], dict[str, Any]]] = {
    "synthetic, mlp": (synthetic, {}),
    "digits, mlp": (digits, {}),
    "28x28 .npy, dcgan": (array_on_disk, {}),
    "HDF5 volumes, mlp": (hdf5, {"network": "mlp"}),
    "table of 10 columns, mlp": (table, {}),
    "64x64 pictures, cached, dcgan": (pictures, {"width": 16}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=30)
    steps = parser.parse_args().steps
    print(f"{'work':<30} {'ms a step':>10} {'waiting':>8} {'peak MB':>8}")
    for name, (make, settings) in WORK.items():
        with tempfile.TemporaryDirectory() as folder:
            source = make(Path(folder))
            config, _ = resolve({**settings, "recipe": "wgan-gp"}, source, source.name)
            training, _ = source.split(config.holdout, config.seed)
            state = build_state(config, training)
            records = list(train(state, training, until=steps + 3))[3:]
        seconds = [float(r["step_seconds"] or 0) for r in records]
        waiting = [float(r["data_seconds"] or 0) for r in records]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        share = sum(waiting) / sum(seconds)
        print(f"{name:<30} {1000 * median(seconds):>10.1f} {share:>8.1%} {peak:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
