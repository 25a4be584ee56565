"""What a notebook or a script calls: train, iterate, resume, load, distance, compare."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wgan.auto import Departure
from wgan.bounds import METRICS, WAYS, Choice, Distance, measure
from wgan.comparison import Comparison, compare_runs
from wgan.config import data_options, resolve
from wgan.data import open_source
from wgan.data.base import Source
from wgan.errors import UnknownNameError, UserError
from wgan.follower import Follower
from wgan.memory import refuse_what_does_not_fit
from wgan.operands import Operand, common_bounds, critic_of, features_of, gather
from wgan.plugins import looked_up, recorded_plugins
from wgan.run import Run, next_path, refuse_existing
from wgan.session import Session, report
from wgan.trained import Data, Trained, config_of
from wgan.training import ranks
from wgan.transport import Cost
from wgan.types import Record

_READING = ("size", "key", "layout", "columns", "drop_missing", "skip_bad")


def train(
    data: Data,
    *,
    out: str | os.PathLike[str] | None = None,
    condition: NDArray[Any] | Sequence[str] | str | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    **settings: Any,
) -> Trained:
    """Train a run to its end and return it.

    Where `torchrun` started several processes, each calls it and gets the run.

    Args:
        data: A name (``"digits"``), a path, an array or tensor ``[n, ...]``, or a `Source`.
        out: The run directory; None numbers one under ``runs/``.
        condition: Conditions of an array, ``[n]`` or ``[n, k]``, or columns of a table by name.
        generator, critic: Your own modules instead of the recipe's networks: latents
            ``[batch, latent]`` to ``[batch, *shape]``, and ``[batch, *shape]`` to ``[batch]`` (or
            to `wgan.Scores`); with a condition, both take it as a second argument.
        **settings: Any setting of `wgan train`, with underscores: `recipe`, `steps`, `seconds`,
            `seed`, `batch_size`, `lr`, `constraints={"gradient-penalty": {"weight": 5}}`.

    Raises:
        UserError: A mistake in what was asked for, before anything is written.
        RunFailedError: The run stopped before its end; its last good checkpoint is in place.
    """
    session, _ = start(data, settings, out, condition, generator, critic)
    return load(_complete(session), generator=generator, critic=critic)


def _complete(session: Session | Follower) -> Path:
    """Train to the end of the budget; where the run is, once all of it is written."""
    if isinstance(session, Follower):
        session.follow()
        return Path(ranks.decided(lambda: str(session.path)))
    with contextlib.closing(session):
        for _ in session.records():
            pass
        session.finish()
        report([session.run])
    return Path(ranks.decided(lambda: str(session.run.path)))


def iterate(
    data: Data,
    *,
    out: str | os.PathLike[str] | None = None,
    condition: NDArray[Any] | Sequence[str] | str | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    **settings: Any,
) -> Iterator[Record]:
    """Train as :func:`train` does, and yield the record of every step.

    Stop whenever you like: leaving the loop writes a checkpoint, and `wgan.resume` goes on from it.
    It takes one process.
    """
    session, _ = start(data, settings, out, condition, generator, critic)
    if isinstance(session, Follower) or ranks.world() > 1:
        raise UserError(
            "`wgan.iterate` lets its caller stop at any step, and several processes must stop "
            "together; use `wgan.train`"
        )
    with contextlib.closing(session):
        try:
            yield from session.records()
        finally:
            session.finish()
            report([session.run])


def resume(
    run: str | os.PathLike[str],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    data: Data | None = None,
    condition: NDArray[Any] | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    allow: bool = False,
    on_divergence: str | None = None,
    max_rollbacks: int | None = None,
    accumulate: int | None = None,
    heed: bool | None = None,
) -> Trained:
    """Go on with a run to `steps` steps in total, or for `seconds`.

    The numbers are those that an uninterrupted run would have had, to the bit.

    Args:
        run: The run directory.
        steps: Total steps, from the run's first; None: what the run was started with.
        seconds: Bound on this call.
        data, condition: The data again, where it was in memory.
        generator, critic: The modules again, where they were your own (freshly built).
        allow: Go on even if the data, the versions or the settings differ.
        on_divergence, max_rollbacks, heed, accumulate: As for :func:`train`; None: as the run has
            them.
    """
    session = reopen(
        *(run, steps, seconds, data, condition, generator, critic, allow),
        on_divergence=on_divergence,
        max_rollbacks=max_rollbacks,
        accumulate=accumulate,
        heed=heed,
    )
    return load(_complete(session), generator=generator, critic=critic)


def load(
    run: str | os.PathLike[str],
    *,
    checkpoint: str | int = "latest",
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> Trained:
    """A run as one of its checkpoints left it. No data is needed.

    Args:
        run: The run directory.
        checkpoint: ``"latest"``: the newest good one; ``"best"``: that of the smallest excess in
            the run's audits; or a step that has one.
        generator, critic: Freshly built modules, where the run has its own.

    Raises:
        UserError: It is not a run, it is damaged, or it needs modules that were not given.
    """
    directory = Run.open(run)
    own = directory.card.get("own_networks", {})
    for role, module in (("generator", generator), ("critic", critic)):
        if role in own and module is None:
            raise UserError(
                f"{directory.path} has its own {role} ({own[role]}): "
                f"wgan.load(run, {role}={own[role]}(...))"
            )
    return Trained(directory, generator, critic, checkpoint)


def distance(
    a: Operand,
    b: Operand,
    *,
    n: int | None = None,
    metric: Cost = "euclidean",
    features: Callable[[NDArray[Any]], Any] | str | None = None,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
    seconds: float | None = 60.0,
    steps: int | None = None,
    seed: int = 0,
    critics: Sequence[str] = WAYS,
    critic: str | os.PathLike[str] | Trained | None = None,
    interval: Choice = "auto",
    paired: bool = False,
    **reading: Any,
) -> Distance:
    """What is known of the Wasserstein distance between two data sets, or a run and data.

    W1 of the two samples; W1 of the populations they come from, from below and (with bounds) from
    above, with confidence; and other distances as context. In the data's own units.

    Args:
        a, b: Arrays ``[n, *shape]``, files, folders, named sources, run directories or runs. A run
            is drawn from afresh, and data that it was trained on gives its held-out part.
        n: Samples of each; None: what there is, at most 20,000, fewer of large ones where `seconds`
            are few.
        metric: The ground metric on flat samples: ``euclidean``, ``l1`` or ``linf``.
        features: Applied to the samples ``[n, *shape]`` first, to ``[n, k]``: the distance is then
            between features, in their units. A function, ``MODULE:FUNCTION``,
            ``FILE.py:FUNCTION``, or a known classifier's weights ``FILE.npz``.
        bounds: What every number that can occur is between. None: what the type says, 0 to 255 for
            pictures; else nothing is said from above, and the interval from below is asymptotic.
        level: Confidence of each bound by itself, in (0.5, 1).
        seconds: Bound on the whole; None: `steps` decides. A short time leaves fewer samples to the
            context and the noise floor, and wider bounds; what each was taken on is stated.
        steps: Updates for finding critics; with `seconds` None the result depends on `seed` alone.
        seed: Of samples, splits and critics.
        critics: Kinds of critic to try, of ``maxmin``, ``sorted``, ``half-sorted``,
            ``cones-up``, ``cones-down``.
        critic: A run whose own critic is to be tried too, divided by its certified constant.
        interval: How to allow for chance: ``clt``, right for large samples; ``bernstein``, right at
            any size, which needs bounds; ``auto``: that where bounds are known.
        paired: Whether row i of both was drawn jointly (a sample and its reconstruction, say). The
            mean distance within pairs, and an allowance, then bounds W1 from above.
        **reading: How files and folders are read, as for `train`: `size`, `key`, `layout`,
            `columns`, `drop_missing`, `skip_bad`. None given: as the run on the other side did.

    Raises:
        UserError: Whatever is wrong with the data, or a value out of its range.

    Example:
        >>> import numpy as np, wgan
        >>> x = np.random.default_rng(0).normal(size=(500, 2))
        >>> found = wgan.distance(x, x + [1, 0], seconds=None, steps=200)
        >>> round(found.samples.upper, 6)
        1.0
    """
    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS)
    began = time.monotonic()
    if unknown := reading.keys() - _READING:
        raise UnknownNameError("argument of distance", min(unknown), _READING)
    said = any(value is not None for value in reading.values())
    options = data_options(reading) if said else None
    first, second = gather(a, b, n=n, seed=seed, seconds=seconds, options=options)
    x, y, unit = first.samples, second.samples, first.unit
    if features is None:
        bounds = bounds or common_bounds(first, second)
        given = [] if critic is None else [critic_of(critic)]
    else:
        if critic is not None:
            raise UserError("give `features` or `critic`: a run's critic does not score features")
        x, y = features_of(features, first, second)
        unit, given = "the features' units", []
    return measure(
        x,
        y,
        metric=metric,
        bounds=bounds,
        level=level,
        seconds=seconds,
        steps=steps,
        seed=seed,
        ways=critics,
        given=given,
        interval=interval,
        paired=paired,
        spent=time.monotonic() - began,
        unit=unit,
    )


def compare(
    runs: Sequence[str | os.PathLike[str] | Trained],
    *,
    data: Data | None = None,
    features: str = "auto",
    bounds: tuple[float, float] | None = None,
    seconds: float = 10.0,
    seed: int = 0,
) -> Comparison:
    """Which of several runs is closer to the data, by how much, and how sure that is.

    By the excess of each run's samples on held-out data that all of them share (see
    `wgan.diagnostics.Excess`), and by a bootstrap of the differences that resamples the shared data
    together. Further 'certified' is only what has a lower bound above the closest run's upper one.
    Where a run's step was chosen by its audits, the held-out data that chose have no part in it.

    Args:
        runs: Two or more run directories, or runs.
        data: The data, where it was in memory or has moved; None: what they were trained on.
        features: Where samples are compared: ``auto``, ``raw``, ``slices``, ``pca:K``, a weights
            file or ``MODULE:FUNCTION``.
        bounds: What every number that can occur is between, for certified bounds. None: what the
            type says, 0 to 255 for pictures; else there are none.
        seconds: For the certified bounds of all runs, > 0.
        seed: Of the samples.

    Raises:
        UserError: Runs on different data, or that hold out different samples; too few of them.
    """
    if not 0 < seconds < math.inf:
        raise UserError(f"`seconds` must be > 0, got {seconds}")
    loaded = [run if isinstance(run, Trained) else load(run) for run in runs]
    return compare_runs(
        loaded, data=data, features=features, bounds=bounds, seconds=seconds, seed=seed
    )


# -- what the command line shares ------------------------------------------------------------------


def start(
    data: Data,
    settings: Mapping[str, Any],
    out: str | os.PathLike[str] | None = None,
    condition: NDArray[Any] | Sequence[str] | str | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    *,
    started: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Session | Follower, tuple[Departure, ...]]:
    """Open the data, resolve the settings and create the run, in this order.

    Returns:
        The session before its first step, and where `auto` departed from the published settings.
    """
    started = time.monotonic() if started is None else started
    ranks.join()
    if isinstance(data, (str, os.PathLike)) and (Path(data) / "card.json").is_file():
        raise UserError(f"{data} is a run, not data; to go on with it: wgan resume {data}")
    if out is not None:
        # now, before a large folder of pictures is read
        ranks.together(lambda: refuse_existing(Path(out)) if ranks.rank() == 0 else None)
    given = dict(settings)
    array = None
    if isinstance(condition, str) or (
        isinstance(condition, Sequence) and all(isinstance(c, str) for c in condition)
    ):
        given["condition"] = condition
    elif condition is not None:
        array = np.asarray(condition)
    recorded, options = recorded_plugins(given), data_options(given)
    progress = progress if ranks.rank() == 0 else None
    source = _everywhere(
        lambda: looked_up(
            lambda: open_source(data, options, condition=array, progress=progress), recorded
        )
    )
    name = str(data) if isinstance(data, (str, os.PathLike)) else "array"
    config, departures = looked_up(lambda: resolve(given, source, name), recorded)
    ranks.require_same("the configuration", json.dumps(config.plain()))
    title = f"{source.name}-{config.recipe}"
    refuse_what_does_not_fit(config, source, generator, critic)
    path = Path(ranks.decided(lambda: str(out or next_path(Path("runs"), title))))
    session = Session.create(path, config, departures, source, generator=generator, critic=critic)
    _bound(session, started)
    return session, session.departures


def _everywhere(open_data: Callable[[], Source]) -> Source:
    """The data, which every process opens for itself, the first of each machine before the rest."""
    source = ranks.together(open_data, in_turn=True)
    ranks.require_same("the data", source.fingerprint)
    return source


def _bound(session: Session | Follower, started: float) -> None:
    """Let the session know by when the command should be over."""
    seconds = session.config.seconds
    if isinstance(session, Session):
        session.started = started
        session.deadline = None if seconds is None else started + seconds


def reopen(
    run: str | os.PathLike[str],
    steps: int | None = None,
    seconds: float | None = None,
    data: Data | None = None,
    condition: NDArray[Any] | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    allow: bool = False,
    *,
    started: float | None = None,
    on_divergence: str | None = None,
    max_rollbacks: int | None = None,
    accumulate: int | None = None,
    heed: bool | None = None,
) -> Session | Follower:
    """A session at the newest good checkpoint of a run; see :func:`resume`."""
    started = time.monotonic() if started is None else started
    ranks.join()
    directory = open_run(run)
    given: dict[str, Any] = {"on_divergence": on_divergence, "max_rollbacks": max_rollbacks}
    given |= {"accumulate": accumulate, "heed": heed}
    directory.config |= {name: value for name, value in given.items() if value is not None}
    if data is None:
        if directory.config.get("data") == "array":
            raise UserError(
                f"{directory.path} was trained on an array in memory; go on from Python: "
                "wgan.resume(run, data=array)"
            )
        data = directory.config["data"]
    options = data_options(directory.config)
    recorded = recorded_plugins(directory.config)
    source = _everywhere(
        lambda: looked_up(lambda: open_source(data, options, condition=condition), recorded)
    )
    config = config_of(directory, source)
    if steps is not None or seconds is not None:
        if steps is not None and steps < 1:
            raise UserError(f"`steps` must be >= 1, got {steps}")
        if seconds is not None and not 0 < seconds < math.inf:
            raise UserError(f"`seconds` must be > 0, got {seconds}")
        config = dataclasses.replace(config, steps=steps, seconds=seconds)
    refuse_what_does_not_fit(config, source, generator, critic)
    session = Session.resume(
        directory, config, source, allow=allow, generator=generator, critic=critic
    )
    _bound(session, started)
    return session


def open_run(path: str | os.PathLike[str]) -> Run:
    """A run directory, of which only the first of several processes needs to have the files."""
    found: list[Run] = []

    def read() -> list[dict[str, Any]]:
        found.append(Run.open(path))
        return [found[0].config, found[0].card]

    config, card = ranks.decided(read)
    return found[0] if found else Run(Path(path), config, card)


def finished(run: Run) -> bool:
    """Whether a run has reached the end of what it was asked for."""
    card = run.card
    return card.get("status") == "finished" and card.get("reported") == card.get("step")
