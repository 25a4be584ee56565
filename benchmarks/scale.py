"""What several processes cost and gain, and what `--accumulate` saves.

    torchrun --nproc-per-node 2 -m benchmarks.scale
    python -m benchmarks.scale --memory

The first takes, for each network, the step of one process on its share of a batch, the step of all
together, and the sums over processes by themselves: one for every update, of all gradients in one
buffer. The fastest of many is what counts, because other processes only make it slower. The second
takes the peak memory of a step, above that of the loaded program, for several numbers of parts.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from wgan.build import build_state
from wgan.config import resolve
from wgan.data import open_source
from wgan.training import TrainState, ranks, train

NETWORKS: dict[str, dict[str, Any]] = {
    "MLP 512, batch 256, GP": {"network": "mlp", "batch_size": 256},
    "DCGAN 32x32x1, 32 filters, batch 64, GP": {"width": 32, "generator_norm": "none"},
}
SEEN = {"recipe": "wgan-gp", "settings": "published", "warmup": False, "n_critic": 2}
PARTS = (1, 2, 4, 8)


def stepper(given: dict[str, Any], pictures: torch.Tensor) -> tuple[TrainState, Callable[[], Any]]:
    """A state, and what takes its next step."""
    source = open_source(pictures.numpy())
    config, _ = resolve({**SEEN, **given}, source, "array")
    state = build_state(config, source)
    return state, lambda: list(train(state, source, until=state.step + 1))


def fastest(function: Callable[[], Any], seconds: float) -> float:
    """Seconds of the fastest call; every process makes as many."""
    function()
    began, found = time.perf_counter(), float("inf")
    going = True
    while going:
        at = time.perf_counter()
        function()
        found = min(found, time.perf_counter() - at)
        late = time.perf_counter() - began > seconds
        going = ranks.agree(ranks.FINISH if late else ranks.GO) == ranks.GO
    return found


def communication(seconds: float) -> None:
    """Print compute against communication, per network."""
    torch.set_num_threads(1)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rng = torch.Generator().manual_seed(0)
    pictures = torch.rand(2_000, 1, 32, 32, generator=rng)
    alone = {}
    for name, given in NETWORKS.items():  # before the processes meet
        size = given.get("batch_size", 64) // world
        _, step = stepper({**given, "batch_size": size}, pictures)
        alone[name] = fastest(step, seconds)
    ranks.join()
    for name, given in NETWORKS.items():
        state, step = stepper(given, pictures)
        together = fastest(step, seconds)
        assert state.critic is not None
        buffers = [
            torch.zeros(sum(p.numel() for p in player.parameters))
            for player in (state.critic, state.generator)
        ]
        sums = [fastest(partial(ranks.add, flat), seconds / 4) for flat in buffers]
        updates = state.method.n_critic
        exchanged = updates * sums[0] + sums[1]
        size = 4 * (updates * len(buffers[0]) + len(buffers[1])) / 1e6
        if ranks.rank() == 0:
            print(
                f"{name}: {size:.1f} MB a step; compute {1e3 * alone[name]:.1f} ms, sums "
                f"{1e3 * exchanged:.1f} ms, step of {world} processes {1e3 * together:.1f} ms"
            )


def memory(parts: int | None) -> None:
    """Print the peak for some numbers of parts, each in a process of its own."""
    if parts is None:
        for each in PARTS:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.scale", "--memory", "--parts", str(each)],
                check=True,
            )
        return
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    given = {"batch_size": 128, "width": 32, "generator_norm": "none", "n_critic": 1}
    _, step = stepper({**given, "accumulate": parts}, torch.rand(256, 3, 64, 64, generator=rng))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"DCGAN 64x64x3, 32 filters, batch 128, GP, --accumulate {parts}: "
        f"{(peak - before) / 1024:.0f} MiB above {before / 1024:.0f}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="What several processes cost and gain.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--memory", action="store_true", help="what --accumulate saves instead")
    parser.add_argument("--parts", type=int, help="of --memory: this number alone")
    given = parser.parse_args(arguments)
    if given.memory:
        memory(given.parts)
    else:
        communication(given.seconds)


if __name__ == "__main__":
    main()
