"""Time to quality: train on pictures for a while as a user would, and measure what comes out.

    python -m benchmarks.quality TRAIN TEST --features WEIGHTS.npz [--seconds 300] [--recipe ...]

The settings are those that `wgan train TRAIN --seconds 300` takes by itself. The measure is the
Frechet distance of 10,000 samples to the test pictures in a classifier's features; beside it the
same of all training pictures, below which nobody gets by learning.

On a machine that does other things too, `--processor-seconds 600` gives the run as many steps as
fit into that time of the processor, all threads together, and no bound by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import wgan
from wgan.build import build_state
from wgan.config import resolve
from wgan.data import open_source
from wgan.metrics import feature_space, frechet_distance
from wgan.training import train

_SAMPLES = 10_000
_TIMED_SECONDS = 5.0  # of steps, to tell how many fit into a time of the processor


def pictures(data: str) -> NDArray[Any]:
    """All pictures of a source in its own units."""
    source = open_source(data)
    assert source.size is not None
    return source.codec.decode(source.batch(torch.arange(source.size)).values)


def steps_within(seconds: float, data: str, settings: dict[str, Any]) -> int:
    """Steps that fit into this many seconds of the processor, by timing some."""
    source = open_source(data)
    config, _ = resolve({**settings, "steps": 10**6}, source, data)
    training, _ = source.split(config.holdout, config.split_seed)
    records = train(build_state(config, training), training, until=10**6)
    for _ in range(5):  # the first ones load what later ones have
        next(records)
    began, steps = time.process_time(), 0
    while time.process_time() - began < _TIMED_SECONDS:
        next(records)
        steps += 1
    return int(seconds / (time.process_time() - began) * steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", help="pictures to train on")
    parser.add_argument("test", help="pictures to compare with")
    parser.add_argument("--features", required=True, help="a classifier's weights, .npz")
    parser.add_argument("--recipe", default="wgan-gp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=300.0, help="by the clock, all included")
    parser.add_argument("--processor-seconds", type=float, help="of training, instead")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="keep the run there")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings: dict[str, Any] = {"recipe": arguments.recipe, "seed": arguments.seed}
    for each in arguments.set:
        name, _, value = each.partition("=")
        settings[name.replace("-", "_")] = json.loads(value) if value[:1] in "0123456789" else value
    if arguments.processor_seconds:
        # Without audits, whose share of the time is no part of the training's.
        settings["audit_every"] = 0
        settings["steps"] = steps_within(arguments.processor_seconds, arguments.data, settings)
    else:
        settings["seconds"] = arguments.seconds
    with tempfile.TemporaryDirectory() as folder:
        clock, processor = time.monotonic(), time.process_time()
        run = wgan.train(arguments.data, out=arguments.out or Path(folder) / "run", **settings)
        clock, processor = time.monotonic() - clock, time.process_time() - processor
        samples = run.sample(_SAMPLES, seed=1)
    test, real = pictures(arguments.test), pictures(arguments.data)
    space = feature_space(arguments.features, test)
    reference = space(test)
    found = {
        "recipe": arguments.recipe,
        "seed": arguments.seed,
        "steps": run.step,
        "seconds": round(clock, 1),
        "processor_seconds": round(processor, 1),
        "threads": arguments.threads,
        "load": round(os.getloadavg()[1], 1),
        "frechet": round(frechet_distance(space(samples), reference), 3),
        "floor": round(frechet_distance(space(real), reference), 3),
        "range": [int(np.min(samples)), int(np.max(samples))],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
