"""Gather what the doctor's rules look at: records, checkpoints, a few fresh passes, the data."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wgan.build import build_state
from wgan.data.base import Source
from wgan.data.codec import Codec
from wgan.diagnostics.examination import (
    DataFacts,
    Examination,
    Judged,
    Networks,
    curves,
    facts_of,
    look_at,
)
from wgan.diagnostics.rules import Diagnosis, diagnose
from wgan.errors import RunFailedError, UserError
from wgan.run import Run
from wgan.trained import Data, Trained

_ROWS = 5_000  # of the training data
_JUDGED = 400  # samples


def examine(
    run: str | os.PathLike[str] | Run,
    *,
    data: Data | None = None,
    condition: NDArray[Any] | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> Examination:
    """Everything that the rules may look at.

    Args:
        run: A run directory.
        data, condition: The data again, where it was in memory.
        generator, critic: The modules again, where they were the user's own.
    """
    directory = run if isinstance(run, Run) else Run.open(run)
    card, records = directory.card, directory.records()
    estimate = card.get("estimate")
    source, said = None, ""
    networks: Networks | None = None
    judged: dict[str, Judged] = {}
    trained = None
    with contextlib.suppress(UserError):
        trained = Trained(directory, generator, critic)
    if trained is not None:
        try:
            source, training, _ = trained.sources(data)
        except UserError as error:
            said = str(error)
        else:
            if training is not None:
                networks = _networks(trained, training, generator, critic)
            judged = _judged(trained, data)
            source = training or source
    return Examination(
        steps=len(records),
        curves=curves(records),
        estimate=estimate if isinstance(estimate, str) else None,
        meaning=str(card.get("meaning") or ""),
        config=directory.config,
        reason=str(card.get("reason") or "") if card.get("status") == "failed" else "",
        networks=networks,
        data=None if source is None else data_facts(source),
        judged=judged,
        missing=said,
    )


def doctor(
    run: str | os.PathLike[str] | Run,
    *,
    data: Data | None = None,
    condition: NDArray[Any] | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> Diagnosis:
    """What is wrong with a run, why, and what to do about it.

    Args:
        run: A run directory.
        data, condition: The data again, where it was in memory.
        generator, critic: The modules again, where they were the user's own.

    Raises:
        UserError: It is not a run, or it is damaged.
    """
    return diagnose(
        examine(run, data=data, condition=condition, generator=generator, critic=critic)
    )


def data_facts(source: Source) -> DataFacts:
    """What up to 5,000 training samples look like."""
    codec = source.codec
    if source.size is None:
        rows = torch.arange(_ROWS)
    else:
        count = min(_ROWS, source.size)
        rows = torch.arange(count) * source.size // count
    values = torch.cat([source.batch(part).values for part in torch.split(rows, 1024)])
    flat = values.flatten(1).double().numpy()
    return facts_of(flat, _names(codec, flat.shape[1]), pictures=codec.kind != "rows")


def _names(codec: Codec, numbers: int) -> list[str]:
    if codec.columns:
        return list(codec.columns)
    shape = codec.shape
    if len(shape) == 1:
        return [f"column {j}" for j in range(numbers)]
    return [str(tuple(int(i) for i in np.unravel_index(j, shape))) for j in range(numbers)]


def _networks(
    trained: Trained, training: Source, generator: nn.Module | None, critic: nn.Module | None
) -> Networks | None:
    run = trained.run
    state = build_state(trained.config, training, deepcopy(generator), deepcopy(critic))
    start = None
    if "generator" not in run.card.get("own_networks", {}):
        start = [p.detach().clone() for p in state.generator.parameters]
    checkpoint, _ = run.latest()
    state.load(checkpoint.tensors, checkpoint.plain)
    try:
        return look_at(state, training, start)
    except RunFailedError:
        return None


def _judged(trained: Trained, data: Data | None) -> dict[str, Judged]:
    found: Mapping[str, Any] = {}
    with contextlib.suppress(UserError):  # too few samples to judge by
        size = trained.run.card["data"]["size"]
        count = _JUDGED if size is None else min(_JUDGED, int(size) // 2)
        found = trained.evaluate(data, n=count).to_json()["measurements"]
    return {
        name: Judged(
            float(entry["value"]),
            float("nan") if entry["floor"] is None else float(entry["floor"]),
            (entry.get("detail") or {}).get("p_value"),
        )
        for name, entry in found.items()
        if entry["value"] is not None and math.isfinite(entry["value"])
    }
