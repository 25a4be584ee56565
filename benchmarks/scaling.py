"""How does the time of a step grow with batch, width, size of pictures and size of the data?

    python -m benchmarks.scaling [--seconds 2] [--quick] [--out docs/images/scaling.png]

Each quantity is doubled by itself from a base, and the processor time of ordinary steps is measured
(the median of as many as `--seconds` allow, two at least). A grey line shows what the arithmetic
does: in proportion to the batch and to the pixels, with the square of the width, and not at all
with the size of the data. Prints for each point by how much the time grew since the point before,
and by how much the arithmetic did.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from wgan.build import build_state
from wgan.config import resolve
from wgan.data import Source, open_source
from wgan.reports.style import REAL, SERIES, png, tidy, write_whole
from wgan.training import train


class Line(NamedTuple):
    """A quantity that grows by itself.

    Attributes:
        label: For the axis.
        values: What it is given.
        power: Of it in the arithmetic of a step.
    """

    label: str
    values: tuple[int, ...]
    power: float


LINES: Mapping[str, Line] = {
    "batch": Line("batch (MLP 128)", (64, 128, 256, 512, 1024), 1),
    "width": Line("width (MLP, batch 256)", (128, 256, 512, 1024), 2),
    "size": Line("pixels on a side (DCGAN, 16 filters)", (16, 32, 64), 2),
    "rows": Line("rows of data (MLP 128)", (1_000, 10_000, 100_000, 1_000_000), 0),
}


def work(name: str, value: int) -> tuple[Source, dict[str, Any]]:
    """The data and the settings of a point."""
    rng = np.random.default_rng(0)
    given: dict[str, Any] = {"recipe": "wgan-gp", "n_critic": 2, "warmup": False}
    mlp = given | {"width": 128, "depth": 2, "batch_size": 256}
    if name == "size":
        pictures = rng.integers(0, 256, (200, value, value, 3), dtype=np.uint8)
        return open_source(pictures), given | {"width": 16, "batch_size": 32}
    if name == "rows":
        rows = rng.normal(size=(value, 16)).astype(np.float32)
        return open_source(rows), mlp
    return open_source("gaussians8"), mlp | {{"batch": "batch_size"}.get(name, name): value}


def seconds_a_step(name: str, value: int, most: float) -> float:
    """Median processor time of a step."""
    source, given = work(name, value)
    config, _ = resolve(given, source, source.name)
    training, _ = source.split(config.holdout, config.split_seed)
    state = build_state(config, training)
    took: list[float] = []
    for warming in (True, True, *(False,) * 200):
        before = time.process_time()
        for _ in train(state, training, until=state.step + 1):
            pass
        if not warming:
            took.append(time.process_time() - before)
        if len(took) >= 2 and sum(took) > most:
            break
    return median(took)


def draw(found: Mapping[str, Mapping[int, float]], path: Path) -> None:
    """One panel for each quantity, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 2.7), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        line = LINES[name]
        x, y = np.array(list(points)), 1000 * np.array(list(points.values()))
        axes.plot(x, y[-1] * (x / x[-1]) ** line.power, color=REAL, label="arithmetic")
        axes.plot(x, y, color=SERIES[0], marker="o", markersize=4, label="measured")
        axes.set(xscale="log", yscale="log", xlabel=line.label)
        axes.set_ylim(min(y.min() / 2, 1), 2 * y.max())
        tidy(axes, size=8)
        axes.minorticks_off()
        axes.set_xticks(x, [f"{v:,}" if v < 10_000 else f"{v:.0e}" for v in x])
    figure.axes[0].set_ylabel("ms a step", fontsize=8)
    figure.axes[0].legend(frameon=False, fontsize=8)
    write_whole(path, png(figure, dpi=110))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--quick", action="store_true", help="only the ends of each line")
    parser.add_argument("--out", type=Path, default=Path("docs/images/scaling.png"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[int, float]] = {}
    print(f"{'quantity':<8} {'value':>9} {'ms':>9} {'grew':>6} {'arithmetic':>11}")
    for name, line in LINES.items():
        found[name] = {}
        before: tuple[int, float] | None = None
        for value in line.values[:: len(line.values) - 1] if given.quick else line.values:
            took = found[name][value] = seconds_a_step(name, value, given.seconds)
            grew = ""
            if before is not None:
                grew = f"{took / before[1]:>6.2f} {(value / before[0]) ** line.power:>11.2f}"
            print(f"{name:<8} {value:>9,} {1000 * took:>9.2f} {grew}", flush=True)
            before = value, took
    draw(found, given.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
