"""How long a trial is: the same number of steps for all, from what the budget leaves for each."""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wgan.build import build_state
from wgan.config import Config, resolve
from wgan.data.base import Source
from wgan.diagnostics import Audit
from wgan.errors import NonFiniteError, UserError
from wgan.memory import refuse_what_does_not_fit
from wgan.planning import make_audit
from wgan.search.space import Choice, Point, Range, Space, Value, applies, settings_at
from wgan.training import train

_AUDITS = 10  # of a trial, where they leave time for steps
_FEWEST_AUDITS = 3
_AUDIT_SHARE = 0.3  # of a trial's time at most
_KEPT = 0.15  # of the budget, for starting and for the page
_TRIED = 4  # points of the space whose steps are timed
_OVERHEAD = 1.5  # seconds of a trial for its first checkpoint and its pictures, beside audits


@dataclass(frozen=True)
class Length:
    """Of every trial.

    Attributes:
        steps: Generator updates.
        audit_every: Steps between audits.
        reason: How it came about, in words.
    """

    steps: int
    audit_every: int
    reason: str


def check(space: Space, given: Mapping[str, Any], source: Source, data: str) -> None:
    """Resolve the settings at every end of the space, so that what is wrong is said at once.

    Raises:
        UserError: What `resolve` refuses, with the values that it refuses.
    """
    first = _first(space, given, source)
    for name, dimension in space.items():
        for value in dimension.ends:
            point = {**first, name: value}
            point = {k: v for k, v in point.items() if applies(k, given, point, source)}
            if name not in point:
                continue
            try:
                resolve(settings_at(given, point), source, data)
            except UserError as error:
                raise UserError(f"{name}={value}: {error}") from None


def settle(
    space: Space,
    given: Mapping[str, Any],
    source: Source,
    data: str,
    *,
    budget: float | None,
    trials: int,
    jobs: int,
    steps: int | None,
    seed: int,
) -> Length:
    """The length of every trial; see :func:`wgan.sweep` for the rule.

    Raises:
        UserError: The budget is too short for so many trials, or too few samples are held out.
    """
    audit = judge(space, given, source, data)
    if steps is not None:
        every = max(1, steps // _AUDITS)
        return Length(steps, every, f"{steps:,} steps a trial, as was asked for")
    assert budget is not None
    share = (1 - _KEPT) * budget * jobs / trials
    config, state_seconds, audit_seconds = _timed(space, given, source, data, audit, seed)
    audits = min(_AUDITS, int(_AUDIT_SHARE * share / audit_seconds))
    left = share - _OVERHEAD - (audits + 2) * audit_seconds
    every = int(left / state_seconds / max(audits, 1))
    if audits < _FEWEST_AUDITS or every < 1:
        needed = _OVERHEAD + _FEWEST_AUDITS * max(audit_seconds / _AUDIT_SHARE, 2 * state_seconds)
        needed *= trials / jobs / (1 - _KEPT)
        fits = max(1, int(trials * budget / needed))
        raise UserError(
            f"a budget of {budget:.0f} s leaves {share:.1f} s for each of {trials} trials, and an "
            f"audit takes {audit_seconds:.2g} s and a step {state_seconds:.2g} s here: give "
            f"--budget {math.ceil(needed)}s or more, or --trials {fits} or fewer"
        )
    every = _rounded(every)
    reason = (
        f"{audits * every:,} steps a trial, with an audit every {every:,}: {share:.0f} s for each "
        f"of {trials} trials, at {1e3 * state_seconds:.3g} ms a step and {audit_seconds:.2g} s an "
        f"audit, timed on {config.device} before the first trial"
    )
    return Length(audits * every, every, reason)


def judge(space: Space, given: Mapping[str, Any], source: Source, data: str) -> Audit:
    """The audit of all trials.

    Raises:
        UserError: Too few samples are held out to choose by some and report on others.
    """
    config = _resolved(given, _first(space, given, source), source, data)
    training, heldout = source.split(config.holdout, config.split_seed)
    audit = make_audit(config, training, heldout)
    if audit is None or audit.held.report is None:
        raise UserError(
            f"{source.name} holds out {heldout.size} samples; a sweep chooses by some of them and "
            "reports the winner on others, which takes 60 or more: give a larger --holdout"
        )
    return audit


def default_point(
    space: Space, given: Mapping[str, Any], source: Source, data: str
) -> dict[str, Value] | None:
    """The recipe's own settings as a point, where the space holds them."""
    start = {"recipe": given.get("recipe", "wgan-gp")} if "recipe" in space else {}
    config, _ = resolve({**given, **start}, source, data)
    point: dict[str, Value] = {}
    for name, dimension in space.items():
        if not applies(name, given, {**start, **point}, source):
            continue
        value = _own(name, config)
        if isinstance(dimension, Range) and not dimension.whole and isinstance(value, int):
            value = float(value)
        if value not in dimension:
            return None
        point[name] = value
    return point


def _own(name: str, config: Config) -> Any:
    """A setting's value in a configuration; None where the two players' differ."""
    plain = config.plain()
    both = {
        "lr": ("generator_lr", "critic_lr"),
        "network": ("generator_network", "critic_network"),
    }.get(name)
    if both:
        first, second = (plain[part] for part in both)
        return first if first == second or not config.objective.uses_critic else None
    part, dot, field = name.partition(".")
    if not dot:
        return plain.get(name)
    held = plain["objective"] if part == "objective" else plain["constraints"].get(part, {})
    return held.get(field)


def _first(space: Space, given: Mapping[str, Any], source: Source) -> dict[str, Value]:
    """The point of every dimension's first end."""
    point: dict[str, Value] = {}
    for name, dimension in space.items():
        if applies(name, given, point, source):
            point[name] = dimension.ends[0]
    return point


def _timed(
    space: Space,
    given: Mapping[str, Any],
    source: Source,
    data: str,
    audit: Audit,
    seed: int,
) -> tuple[Config, float, float]:
    """A configuration, the mean seconds of a step over the space, and those of an audit."""
    rng = random.Random(seed)
    seconds: list[float] = []
    audited = 0.0
    config: Config | None = None
    for _ in range(_TRIED):
        point: dict[str, Value] = {}
        for name, dimension in space.items():
            if applies(name, given, point, source):
                point[name] = _drawn(dimension, rng)
        try:
            config = _resolved(given, point, source, data)
            refuse_what_does_not_fit(config, source)
        except UserError:
            continue  # a corner that no setting by itself shows; such a trial fails and says so
        training, _ = source.split(config.holdout, config.split_seed)
        state = build_state(config, training)
        state.method = dataclasses.replace(state.method, warmup=False)
        took = []
        try:
            for _ in range(4):  # a first one loads what later ones have
                began = time.perf_counter()
                for _ in train(state, training, until=state.step + 1):
                    pass
                took.append(time.perf_counter() - began)
                if took[-1] > 1.0:
                    break
        except NonFiniteError:
            continue
        seconds.append(min(took))
        if not audited:
            audited = float(str(audit(state)["audit_seconds"]))
            if audited < 1.0:
                audited = min(audited, float(str(audit(state)["audit_seconds"])))
    if config is None or not seconds:
        raise UserError(
            "no point of the search could be trained for a step: its losses are not finite, its "
            "settings do not go together, or it needs more memory than is free; search elsewhere"
        )
    return config, sum(seconds) / len(seconds), audited


def _drawn(dimension: Range | Choice, rng: random.Random) -> Value:
    if isinstance(dimension, Choice):
        return rng.choice(dimension.values)
    if dimension.log:
        value: float = dimension.low * (dimension.high / dimension.low) ** rng.random()
        return round(value) if dimension.whole else value
    if dimension.whole:
        return rng.randint(int(dimension.low), int(dimension.high))
    return rng.uniform(dimension.low, dimension.high)


def _resolved(given: Mapping[str, Any], point: Point, source: Source, data: str) -> Config:
    config, _ = resolve(settings_at(given, point), source, data)
    return config


def _rounded(count: int) -> int:
    """Down to two digits."""
    digits = int(10 ** max(0, len(str(count)) - 2))
    return count // digits * digits
