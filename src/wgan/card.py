"""A run's card: what it is, what it was made with, and what would keep it from going on exactly."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

import wgan
from wgan.auto import Departure
from wgan.config import Config
from wgan.data.base import Source
from wgan.data.codec import Codec
from wgan.plugins import changes, recorded_plugins
from wgan.recipes import get_recipe
from wgan.run import DamagedError, Run
from wgan.training import ranks

_MOST_THREADS = 4096


def make_card(
    config: Config,
    departures: tuple[Departure, ...],
    source: Source,
    training: Source,
    heldout: Source,
    own: Mapping[str, str],
) -> dict[str, Any]:
    """What a run is: enough to sample it, judge it and refuse what does not fit it."""
    recipe = get_recipe(config.recipe)
    return {
        "created": now(),
        "recipe": {
            "name": recipe.name,
            "title": recipe.title,
            "source": recipe.source,
            "year": recipe.year,
        },
        "meaning": config.objective.meaning,
        "estimate": config.objective.estimate,
        "departures": [
            {"field": d.field, "published": d.published, "value": d.value, "reason": d.reason}
            for d in departures
        ],
        "own_networks": dict(own),
        "data": {
            "name": source.name,
            "fingerprint": source.fingerprint,
            "size": source.size,
            "shape": list(source.codec.own_shape),
            **source.describe(),
        },
        "codec": source.codec.to_json(),
        "split": {"train": training.size, "heldout": heldout.size, "seed": config.split_seed},
        "versions": versions(),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": (torch.cuda.get_device_name() if config.device == "cuda" else "cpu"),
        },
        "processes": ranks.describe(),
        "resumptions": [],
    }


def peak_bytes(device: str) -> int:
    """The most memory that this process has held so far: on the GPU, or its resident memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "wgan": wgan.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def codec_of(run: Run) -> Codec:
    """The codec that a run's card holds."""
    check_card(run)
    try:
        return Codec.from_json(run.card["codec"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{run.path} is damaged: card.json: `codec`: {error}") from None


def check_card(run: Run) -> None:
    """Raise `DamagedError` unless a run's card holds what going on with it takes."""
    card = run.card

    def part(name: str, kind: type) -> Any:
        if not isinstance(card.get(name), kind):
            raise DamagedError(f"{run.path} is damaged: card.json: `{name}` is {card.get(name)!r}")
        return card[name]

    def all_text(name: str, keys: tuple[str, ...]) -> bool:
        found = part(name, dict)
        return all(isinstance(found.get(key), str) for key in keys)

    if not all_text("data", ("name", "fingerprint")) or not all_text("versions", ("wgan", "torch")):
        raise DamagedError(f"{run.path} is damaged: card.json: `data` or `versions` is not whole")
    threads = part("machine", dict).get("threads")
    if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
        raise DamagedError(f"{run.path} is damaged: card.json: it states {threads!r} threads")
    for entry in [card, *part("resumptions", list)]:
        if not isinstance(entry, dict) or _processes(entry) is None:
            raise DamagedError(f"{run.path} is damaged: card.json: `processes` or `resumptions`")
    part("own_networks", dict)
    part("codec", dict)


def _processes(entry: Mapping[str, Any]) -> int | None:
    """The number of processes in the card or in a resumption; None where it is none."""
    found = entry.get("processes", {"count": 1})  # before there could be several
    count = found.get("count") if isinstance(found, dict) else None
    return count if type(count) is int and count >= 1 else None


def processes_at(run: Run, step: int) -> int:
    """How many processes took a step (from 1)."""
    check_card(run)
    resumed = [
        entry
        for entry in run.card["resumptions"]
        if type(at := entry.get("step")) is int and at < step
    ]
    return _processes(resumed[-1] if resumed else run.card) or 1


def differences(run: Run, config: Config, source: Source) -> list[str]:
    """What would keep a resumed run from repeating the original, in words."""
    check_card(run)
    found = []
    if run.card["data"]["fingerprint"] != source.fingerprint:
        found.append("the data has changed since the run began")
    for name in ("wgan", "torch"):
        old, new = run.card["versions"][name], versions()[name]
        if old != new:
            found.append(f"{name} was {old} and is {new}")
    found += changes(recorded_plugins(run.config), config.plugins)
    free = (
        *("steps", "seconds", "device", "data", "plugins"),
        *("on_divergence", "max_rollbacks", "heed"),
        "accumulate",  # it changes nothing but the last bits
    )
    new_plain = config.plain()
    for key in sorted(run.config.keys() | new_plain.keys()):
        old_value, new_value = run.config.get(key), new_plain.get(key)
        if key not in free and old_value != new_value:
            found.append(f"`{key}` was {old_value} and is {new_value}")
    return found


def now() -> str:
    """The time with its offset, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
