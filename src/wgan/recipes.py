"""Published methods as named compositions, and what changes when a laptop is to run them.

A recipe is an objective, its constraints and its settings, as published. `auto` settings start from
those and depart where the data's shape and the machine suggest; every departure carries its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from wgan.constraints import Constraint, GradientPenalty, WeightClipping
from wgan.errors import UnknownNameError
from wgan.objectives import Objective, Standard, Wasserstein


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of a recipe. None: decided by the network, or not a setting it has.

    Attributes:
        batch_size: Real samples in a critic update, over all processes.
        generator_batch_size: Fake samples in a generator update; None: `batch_size`.
        n_critic: Batches that the critic sees per step.
        critic_passes: Updates that it makes on each.
        warmup: 100 critic batches in each of the first 25 steps and in every 500th.
        optimizer: adam, adamw, rmsprop or sgd, for both players.
        generator_lr, critic_lr: Learning rates.
        beta1, beta2: Of Adam and AdamW; `beta1` is the momentum of SGD.
        alpha: Of RMSProp.
        schedule: Of both rates: constant, linear or cosine.
        clip_norm: Largest norm of a gradient; None: any.
        average: Decay of the generator's running average; 0: none.
        latent: Length of a latent vector.
        generator, critic: Networks; None: dcgan for pictures with sides of 16 and more, else mlp.
        width: Units (mlp, 512) or filters (dcgan, 64).
        depth: Hidden layers of an mlp (3); a dcgan's follows from the picture.
        generator_norm: none, layer or batch; None: batch for a dcgan, none otherwise.
        critic_norm: The same; None: none.
        features: Features that the critic gives before its score; None: its last hidden layer.
        steps: Length of a run.
    """

    batch_size: int = 64
    generator_batch_size: int | None = None
    n_critic: int = 5
    critic_passes: int = 1
    warmup: bool = False
    optimizer: str = "adam"
    generator_lr: float = 1e-4
    critic_lr: float = 1e-4
    beta1: float | None = 0.0
    beta2: float | None = 0.9
    alpha: float | None = None
    schedule: str = "constant"
    clip_norm: float | None = None
    average: float = 0.0
    latent: int = 64
    generator: str | None = None
    critic: str | None = None
    width: int | None = None
    depth: int | None = None
    generator_norm: str | None = None
    critic_norm: str | None = None
    features: int | None = None
    steps: int = 100_000


@dataclass(frozen=True)
class Recipe:
    """A published method.

    Attributes:
        name: On the command line.
        title: In a sentence.
        source: Authors and title.
        year: Of publication.
        objective: What the players minimise.
        constraints: What keeps the critic Lipschitz.
        settings: As published.
        auto: Settings of its own that `auto` changes, with the reason.
    """

    name: str
    title: str
    source: str
    year: int
    objective: Objective
    constraints: tuple[Constraint, ...] = ()
    settings: Settings = Settings()
    auto: Mapping[str, tuple[Any, str]] = field(default_factory=dict)


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


_ADAM_TOY = Settings(beta1=0.5)
_RMSPROP = Settings(
    optimizer="rmsprop", generator_lr=5e-5, critic_lr=5e-5, beta1=None, beta2=None, alpha=0.99
)
_DCGAN = Settings(
    batch_size=128, n_critic=1, generator_lr=2e-4, critic_lr=2e-4, beta1=0.5, beta2=0.999
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "wgan",
            "The Wasserstein GAN: a critic kept Lipschitz by clipping its weights",
            "Arjovsky, Chintala, Bottou: Wasserstein Generative Adversarial Networks, Algorithm 1",
            2017,
            Wasserstein(),
            (WeightClipping(0.01),),
            replace(_RMSPROP, critic_norm="batch", steps=200_000),
        ),
        Recipe(
            "wgan-gp",
            "The Wasserstein GAN with a penalty on the critic's slope between real and fake",
            "Gulrajani et al.: Improved Training of Wasserstein GANs, Algorithm 1",
            2017,
            Wasserstein(),
            (GradientPenalty(10.0),),
            Settings(critic_norm="layer", steps=200_000),
        ),
        Recipe(
            "wgan-lp",
            "As wgan-gp, but only slopes above 1 are penalised",
            "Petzka, Fischer, Lukovnicov: On the regularization of Wasserstein GANs",
            2018,
            Wasserstein(),
            (GradientPenalty(10.0, one_sided=True),),
            Settings(generator_lr=2e-4, critic_lr=2e-4, critic_norm="layer", steps=100_000),
        ),
        Recipe(
            "gan",
            "The standard GAN in its minimax form",
            "Goodfellow et al.: Generative Adversarial Nets",
            2014,
            Standard("minimax"),
            (),
            replace(_DCGAN, critic_norm="batch", steps=50_000),
        ),
        Recipe(
            "gan-ns",
            "The standard GAN with the generator's loss that does not saturate",
            "Goodfellow et al.: Generative Adversarial Nets, section 3",
            2014,
            Standard("non-saturating"),
            (),
            replace(_DCGAN, critic_norm="batch", steps=50_000),
        ),
    )
}

NETWORK_DEFAULTS: dict[str, dict[str, Any]] = {
    "mlp": {"width": 512, "depth": 3, "generator_norm": "none"},
    "dcgan": {"width": 64, "depth": None, "generator_norm": "batch"},
    "dcgan-constant": {"width": 64, "depth": None, "generator_norm": "none"},
}
"""What a network has in the papers where a recipe does not say otherwise."""


def get_recipe(name: str) -> Recipe:
    """The recipe of this name; raises `UnknownNameError` with the nearest one."""
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]


def fits(kind: str, shape: tuple[int, ...]) -> str:
    """The network for data of this shape: dcgan for pictures of 16 and more a side, else mlp."""
    return "dcgan" if kind == "image" and min(shape[1:]) >= 16 else "mlp"


def published(recipe: Recipe, facts: Facts) -> Settings:
    """The recipe's settings with what the network decides filled in."""
    settings = recipe.settings
    filled: dict[str, Any] = {
        "generator": settings.generator or fits(facts.kind, facts.shape),
        "critic": settings.critic or fits(facts.kind, facts.shape),
        "generator_batch_size": settings.generator_batch_size or settings.batch_size,
    }
    defaults = NETWORK_DEFAULTS.get(facts.network, NETWORK_DEFAULTS["mlp"])
    for name, value in defaults.items():
        filled[name] = value if getattr(settings, name) is None else getattr(settings, name)
    critic_norm = settings.critic_norm or "none"
    if facts.network != "dcgan":  # the papers normalise their convolutional critics only
        critic_norm = "none"
    return replace(settings, **filled, critic_norm=critic_norm)


def auto(recipe: Recipe, facts: Facts) -> list[Departure]:
    """Where to depart from the published settings for this data on this machine.

    The rules are few and measured; each states its reason, and the caller prints it.
    """
    start = published(recipe, facts)
    numbers = 1
    for side in facts.shape:
        numbers *= side
    wanted: dict[str, tuple[Any, str]] = {}
    if facts.network == "mlp":
        if numbers <= 4:
            wanted["width"] = (128, "two or three numbers a sample need no more")
        elif facts.device == "cpu":
            wanted["width"] = (256, "half the width is three times as fast here")
        wanted["steps"] = (5_000, "a first look; `wgan resume --steps` goes on")
    else:
        if facts.device == "cpu":
            wanted["width"] = (32, "a quarter of the arithmetic on a machine without a GPU")
        wanted["steps"] = (5_000, "a first look; `wgan resume --steps` goes on")
    if start.critic_norm == "layer":
        wanted["critic_norm"] = ("none", "so that the critic's slope can be certified")
    if start.critic_norm == "batch" and recipe.constraints:
        wanted["critic_norm"] = ("none", "so that the critic's slope can be certified")
    if start.average == 0:
        wanted["average"] = (0.999, "the averaged generator's samples are better")
    if facts.network == "mlp" and start.optimizer == "adam":
        for player in ("generator_lr", "critic_lr"):
            wanted[player] = (1e-3, "a small network learns ten times as fast and stays stable")
    if recipe.objective.uses_critic and start.n_critic > 2 and facts.network == "mlp":
        wanted["n_critic"] = (2, "more generator updates a second; the critic keeps up")
    if facts.size is not None and facts.size < start.batch_size:
        wanted["batch_size"] = (facts.size, f"there are {facts.size} samples to train on")
    wanted |= recipe.auto
    return [
        Departure(name, getattr(start, name), value, reason)
        for name, (value, reason) in wanted.items()
        if getattr(start, name) != value
    ]


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe in plain data, with its published and auto settings for pictures and for rows."""
    settings = {}
    for kind, shape in (("image", (3, 64, 64)), ("rows", (2,))):
        facts = Facts(kind, shape, None, recipe.settings.critic or fits(kind, shape), "cpu")
        settings[f"{kind} {'x'.join(map(str, shape))}"] = {
            "published": asdict(published(recipe, facts)),
            "auto": [str(departure) for departure in auto(recipe, facts)],
        }
    return {
        "name": recipe.name,
        "title": recipe.title,
        "source": recipe.source,
        "year": recipe.year,
        "objective": {"name": recipe.objective.name, **_fields(recipe.objective)},
        "constraints": {c.name: _fields(c) for c in recipe.constraints},
        "meaning": recipe.objective.meaning,
        "critic_passes_per_step": critic_passes(recipe),
        "settings": settings,
    }


def critic_passes(recipe: Recipe) -> int:
    """Batches that the critic scores per step: real and fake, what penalties add, the generator's.

    Without a warm-up. A penalty's second backward is not counted apart.
    """
    if not recipe.objective.uses_critic:
        return 0
    update = 1 + recipe.objective.n_fakes + sum(c.passes for c in recipe.constraints)
    updates = recipe.settings.n_critic * recipe.settings.critic_passes
    return updates * update + recipe.objective.n_fakes


def _fields(part: Objective | Constraint) -> dict[str, Any]:
    return asdict(part)  # type: ignore[call-overload, no-any-return]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
