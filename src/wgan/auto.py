"""A recipe's settings for the data and the machine at hand: published, and what `auto` changes.

`published` fills in what the network decides. `auto` starts from there and departs where the data's
shape and the machine suggest; every departure carries its reason.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from wgan.constraints import (
    Constraint,
    GradientPenalty,
    Orthogonal,
    SpectralNormalisation,
    WeightClipping,
)
from wgan.objectives import (
    Cramer,
    GaussianMmd,
    MaxSliced,
    Objective,
    QuadraticCost,
    RationalQuadraticMmd,
    Sinkhorn,
    Sliced,
    TwoStep,
)
from wgan.recipes import NETWORK_DEFAULTS, Recipe, Settings, fits

_SMALL_SIDE = 32  # pixels
_SMALL = 8  # numbers a sample, below which data counts as low-dimensional


@dataclass(frozen=True)
class Facts:
    """What `auto` looks at.

    Attributes:
        kind: image, volume or rows.
        shape: One sample in training units.
        size: Samples to train on; None: unlimited.
        network: The critic's network.
        device: cpu or cuda.
    """

    kind: str
    shape: tuple[int, ...]
    size: int | None
    network: str
    device: str


@dataclass(frozen=True)
class Departure:
    """One setting that `auto` changed, and why."""

    field: str
    published: Any
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.field} {_short(self.published)} -> {_short(self.value)}: {self.reason}"


def published(recipe: Recipe, facts: Facts) -> Settings:
    """The recipe's settings with what the network decides filled in."""
    settings = recipe.settings
    filled: dict[str, Any] = {
        "generator_network": settings.generator_network or fits(facts.kind, facts.shape),
        "critic_network": settings.critic_network or fits(facts.kind, facts.shape),
        "generator_batch_size": settings.generator_batch_size or settings.batch_size,
    }
    defaults = NETWORK_DEFAULTS.get(facts.network, NETWORK_DEFAULTS["mlp"])
    for name, value in defaults.items():
        filled[name] = value if getattr(settings, name) is None else getattr(settings, name)
    critic_norm = settings.critic_norm or "none"
    if facts.network not in (
        "dcgan",
        "resnet",
    ):  # the papers normalise their convolutional critics only
        critic_norm = "none"
    return replace(settings, **filled, critic_norm=critic_norm)


def auto(recipe: Recipe, facts: Facts) -> list[Departure]:
    """Where to depart from the published settings for this data on this machine.

    The rules are few and measured (docs/recipes.md); each states its reason, and the caller prints
    it. A field of the objective is called ``objective.field``, one of a constraint
    ``constraint.field``.
    """
    start = published(recipe, facts)
    numbers = math.prod(facts.shape)
    small = numbers <= _SMALL
    mlp = facts.network not in ("dcgan", "dcgan-constant", "resnet")
    wanted: dict[str, tuple[Any, str]] = {"steps": (5_000, "a first look; `wgan resume` goes on")}
    if mlp and small:
        wanted["width"] = (64, "a few numbers a sample need no more")
        wanted |= _batches_of(256, "small samples are cheap, and large batches less noisy")
        wanted["latent"] = (max(2, numbers), "as many numbers as a sample has")
        wanted["steps"] = (8_000, "a first look; `wgan resume` goes on")
    elif mlp and facts.device == "cpu":
        wanted["width"] = (256, "half the width is three times as fast on a CPU")
    elif facts.device == "cpu":
        wanted |= _on_pictures(recipe, start, facts)
    if start.critic_norm == "layer" or (start.critic_norm == "batch" and recipe.constraints):
        wanted["critic_norm"] = ("none", "so that the critic's slope can be certified")
    if start.average == 0:
        wanted["average"] = (0.999, "the averaged generator's samples are better")
    if start.schedule != "constant" and mlp:
        wanted["schedule"] = ("constant", "rates that have fallen leave `wgan resume` little to do")
    if mlp:
        for player in ("generator_lr", "critic_lr"):
            wanted[player] = (1e-3, "a small network learns ten times as fast and stays stable")
    if start.warmup and mlp:
        wanted["warmup"] = (False, "steps with 100 critic updates stall a short run")
    if recipe.objective.uses_critic and start.n_critic > 2 and mlp:
        wanted["n_critic"] = (2, "more generator updates a second; the critic keeps up")
    if start.critic_passes > 2 and mlp:
        wanted["critic_passes"] = (2, "more generator updates a second; the critic keeps up")
    if mlp and small:
        wanted |= _on_few_numbers(recipe, start)
    wanted |= recipe.auto
    for name in ("batch_size", "generator_batch_size"):
        batch = wanted.get(name, (getattr(start, name),))[0]
        if facts.size is not None and facts.size < batch:
            wanted[name] = (facts.size, f"there are {facts.size} samples to train on")
    departures = [
        Departure(name, _current(recipe, start, name), value, reason)
        for name, (value, reason) in wanted.items()
    ]
    return [d for d in departures if d.value != d.published]


def small_pictures(kind: str, shape: tuple[int, ...]) -> bool:
    """Whether data are pictures of at most 32 pixels a side, whose steps are short."""
    return kind == "image" and max(shape[1:]) <= _SMALL_SIDE


def _on_pictures(recipe: Recipe, start: Settings, facts: Facts) -> dict[str, tuple[Any, str]]:
    """What convolutional networks want without a GPU; measured by `benchmarks/quality.py`."""
    wanted: dict[str, tuple[Any, str]] = {
        "width": (32, "a quarter of the arithmetic on a machine without a GPU")
    }
    if start.schedule == "constant":
        wanted["schedule"] = ("linear", "rates that fall to nothing end much nearer to the data")
    if start.optimizer != "adam" or start.n_critic < 3:
        return wanted
    penalised = any(isinstance(c, GradientPenalty) for c in recipe.constraints)
    small = small_pictures(facts.kind, facts.shape)
    rate, n_critic = (4e-3, 1) if penalised and small else (5e-4, 2)
    wanted["n_critic"] = (n_critic, "on a CPU generator updates are what is short")
    for player in ("generator_lr", "critic_lr"):
        wanted[player] = (rate, "weights begin small and time is short")
    return wanted


def _on_few_numbers(recipe: Recipe, start: Settings) -> dict[str, tuple[Any, str]]:
    """What narrow networks on low-dimensional data want beside a width and a rate."""
    wanted: dict[str, tuple[Any, str]] = {}
    objective = recipe.objective
    for constraint in recipe.constraints:
        if isinstance(constraint, GradientPenalty) and constraint.weight > 1:
            wanted["gradient-penalty.weight"] = (0.1, "a heavy penalty blurs what is this small")
        elif isinstance(constraint, WeightClipping):
            wanted["weight-clipping.bound"] = (0.1, "0.01 leaves a narrow critic hardly any slope")
        elif isinstance(constraint, SpectralNormalisation):
            # At 1e-3 a seed in three of wgan-sn and sngan stays in one mode of eight.
            wanted["generator_lr"] = (3e-4, "a critic held by its norms learns slowly")
        elif isinstance(constraint, Orthogonal) and start.n_critic > 1:
            wanted["n_critic"] = (1, "layers that bound the slope leave less to learn")
    if objective.uses_critic and start.beta1 == 0:
        wanted["beta1"] = (0.5, "some momentum, as Gulrajani et al. have in the plane")
    if start.dropout:
        wanted["dropout"] = (0.05, "a narrow critic cannot spare half of its units")
    if isinstance(objective, MaxSliced):
        wanted |= _batches_of(1024, "in a small batch clusters differ in size by chance")
        wanted["objective.n_directions"] = (4, "few starts find the worst direction of a plane")
        wanted["objective.iterations"] = (10, "many rough steps beat a few exact ones")
    elif isinstance(objective, Sliced):
        wanted |= _batches_of(4096, "sorting is cheap; by chance small batches differ in clusters")
        wanted["objective.n_directions"] = (8, "the plane has few directions, drawn anew each step")
    elif isinstance(objective, _ALL_PAIRS):
        wanted |= _batches_of(64, "comparing all pairs costs the square of the batch")
    if isinstance(objective, Sinkhorn):
        wanted["objective.iterations"] = (10, "many rough steps beat a few exact ones")
    if isinstance(objective, GaussianMmd):
        wanted["objective.rank_weight"] = (0.0, "the rank term drives samples past the data")
    if isinstance(objective, Cramer):
        wanted["features"] = (16, "a few numbers need no long code")
    return wanted


def _batches_of(size: int, reason: str) -> dict[str, tuple[Any, str]]:
    """Both players' batch sizes; an objective without a critic sees the generator's alone."""
    return dict.fromkeys(("batch_size", "generator_batch_size"), (size, reason))


_ALL_PAIRS = (Cramer, GaussianMmd, RationalQuadraticMmd, TwoStep, QuadraticCost, Sinkhorn)
"""Objectives that compare every real sample with every fake one, at more than a distance each."""


def _current(recipe: Recipe, settings: Settings, name: str) -> Any:
    """The published value of a setting, ``objective.field`` or ``constraint.field``."""
    part, dot, field_name = name.partition(".")
    if not dot:
        return getattr(settings, name)
    if part == "objective":
        return getattr(recipe.objective, field_name)
    (found,) = (c for c in recipe.constraints if c.name == part)
    return getattr(found, field_name)


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe in plain data, with its published and auto settings for pictures and for rows."""
    settings = {}
    for kind, shape in (("image", (3, 64, 64)), ("rows", (2,))):
        variant = recipe.on(kind, shape)
        network = variant.settings.critic_network or fits(kind, shape)
        facts = Facts(kind, shape, None, network, "cpu")
        settings[f"{kind} {'x'.join(map(str, shape))}"] = {
            "objective": {"name": variant.objective.name, **_fields(variant.objective)},
            "constraints": {c.name: _fields(c) for c in variant.constraints},
            "published": asdict(published(variant, facts)),
            "auto": [str(departure) for departure in auto(variant, facts)],
        }
    return {
        "name": recipe.name,
        "title": recipe.title,
        "source": recipe.source,
        "year": recipe.year,
        "meaning": recipe.objective.meaning,
        "settings": settings,
    }


def _fields(part: Objective | Constraint) -> dict[str, Any]:
    return asdict(part)  # type: ignore[call-overload, no-any-return]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
