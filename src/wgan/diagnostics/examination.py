"""Everything that the doctor's rules may look at, gathered once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.data.base import Source, spread_rows
from wgan.data.codec import Codec
from wgan.diagnostics.probes import moved, norm, strides
from wgan.diagnostics.signs import Series
from wgan.training import TrainState
from wgan.training.losses import generate
from wgan.training.player import Player
from wgan.training.step import critic_loss, generator_loss
from wgan.types import Batch, Record

PROBED = 512
"""Latents by which a unit is told to be dead."""

_ROWS, _FEWEST, _NUMBERS = 5_000, 16, 2**24  # of the training data
ADAPTIVE = ("adam", "adamw", "optimistic-adam", "rmsprop")
"""Optimizers that move each weight by about their rate."""

_STILL = 1e-6  # spread of a unit over latents, against that of the others, below which it is dead


@dataclass(frozen=True)
class Layer:
    """How strongly one weight of a network is pulled.

    Attributes:
        name: Of the parameter.
        gradient: Root mean square of its gradient.
    """

    name: str
    gradient: float


@dataclass(frozen=True)
class Networks:
    """A few fresh passes through a run's networks.

    Attributes:
        critic: Its weights, from the data to the score; empty without a critic.
        generator: The generator's, from the latents on.
        dead: Share of the generator's hidden units that never change.
        critic_cosine: Cosine between the step that the critic's optimizer would take by what it
            remembers and the gradient's own direction; None for one that remembers nothing.
        batch_cosine: Cosine between the generator's gradients on two independent batches.
        moved: How far the generator's weights are from where they began, as a share of their norm
            then; None where that is not known.
        critic_step, generator_step: How far one update moves the weights, as a share of their norm.
        first_step: The larger of both players' rates as a share of the root mean square of their
            weights before the first step: about how far an adaptive optimizer's first updates go,
            in shares of the weights' norm. 0 for another optimizer.
    """

    critic: tuple[Layer, ...]
    generator: tuple[Layer, ...]
    dead: float
    critic_cosine: float | None
    batch_cosine: float
    moved: float | None
    critic_step: float
    generator_step: float
    first_step: float = 0.0


@dataclass(frozen=True)
class DataFacts:
    """What the training data look like, in standard deviations of each number.

    Attributes:
        rows: How many were looked at.
        constant: Names of the numbers of a sample that never change.
        numbers: How many numbers a sample has.
        duplicates: Share of the rows that are equal to one before.
        furthest: The number of a sample that lies furthest out, by name, and
        reach: how far, in interquartile ranges from the median; 0 for pictures.
        beyond: Share of rows with a number more than 20 of them out.
        size: Training samples in all; None: unlimited.
    """

    rows: int
    constant: tuple[str, ...]
    numbers: int
    duplicates: float
    furthest: str
    reach: float
    beyond: float
    size: int | None = None


@dataclass(frozen=True)
class Judged:
    """One number about the samples, beside the same for the data.

    Attributes:
        value: Of the samples.
        floor: Of other data.
        p_value: Where there is a test; else None.
    """

    value: float
    floor: float
    p_value: float | None = None


@dataclass(frozen=True)
class Examination:
    """What is known of a run. Whatever could not be had is empty or None.

    Attributes:
        steps: Generator updates recorded.
        curves: Every number of the records, with its steps.
        estimate: The key of the estimate of a distance, or None.
        meaning: Of the estimate, in words.
        config: The resolved configuration, plain data.
        reason: Why the run ended early, in words; empty otherwise.
        networks: Fresh passes.
        data: Of the training data.
        judged: Measures of samples by name.
        missing: What could not be looked at, and why, in words.
        floor: Between two held-out samples, where the excess is taken; None: as `audit.w1_floor`.
    """

    steps: int
    curves: Mapping[str, tuple[Series, Series]]
    estimate: str | None = None
    meaning: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    networks: Networks | None = None
    data: DataFacts | None = None
    judged: Mapping[str, Judged] = field(default_factory=dict)
    missing: str = ""
    floor: float | None = None

    def series(self, key: str | None) -> Series:
        """The values of a term; empty where it was not recorded."""
        return self.curves[key][1] if key is not None and key in self.curves else np.empty(0)

    def late(self, key: str | None, share: float = 0.25) -> float:
        """The median of a term over the last part of the run; NaN where there is none."""
        values = self.series(key)
        return (
            float(np.median(values[-max(1, int(share * len(values))) :]))
            if len(values)
            else math.nan
        )

    def last(self, key: str) -> float:
        """The last value of a term; NaN where there is none."""
        values = self.series(key)
        return float(values[-1]) if len(values) else math.nan

    def constraint(self, name: str) -> Mapping[str, Any] | None:
        """The fields of one of the run's constraints; None where it has none of this name."""
        found = (self.config.get("constraints") or {}).get(name)
        return found if isinstance(found, Mapping) else None


def curves(records: Sequence[Record]) -> dict[str, tuple[Series, Series]]:
    """Every finite number of the records with its steps, by name."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for record in records:
        step = record.get("step")
        for key, value in record.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if math.isfinite(value) and isinstance(step, int | float):
                steps, values = found.setdefault(key, ([], []))
                steps.append(float(step))
                values.append(float(value))
    return {key: (np.array(steps), np.array(values)) for key, (steps, values) in found.items()}


def first_step(state: TrainState, measured: Collection[str] = ()) -> float:
    """`Networks.first_step` of a state that has not moved yet.

    Args:
        state: With the weights of the start.
        measured: Rates that `auto` took, by name; they were measured on such networks.
    """
    found = [0.0]
    for role, player in (("generator", state.generator), ("critic", state.critic)):
        if player is None or f"{role}_lr" in measured:
            continue
        if player.spec.name in ADAPTIVE:
            count = sum(p.numel() for p in player.parameters)
            size = norm(player.parameters) / math.sqrt(count)
            found.append(player.spec.lr / size if size else 0.0)
    return max(found)


def look_at(
    state: TrainState, source: Source, start: Sequence[Tensor] | None, first: float = 0.0
) -> Networks:
    """Passes through the networks of a state, which is of no further use.

    Args:
        state: Restored from a checkpoint.
        source: What it trains on.
        start: The generator's weights before the first step, where they are known.
        first: What :func:`first_step` gave of the state before it was restored.

    Raises:
        NonFiniteError: A loss or a gradient is not finite.
    """
    method, player = state.method, state.generator
    batch = state.next_batch(source, method.batch_size)
    dead = dead_share(state, batch)
    player.module.train()
    away = None if start is None else moved(player.parameters, start)
    critic: tuple[Layer, ...] = ()
    cosine = None
    if state.critic is not None:
        loss, _ = critic_loss(state, batch)
        gradients = torch.autograd.grad(loss, state.critic.parameters, allow_unused=True)
        critic = _layers(state.critic.module, state.critic.parameters, gradients)
        cosine = _remembered_cosine(state.critic, gradients)
    flat = []
    for _ in range(2):
        batch = state.next_batch(source, method.generator_batch_size)
        loss, _ = generator_loss(state, batch)
        gradients = torch.autograd.grad(loss, player.parameters, allow_unused=True)
        flat.append(torch.cat([g.double().flatten() for g in gradients if g is not None]))
    generator = _layers(player.module, player.parameters, gradients)
    batch_cosine = float(flat[0] @ flat[1] / (flat[0].norm() * flat[1].norm()).clamp(min=1e-300))
    critic_step, generator_step = strides(state, source)
    return Networks(
        *(critic, generator, dead, cosine, batch_cosine, away, critic_step, generator_step),
        first_step=first,
    )


def _layers(
    module: nn.Module, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> tuple[Layer, ...]:
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    return tuple(
        Layer(name, float(gradient.double().square().mean().sqrt()))
        for name, parameter, gradient in zip(names, parameters, gradients, strict=True)
        if gradient is not None and parameter.dim() > 1
    )


def _remembered_cosine(player: Player, gradients: Sequence[Tensor | None]) -> float | None:
    """Between Adam's next direction without the new gradient, and the new gradient."""
    dot = first = second = 0.0
    for parameter, gradient in zip(player.parameters, gradients, strict=True):
        slots = player.optimizer.state.get(parameter, {})
        if gradient is None or "exp_avg" not in slots or not player.spec.beta1:
            continue
        step = slots["exp_avg"] / (slots["exp_avg_sq"].sqrt() + 1e-8)
        dot += float((step * gradient).double().sum())
        first += float(step.double().square().sum())
        second += float(gradient.double().square().sum())
    return dot / math.sqrt(first * second) if first * second > 0 else None


@torch.no_grad()
def dead_share(state: TrainState, batch: Batch) -> float:
    """Share of the generator's hidden units that say the same for every latent.

    A unit is a number, or a channel, that a linear or convolutional layer behind the first takes
    in, whatever activation made it; 0 where there is no such layer.
    """
    seen: list[NDArray[np.bool_]] = []
    latent = state.latents(PROBED if batch.condition is None else len(batch.condition))

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        units = inputs[0]
        if not isinstance(units, Tensor) or units.dim() < 2 or units.shape[1] == width:
            return
        if units.dim() > 2:
            units = units.flatten(2).transpose(1, 2).flatten(0, 1)
        spread = units.double().std(0)
        seen.append((spread <= _STILL * max(float(spread.max()), 1e-30)).cpu().numpy())

    module = state.generator.module
    width = latent.shape[1] + (0 if batch.condition is None else batch.condition.shape[1])
    hooks = [
        part.register_forward_pre_hook(note)
        for part in module.modules()
        if isinstance(part, _LAYERS)
    ]
    try:
        generate(module.eval(), latent, batch.condition)
    finally:
        for hook in hooks:
            hook.remove()
    return float(np.mean(np.concatenate(seen))) if seen else 0.0


_LAYERS = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def data_facts(source: Source) -> DataFacts:
    """What training samples look like: up to 5,000, and fewer of large ones."""
    codec = source.codec
    count = max(_FEWEST, min(_ROWS, _NUMBERS // math.prod(source.shape)))
    rows = spread_rows(source.size, count)
    values = torch.cat([source.batch(part).values for part in torch.split(rows, 1024)])
    flat = values.flatten(1).double().numpy()
    facts = facts_of(flat, _names(codec, flat.shape[1]), pictures=codec.kind != "rows")
    return replace(facts, size=source.size)


def _names(codec: Codec, numbers: int) -> list[str]:
    if codec.columns:
        return list(codec.columns)
    shape = codec.shape
    if len(shape) == 1:
        return [f"column {j}" for j in range(numbers)]
    return [str(tuple(int(i) for i in np.unravel_index(j, shape))) for j in range(numbers)]


def facts_of(values: NDArray[np.float64], names: Sequence[str], *, pictures: bool) -> DataFacts:
    """What rows ``[n, numbers]`` look like."""
    spread = values.std(0)
    still = np.flatnonzero(spread <= 1e-12 * (1 + np.abs(values[0]))).tolist()
    constant = tuple(names[j] for j in still)
    _, first = np.unique(values, axis=0, return_index=True)
    duplicates = 1 - len(first) / len(values)
    furthest, reach, beyond = "", 0.0, 0.0
    if not pictures:
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        width = np.where(high > low, high - low, np.where(spread > 0, spread, np.inf))
        out = np.abs(values - middle) / width
        j = int(out.max(0).argmax())
        furthest, reach = str(names[j]), float(out[:, j].max())
        beyond = float((out > 20).any(1).mean())
    return DataFacts(len(values), constant, values.shape[1], duplicates, furthest, reach, beyond)
