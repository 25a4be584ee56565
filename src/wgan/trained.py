"""A trained run: samples, networks, records, judgement."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.build import build_state
from wgan.card import codec_of
from wgan.config import Config, data_options, resolve
from wgan.data import open_source
from wgan.data.base import Source, spread_rows
from wgan.data.codec import Codec
from wgan.errors import UnknownNameError, UserError
from wgan.metrics.evaluate import evaluate as judge_samples
from wgan.metrics.evaluation import Evaluation
from wgan.metrics.features import feature_space
from wgan.metrics.modes import KnownModes
from wgan.plugins import changes, looked_up, recorded_plugins
from wgan.run import Checkpoint, Run
from wgan.training import synthesize
from wgan.types import Record

_JUDGED = 2_000  # samples of each that an evaluation takes by itself
_FEW, _FEWEST = 400, 20  # of each, where time is short

Data = str | os.PathLike[str] | NDArray[Any] | Tensor | Source
"""A name, a path, an array in memory, or a source."""

Given = Mapping[str, float | Sequence[float] | NDArray[Any]]
"""Conditions to sample under, by name: one value for all samples, or one for each."""


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
        checkpoint: ``latest``, ``best`` (the smallest excess of the run's audits), or a step.
        said: Lines for the user: a checkpoint that is damaged, data or versions that have changed,
            conditions beyond those of training.
    """

    def __init__(
        self,
        run: Run,
        generator: nn.Module | None,
        critic: nn.Module | None,
        checkpoint: str | int = "latest",
    ) -> None:
        self.run = run
        self.checkpoint = checkpoint
        self.codec: Codec = codec_of(run)
        self.config: Config = config_of(run, _Shaped(self.codec))
        saved, self.said = _chosen(run, checkpoint)
        before = recorded_plugins(run.config)  # the data's is not needed here
        self.said += changes(
            {name: before[name] for name in self.config.plugins if name in before},
            self.config.plugins,
        )
        state = build_state(self.config, _Shaped(self.codec), generator, critic)
        state.load(saved.tensors, saved.plain)
        self.step = state.step
        self.generator = state.average.eval()
        self.raw_generator = state.generator.module.eval()
        self.critic = state.critic.module.eval() if state.critic else None
        self._like = state.like
        self._conditions = saved.tensors.get("conditions")

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

    def sample_under(self, condition: Tensor | None, n: int, seed: int) -> Tensor:
        """Samples ``[n, *shape]`` in training units under conditions ``[n, k]`` in theirs."""
        rng = torch.Generator().manual_seed(seed)
        latent = torch.randn(n, self.config.hyper.latent, generator=rng)
        return synthesize(self.generator, latent, condition, self._like)

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
        source, training, heldout = self.sources(data)
        if n is not None and source.size is not None and n > source.size:
            raise UserError(f"`n` is {n} and the data has {source.size} samples")
        count = _JUDGED if n is None else n
        if source.size is not None:
            count = min(count, source.size)
        if seconds is not None and count > _FEW:
            began = time.monotonic()
            self.evaluate(data, n=_FEWEST, seed=seed, features=features)  # imports, first reads
            few = self.evaluate(data, n=_FEW, seed=seed, features=features)
            left = 0.7 * (seconds - (time.monotonic() - began))  # other work may slow it
            fits = int(_FEW * math.sqrt(max(left, 0.0) / few.seconds))  # work grows as the square
            if fits <= _FEW:
                return few
            count = min(fits, count)
        reference, more = own_samples(source, count), None
        if source.size is None and heldout is not None:
            more = own_samples(heldout, count)
        elif source.size is not None and 2 * count <= source.size:
            both = own_samples(source, 2 * count)  # enough for a floor at the full size
            reference, more = both[::2], both[1::2]
        scale = self._metric_scale()
        space = feature_space(
            features, reference, scale=scale, low=self.codec.low, high=self.codec.high
        )
        return judge_samples(
            self.sample(count, seed=seed),
            reference,
            train=own_samples(training, 5_000) if training else None,
            heldout=own_samples(heldout, _JUDGED) if heldout else None,
            more_real=more,
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

    def sources(self, data: Data | None = None) -> tuple[Source, Source | None, Source | None]:
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
            if data == self.config.data:
                self._say(
                    f"{data} is not what the run was trained on any more, so that memorisation "
                    "and copies cannot be judged"
                )
            return source, None, None
        training, heldout = source.split(self.config.holdout, self.config.split_seed)
        return source, training, heldout if heldout.size is None or heldout.size > 1 else None

    def _say(self, line: str) -> None:
        """Have something said, once."""
        if line not in self.said:
            self.said.append(line)

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
        trained = self.codec.conditions.decode(self._conditions.numpy())
        for name, value in given.items():
            if name not in names:
                raise UnknownNameError("condition", name, names)
            column = np.asarray(value, dtype=np.float64)
            if column.shape not in ((), (n,)):
                raise UserError(f"condition `{name}` needs one value or {n}, got {column.shape}")
            if not np.isfinite(column).all():
                raise UserError(f"condition `{name}` must be finite, got {value}")
            at = names.index(name)
            low, high = trained[:, at].min(), trained[:, at].max()
            slack = 1e-4 * (high - low)  # of a column that was standardised and back
            if column.min() < low - slack or column.max() > high + slack:
                self._say(
                    f"condition `{name}` was between {low:.6g} and {high:.6g} in training; beyond "
                    "that, samples are extrapolated"
                )
            own[:, at] = column
        return self.codec.encode_condition(own)


def _chosen(run: Run, checkpoint: str | int) -> tuple[Checkpoint, list[str]]:
    if checkpoint == "latest":
        return run.latest()
    step = run.best_step() if checkpoint == "best" else checkpoint
    if step is None:
        raise UserError(f"{run.path} has no best checkpoint: no audit of it has been made")
    if not isinstance(step, int) or step not in run.steps():
        have = ", ".join(map(str, run.steps()))
        raise UserError(
            f"{run.path} has no checkpoint {checkpoint!r}; it has latest, best and the steps {have}"
        )
    return run.load(step), []


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


def own_samples(source: Source, count: int) -> NDArray[Any]:
    """Up to `count` samples in own units, spread over the source."""
    rows = spread_rows(source.size, count)
    if not len(rows):
        return np.empty((0, *source.codec.own_shape))
    parts = [source.codec.decode(source.batch(part).values) for part in torch.split(rows, 1024)]
    return np.concatenate(parts)
