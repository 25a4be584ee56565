"""Gather what the doctor's rules look at: records, checkpoints, a few fresh passes, the data."""

from __future__ import annotations

import contextlib
import csv
import math
import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wgan.build import build_state
from wgan.data.base import Source
from wgan.diagnostics.examination import (
    Examination,
    Judged,
    Networks,
    curves,
    data_facts,
    first_step,
    look_at,
)
from wgan.diagnostics.rules import Diagnosis, diagnose
from wgan.diagnostics.signs import Series
from wgan.errors import RunFailedError, UserError
from wgan.run import Run
from wgan.trained import Data, Trained

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
            said = "; ".join(trained.said)
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
        floor=(card.get("audit") or {}).get("floor"),
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
        run: A run directory; or the losses of another tool, a CSV file with a line of names or a
            folder of TensorBoard event files, of which less can be said.
        data, condition: The data again, where it was in memory.
        generator, critic: The modules again, where they were the user's own.

    Raises:
        UserError: It is not a run, or it is damaged.
    """
    return diagnose(
        examine_any(run, data=data, condition=condition, generator=generator, critic=critic)
    )


def examine_any(run: str | os.PathLike[str] | Run, **again: Any) -> Examination:
    """An examination of a run, or of the losses of another tool; see :func:`doctor`."""
    if not isinstance(run, Run) and (columns := foreign(Path(run))) is not None:
        return examine_columns(columns)
    return examine(run, **again)


_NAMES = {
    "critic_loss": (
        *("critic_loss", "loss_d", "d_loss", "errd", "loss_critic", "disc_loss", "lossd"),
        *("discriminator_loss", "loss_discriminator"),
    ),
    "generator_loss": (
        *("generator_loss", "loss_g", "g_loss", "errg", "gen_loss", "lossg", "loss_generator"),
    ),
    "wasserstein_estimate": (
        *("wasserstein_estimate", "wasserstein_distance", "wasserstein", "w_dist", "wdist"),
        *("wasserstein_d", "estimate"),
    ),
    "gradient_penalty": ("gradient_penalty", "gp", "grad_penalty"),
    "critic_gradient_norm": ("critic_gradient_norm", "grad_norm_d", "d_grad_norm"),
    "generator_gradient_norm": ("generator_gradient_norm", "grad_norm_g", "g_grad_norm"),
    "discriminator_of_real": ("d(x)", "d_x", "d_real", "real_score"),
    "step": ("step", "steps", "iteration", "iter", "global_step", "gen_iterations"),
}
"""What other tools call the terms of the records, in small letters without slashes."""


_LOSSES = tuple(name for name in _NAMES if name != "step")
_FEWEST = 20  # steps of another tool that say something


def _term(name: str) -> str:
    """What the records call a column of another tool; its own name where they have none."""
    short = name.lower().rsplit("/", 1)[-1].strip().replace(" ", "_").replace("-", "_")
    return next((term for term, names in _NAMES.items() if short in names), short)


def foreign(path: Path) -> dict[str, tuple[Series, Series]] | None:
    """The curves in a CSV file or a folder of event files of another tool; None for a run.

    Raises:
        UserError: Nothing in it is a number, no column is known, or there are too few steps.
    """
    if (path / "card.json").is_file() or (path / "records.jsonl").is_file():
        return None  # a run, whole or not
    if not path.exists():
        raise UserError(f"there is no file or folder {path}")
    if path.is_file():
        found = _of_csv(path)
    elif path.is_dir() and any(path.rglob("events.out.tfevents.*")):
        found = _of_events(path)
    else:
        return None
    if not found:
        raise UserError(f"{path} holds no numbers over steps")
    if not any(_term(name) in _LOSSES for name in found):
        raise UserError(
            f"{path} has {', '.join(list(found)[:8])}, of which none is known here; call the "
            f"columns {', '.join(_LOSSES)}"
        )
    longest = max(len(values) for _, values in found.values())
    if longest < _FEWEST:
        raise UserError(
            f"{path} holds {longest} step{'s' * (longest > 1)}, too few to say anything by; give "
            f"{_FEWEST} or more"
        )
    return found


def examine_columns(columns: Mapping[str, tuple[Series, Series]]) -> Examination:
    """An examination of losses alone.

    Where a discriminator's output on real samples is among them, it is a standard GAN's, and its
    loss gives the JS estimate: ``log 2 - critic_loss / 2``.
    """
    found = {}
    for name, curve in columns.items():
        term = _term(name)
        if not term.endswith("_seconds"):  # of some steps only
            found[term] = curve
    reason = _ended(found)
    found = {name: _finite(curve) for name, curve in found.items()}
    if "discriminator_of_real" in found and "critic_loss" in found:
        at, loss = found["critic_loss"]
        found["js_estimate"] = at, math.log(2) - loss / 2
    estimate = "wasserstein_estimate" if "wasserstein_estimate" in found else None
    steps = max(len(values) for _, values in found.values())
    named = sorted(set(found) & set(_NAMES))
    missing = (
        "networks, data and samples: these are the losses of another tool, of which "
        f"{', '.join(named)} are known here"
    )
    return Examination(steps, found, estimate=estimate, reason=reason, missing=missing)


def _ended(found: Mapping[str, tuple[Series, Series]]) -> str:
    """Which term was not finite to the end, and from which step on; empty where all were."""
    for name, (steps, values) in found.items():
        good = np.isfinite(values)
        late = steps[~good & (steps > steps[good].max(initial=-np.inf))]
        if len(late):
            return f"`{name}` is not finite from step {late.min():,.0f} on"
    return ""


def _finite(curve: tuple[Series, Series]) -> tuple[Series, Series]:
    steps, values = curve
    good = np.isfinite(values)
    return steps[good], values[good]


def _of_csv(path: Path) -> dict[str, tuple[Series, Series]]:
    try:
        with path.open(newline="", errors="replace") as file:
            head = file.readline()
            file.seek(0)
            # Commas win: a name may have a space or a bar in it, and numbers hardly a comma.
            marks = {mark: head.count(mark) for mark in (",", ";", "\t")}
            rows = list(csv.DictReader(file, delimiter=max(marks, key=lambda m: marks[m])))
    except (OSError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if rows and all(_number(name) is not None for name in rows[0] if name is not None):
        raise UserError(
            f"{path} has no line of names, which say what its columns are: write one as its first "
            "line, such as step,critic_loss,generator_loss"
        )
    columns: dict[str, tuple[list[float], list[float]]] = {}
    for number, row in enumerate(rows, 1):
        given = {str(name).strip(): value for name, value in row.items() if name is not None}
        keys = {name.lower(): name for name in given}
        step_name = next((keys[name] for name in _NAMES["step"] if name in keys), None)
        step = _number(given.get(step_name)) if step_name is not None else None
        for name, text in given.items():
            value = _number(text)
            if value is None and text and str(text).strip() and _term(name) in _LOSSES:
                raise UserError(f"{path}: line {number + 1} has {text!r} under {name}, no number")
            if name != step_name and value is not None:
                steps, values = columns.setdefault(name, ([], []))
                steps.append(number if step is None or not math.isfinite(step) else step)
                values.append(value)
    return {
        name: (np.array(steps, float), np.array(values))
        for name, (steps, values) in columns.items()
        if np.isfinite(values).any()
    }


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None


def _of_events(path: Path) -> dict[str, tuple[Series, Series]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted({file.parent for file in path.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            kept = events.Scalars(tag)
            if any(math.isfinite(event.value) for event in kept):
                found[tag] = (
                    np.array([float(event.step) for event in kept]),
                    np.array([float(event.value) for event in kept]),
                )
    return found


def _networks(
    trained: Trained, training: Source, generator: nn.Module | None, critic: nn.Module | None
) -> Networks | None:
    run = trained.run
    state = build_state(trained.config, training, deepcopy(generator), deepcopy(critic))
    start = None
    if "generator" not in run.card.get("own_networks", {}):
        start = [p.detach().clone() for p in state.generator.parameters]
    first = first_step(state, {departure["field"] for departure in run.card["departures"]})
    checkpoint, _ = run.latest()
    state.load(checkpoint.tensors, checkpoint.plain)
    try:
        return look_at(state, training, start, first)
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
