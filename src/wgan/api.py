"""What a notebook or a script calls: train, iterate, resume, load."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.build import build_state, synthesize
from wgan.card import codec_of
from wgan.config import Config, data_options, resolve
from wgan.data import open_source
from wgan.data.base import Source
from wgan.data.codec import Codec
from wgan.errors import UnknownNameError, UserError
from wgan.metrics.evaluate import evaluate as judge_samples
from wgan.metrics.evaluation import Evaluation
from wgan.metrics.features import feature_space
from wgan.metrics.modes import KnownModes
from wgan.plugins import changes, looked_up, recorded_plugins
from wgan.recipes import Departure, get_recipe
from wgan.run import Run, next_path
from wgan.session import Session, report
from wgan.training import train as train_steps
from wgan.types import Record

_JUDGED = 2_000  # samples of each that an evaluation takes by itself
_FEW, _FEWEST = 400, 20  # of each, where time is short

Data = str | os.PathLike[str] | NDArray[Any] | Tensor | Source
Given = Mapping[str, float | Sequence[float] | NDArray[Any]]
"""Conditions to sample under, by name: one value for all samples, or one for each."""


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
    with contextlib.closing(session):
        for _ in session.records():
            pass
        session.finish()
        report([session.run])
    return load(session.run.path, generator=generator, critic=critic)


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
    """
    session, _ = start(data, settings, out, condition, generator, critic)
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
    """
    session = reopen(run, steps, seconds, data, condition, generator, critic, allow)
    with contextlib.closing(session):
        for _ in session.records():
            pass
        session.finish()
        report([session.run])
    return load(session.run.path, generator=generator, critic=critic)


def load(
    run: str | os.PathLike[str],
    *,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> Trained:
    """A run as its newest good checkpoint left it. No data is needed.

    Args:
        run: The run directory.
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
    return Trained(directory, generator, critic)


class Trained:
    """A trained run: samples, networks, records, judgement.

    Attributes:
        run: The run directory.
        config: Its configuration.
        codec: Own units to training units and back.
        step: Generator updates made.
        generator: The averaged generator, in evaluation mode.
        raw_generator: The generator without averaging.
        critic: The critic, or None for recipes without one.
    """

    def __init__(self, run: Run, generator: nn.Module | None, critic: nn.Module | None) -> None:
        self.run = run
        self.codec: Codec = codec_of(run)
        self.config: Config = config_of(run, _Shaped(self.codec))
        checkpoint, self.said = run.latest()
        before = recorded_plugins(run.config)  # the data's is not needed here
        self.said += changes(
            {name: before[name] for name in self.config.plugins if name in before},
            self.config.plugins,
        )
        state = build_state(self.config, _Shaped(self.codec), generator, critic)
        state.load(checkpoint.tensors, checkpoint.plain)
        self.step = state.step
        self.generator = state.average.eval()
        self.raw_generator = state.generator.module.eval()
        self.critic = state.critic.module.eval() if state.critic else None
        self._like = state.like
        self._conditions = checkpoint.tensors.get("conditions")

    @property
    def records(self) -> list[Record]:
        """One record a step, oldest first."""
        return self.run.records()

    def sample(
        self, n: int = 64, *, seed: int = 0, raw: bool = False, given: Given | None = None
    ) -> NDArray[Any]:
        """Samples ``[n, *own_shape]`` in the data's own units, dtype and range.

        Args:
            n: How many, >= 1.
            seed: Of the latents; the same seed gives the same samples.
            raw: Use the generator itself instead of its running average.
            given: Conditions by name, in their own units; None draws them from those trained on.
        """
        return self.codec.decode(self.sample_training_units(n, seed=seed, raw=raw, given=given))

    def sample_training_units(
        self, n: int, *, seed: int = 0, raw: bool = False, given: Given | None = None
    ) -> Tensor:
        """As :meth:`sample`, ``[n, *shape]`` in training units, float32 on the CPU."""
        if n < 1:
            raise UserError(f"`n` must be >= 1, got {n}")
        rng = torch.Generator().manual_seed(seed)
        latent = torch.randn(n, self.config.hyper.latent, generator=rng)
        module = self.raw_generator if raw else self.generator
        return synthesize(module, latent, self._condition(n, rng, given), self._like)

    def evaluate(
        self,
        data: Data | None = None,
        *,
        n: int | None = None,
        seed: int = 0,
        features: str | None = None,
        seconds: float | None = None,
    ) -> Evaluation:
        """Judge samples against data by numbers that do not come from the critic.

        Args:
            data: What to compare with; None: what the run was trained on.
            n: Samples of each; None: as many as the data has, at most 2,000.
            seed: Of the samples.
            features: Where Frechet and kernel distances are taken: ``raw``, ``pca:K``, a weights
                file, or ``module:function``; None: chosen by the samples' length.
            seconds: Judge fewer samples if so many would take longer (at least 400).
        """
        source, training, heldout = self._sources(data)
        if n is not None and source.size is not None and n > source.size:
            raise UserError(f"`n` is {n} and the data has {source.size} samples")
        count = _JUDGED if n is None else n
        if source.size is not None:
            count = min(count, source.size)
        if seconds is not None and count > _FEW:
            began = time.monotonic()
            self.evaluate(data, n=_FEWEST, seed=seed, features=features)  # imports, first reads
            few = self.evaluate(data, n=_FEW, seed=seed, features=features)
            left = seconds - (time.monotonic() - began)
            fits = int(_FEW * math.sqrt(max(left, 0.0) / few.seconds))  # work grows as the square
            if fits <= _FEW:
                return few
            count = min(fits, count)
        reference = _own(source, count)
        scale = self._metric_scale()
        space = feature_space(
            features, reference, scale=scale, low=self.codec.low, high=self.codec.high
        )
        return judge_samples(
            self.sample(count, seed=seed),
            reference,
            train=_own(training, 5_000) if training else None,
            heldout=_own(heldout, _JUDGED) if heldout else None,
            more_real=_own(heldout, count) if source.size is None and heldout else None,
            reference_name=source.name,
            unit="pixel levels" if self.codec.dtype == "uint8" else "the data's units",
            scale=scale,
            features=space,
            modes=source if isinstance(source, KnownModes) else None,
            seed=seed,
        )

    def _metric_scale(self) -> NDArray[np.float64] | None:
        """Columns of a table differ in unit; neighbours are found in standardised ones."""
        scale = self.codec.values.scale
        return np.asarray(scale) if len(scale) > 1 else None

    def _sources(self, data: Data | None) -> tuple[Source, Source | None, Source | None]:
        """The data to judge against, and the run's own split where that is the data."""
        options = data_options(self.run.config)
        if data is None:
            if self.config.data == "array":
                raise UserError("the run's data was in memory: give it again as `data`")
            data = self.config.data
        source = looked_up(lambda: open_source(data, options), recorded_plugins(self.run.config))
        if source.codec.own_shape != self.codec.own_shape:
            raise UserError(
                f"the run's samples have shape {self.codec.own_shape} and the data's "
                f"{source.codec.own_shape}; they cannot be compared"
            )
        if source.fingerprint != self.run.card["data"]["fingerprint"]:
            return source, None, None
        training, heldout = source.split(self.config.holdout, self.config.seed)
        return source, training, heldout if heldout.size is None or heldout.size > 1 else None

    def _condition(self, n: int, rng: torch.Generator, given: Given | None) -> Tensor | None:
        names = self.codec.condition
        if not names:
            if given:
                raise UserError(f"the run is not conditional; it cannot be given {list(given)}")
            return None
        assert self._conditions is not None
        rows = torch.randint(len(self._conditions), (n,), generator=rng)
        condition = self._conditions[rows].clone()
        if given is None:
            return condition
        own = self.codec.conditions.decode(condition.numpy())
        for name, value in given.items():
            if name not in names:
                raise UnknownNameError("condition", name, names)
            column = np.asarray(value, dtype=np.float64)
            if column.shape not in ((), (n,)):
                raise UserError(f"condition `{name}` needs one value or {n}, got {column.shape}")
            if not np.isfinite(column).all():
                raise UserError(f"condition `{name}` must be finite, got {value}")
            own[:, names.index(name)] = column
        return self.codec.encode_condition(own)


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
) -> tuple[Session, tuple[Departure, ...]]:
    """Open the data, resolve the settings and create the run, in this order.

    Returns:
        The session before its first step, and where `auto` departed from the published settings.
    """
    started = time.monotonic() if started is None else started
    given = dict(settings)
    array = None
    if isinstance(condition, str) or (
        isinstance(condition, Sequence) and all(isinstance(c, str) for c in condition)
    ):
        given["condition"] = condition
    elif condition is not None:
        array = np.asarray(condition)
    recorded, options = recorded_plugins(given), data_options(given)
    source = looked_up(
        lambda: open_source(data, options, condition=array, progress=progress), recorded
    )
    name = str(data) if isinstance(data, (str, os.PathLike)) else "array"
    config, departures = looked_up(lambda: resolve(given, source, name), recorded)
    path = next_path(Path("runs"), f"{source.name}-{config.recipe}") if out is None else Path(out)
    session = Session.create(path, config, departures, source, generator=generator, critic=critic)
    session.started = started
    session.deadline = None if config.seconds is None else started + config.seconds
    return session, departures


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
) -> Session:
    """A session at the newest good checkpoint of a run; see :func:`resume`."""
    started = time.monotonic() if started is None else started
    directory = Run.open(run)
    if data is None:
        if directory.config.get("data") == "array":
            raise UserError(
                f"{directory.path} was trained on an array in memory; go on from Python: "
                "wgan.resume(run, data=array)"
            )
        data = directory.config["data"]
    options = data_options(directory.config)
    source = looked_up(
        lambda: open_source(data, options, condition=condition), recorded_plugins(directory.config)
    )
    config = config_of(directory, source)
    if steps is not None or seconds is not None:
        if steps is not None and steps < 1:
            raise UserError(f"`steps` must be >= 1, got {steps}")
        if seconds is not None and not 0 < seconds < math.inf:
            raise UserError(f"`seconds` must be > 0, got {seconds}")
        config = dataclasses.replace(config, steps=steps, seconds=seconds)
    session = Session.resume(
        directory, config, source, allow=allow, generator=generator, critic=critic
    )
    session.started = started
    session.deadline = None if config.seconds is None else started + config.seconds
    return session


def critic_passes(recipe: str) -> float:
    """Batches that the critic scores in a step of a recipe, penalties included; counted in one.

    Without a warm-up; the published ``n_critic``. A penalty's second derivative is not counted.
    """
    source = open_source("gaussians8")
    small = {"recipe": recipe, "settings": "published", "width": 2, "depth": 1}
    if get_recipe(recipe).settings.critic_network == "dcgan":  # which needs pictures
        small["network"] = "mlp"
    config, _ = resolve(
        {**small, "batch_size": 4, "generator_batch_size": 4, "warmup": False, "latent": 2},
        source,
        source.name,
    )
    state = build_state(config, source)
    if state.critic is None:
        return 0
    scored = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal scored
        scored += len(inputs[0])

    with state.critic.module.register_forward_hook(count):
        for _ in train_steps(state, source, until=1):
            pass
    return scored / 4


def finished(run: Run) -> bool:
    """Whether a run has reached the end of what it was asked for."""
    return run.card.get("status") == "finished"


def config_of(run: Run, source: Source) -> Config:
    """The configuration that a run directory holds."""
    # Complete, so that nothing of it is for `auto` to decide anew; made on a GPU, it can be sampled
    # without one.
    given = {**run.config, "settings": "published", "device": "auto"}
    data = str(run.config.get("data"))
    config, _ = looked_up(lambda: resolve(given, source, data), recorded_plugins(run.config))
    return dataclasses.replace(
        config,
        settings=str(run.config.get("settings")),
        steps=run.config.get("steps"),
        seconds=run.config.get("seconds"),
    )


@dataclasses.dataclass(frozen=True)
class _Shaped:
    """The shape of data that is not there: enough to build networks that fit it."""

    codec: Codec
    name: str = "nothing"
    size: int | None = None
    fingerprint: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codec.shape

    def batch(self, indices: Tensor) -> Any:
        raise AssertionError("there is no data")

    def describe(self) -> dict[str, Any]:
        return {}

    def split(self, holdout: float, seed: int) -> tuple[Source, Source]:
        raise AssertionError("there is no data")


def _own(source: Source, count: int) -> NDArray[Any]:
    """Up to `count` samples in own units, spread over the source."""
    if source.size is None:
        rows = torch.arange(count)
    else:
        count = min(count, source.size)
        rows = torch.arange(count) * source.size // max(count, 1)
    if not len(rows):
        return np.empty((0, *source.codec.own_shape))
    parts = [source.codec.decode(source.batch(part).values) for part in torch.split(rows, 1024)]
    return np.concatenate(parts)
