"""What weight clipping does to a critic: weights at two ends, gradients by depth, simple surfaces.

"Weight clipping pushes weights to +c or -c, producing a binary weight distribution rather than the
rich one a deep network can use." "c too small makes activations and gradients vanish through depth;
choosing it too large makes them blow up." Clipped critics are too simple: their value surfaces
ignore all but the coarsest structure of the data, where those of the gradient penalty follow it.

Critics are trained alone. A 12-layer ReLU MLP on the swiss roll gives the weights and the norms of
the loss's gradient with respect to what enters each layer, for several c and for the penalty. A
3-layer one on 8 Gaussians, 25 Gaussians and the swiss roll gives the surfaces. All are trained
against the data plus N(0, 1), as in the paper. How much a surface tells: the mean cosine, at noisy
samples, of the critic's gradient with the way that the exact transport between samples would take
them. It has no unit, so that critics of any scale compare.

Source: the encyclopedia, "Weight clipping and its pathologies"; Gulrajani et al. 2017, section 3,
figures 1 and 2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.constraints import Constraint, GradientPenalty, WeightClipping, input_gradient
from wgan.data.synthetic import SYNTHETIC, Synthetic
from wgan.experiments.reproduction.adversary import train_critic
from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import label, legend
from wgan.networks import NetworkSpec, Shapes, make_critic
from wgan.objectives import Wasserstein
from wgan.reports.style import MUTED, SERIES, series_style, tidy
from wgan.training import OptimizerSpec, bind_critic
from wgan.transport import exact

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
DATA = ("gaussians8", "gaussians25", "swissroll")
PENALTY = "gradient penalty"

CLAIMS = (
    Claim(
        "clipped_at_ends",
        "clipping drives the weights to the two ends of the box",
        "share of the 12-layer critic's weights within 1% of -c or c, c = .01",
        ">=",
        0.5,
    ),
    Claim(
        "penalised_not",
        "the gradient penalty does not",
        "share of its weights within 1% of the greatest",
        "<=",
        0.01,
    ),
    Claim(
        "small_c_vanishes",
        "gradients vanish with depth for a small c",
        "gradient norm at the first layer over that at the last, log10, c = .01",
        "<=",
        -3.0,
    ),
    Claim(
        "large_c_explodes",
        "and explode for a large one",
        "the same, c = .1",
        ">=",
        1.0,
    ),
    Claim(
        "penalised_neither",
        "with the penalty they do neither",
        "|log10| of the same ratio",
        "<=",
        1.0,
    ),
    Claim(
        "surfaces_simple",
        "value surfaces of clipped critics are too simple",
        "cosine of gradient and transport, penalised less clipped, mean of 3 data sets",
        ">=",
        0.05,
    ),
)


@dataclass(frozen=True)
class Settings:
    """Rates are higher than published, so that the updates are enough."""

    bounds: tuple[float, ...] = (0.001, 0.01, 0.1)
    penalty_weight: float = 10.0
    clipped_lr: float = 5e-4
    penalised_lr: float = 1e-3
    deep_layers: int = 12
    deep_width: int = 128
    deep_updates: int = 200
    surface_width: int = 64
    surface_bound: float = 0.1
    surface_penalty_weight: float = 0.1
    surface_updates: int = 600
    batch_size: int = 128
    judged: int = 1000
    seeds: int = 3


@dataclass(frozen=True, eq=False)
class Deep:
    """A 12-layer critic: its weights, and the norm of the gradient at each layer, first to last."""

    weights: Floats
    norms: Floats

    @property
    def first_over_last(self) -> float:
        """log10 of the norm at the first layer over that at the last."""
        tiny = np.finfo(np.float64).tiny
        return float(np.log10(max(self.norms[0], tiny)) - np.log10(max(self.norms[-1], tiny)))

    def at_ends(self, end: float) -> float:
        """The share of weights within 1% of -end or end."""
        return float((np.abs(self.weights) >= 0.99 * end).mean())


@dataclass(frozen=True, eq=False)
class Surface:
    """A critic over the plane: its scores on a grid, some data, its cosine with transport."""

    score: Floats
    real: Floats
    cosine: float


@dataclass(frozen=True, eq=False)
class Trial:
    """What one seed gives; `deep` by bound or penalty, `surfaces` by data and kind."""

    deep: dict[str, Deep]
    surfaces: dict[tuple[str, str], Surface]


def _critic(
    source: Synthetic,
    constraint: Constraint,
    spec: NetworkSpec,
    updates: int,
    seed: int,
    settings: Settings,
    budget: Budget,
) -> nn.Module:
    """A critic trained against the data plus N(0, 1)."""
    noisy = type(source)(seed, stream=1)
    drawn = 0

    def fakes(latent: Tensor) -> Tensor:
        nonlocal drawn
        drawn += len(latent)
        return noisy.batch(torch.arange(drawn - len(latent), drawn)).values + latent

    if isinstance(constraint, WeightClipping):
        optimizer = OptimizerSpec("rmsprop", settings.clipped_lr)
    else:
        optimizer = OptimizerSpec("adam", settings.penalised_lr, 0.5, 0.9)
    state = train_critic(
        make_critic("mlp", spec, Shapes((2,), latent=2), seed),
        source,
        fakes,
        Wasserstein(),
        optimizer,
        (constraint,),
        updates=updates,
        batch_size=settings.batch_size,
        latent=2,
        seed=seed,
        budget=budget,
    )
    assert state.critic is not None
    return state.critic.module


def look_deep(seed: int, constraint: Constraint, settings: Settings, budget: Budget) -> Deep:
    """Train a deep critic on the swiss roll and take its weights and gradients."""
    source = SYNTHETIC["swissroll"](seed)
    spec = NetworkSpec(settings.deep_width, settings.deep_layers)
    critic = _critic(
        source, constraint, spec, settings.deep_updates, seed, settings, budget
    ).double()
    entered: list[Tensor] = []
    linear = [layer for layer in critic.modules() if isinstance(layer, nn.Linear)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
        for layer in linear
    ]
    rng = torch.Generator().manual_seed(seed)
    rows = torch.arange(settings.judged, 2 * settings.judged)
    real = source.batch(rows).values.double()
    noise = torch.randn(real.shape, generator=rng, dtype=torch.float64)
    values = torch.cat([real, real.roll(1, 0) + noise]).requires_grad_()
    score = bind_critic(critic, None)(values).score
    loss = score[len(real) :].mean() - score[: len(real)].mean()
    gradients = torch.autograd.grad(loss, entered)
    for hook in hooks:
        hook.remove()
    weights = torch.cat([layer.weight.detach().flatten() for layer in linear])
    return Deep(weights.numpy(), np.array([float(one.norm()) for one in gradients]))


def look_flat(
    seed: int, name: str, constraint: Constraint, settings: Settings, budget: Budget
) -> Surface:
    """Train a critic on one data set; its surface, and its cosine with transport."""
    source = SYNTHETIC[name](seed)
    spec = NetworkSpec(settings.surface_width, 3)
    module = _critic(source, constraint, spec, settings.surface_updates, seed, settings, budget)
    critic = bind_critic(module, None)
    ticks = torch.linspace(-2, 2, 81)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    grid = torch.stack([x.flatten(), y.flatten()], 1)
    real = source.batch(torch.arange(10**6, 10**6 + settings.judged)).values
    rng = torch.Generator().manual_seed(seed)
    fake = source.batch(torch.arange(2 * 10**6, 2 * 10**6 + settings.judged)).values
    fake = fake + torch.randn(fake.shape, generator=rng)
    with torch.no_grad():
        score = critic(grid).score.reshape(81, 81).double().numpy()
    plan = exact(fake.double().numpy(), real.double().numpy())
    assert plan.matching is not None
    uphill = input_gradient(critic, fake).detach()
    cosine = torch.cosine_similarity(uphill, real[torch.from_numpy(plan.matching)] - fake)
    return Surface(score, real.double().numpy(), float(cosine.mean()))


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Critics for every bound and for the penalty, from every seed."""
    penalty = GradientPenalty(settings.penalty_weight)
    kinds: dict[str, Constraint] = {f"c = {c:g}": WeightClipping(c) for c in settings.bounds}

    def trial(seed: int) -> Trial:
        return Trial(
            deep={
                name: look_deep(seed, constraint, settings, budget)
                for name, constraint in {**kinds, PENALTY: penalty}.items()
            },
            surfaces={
                (name, kind): look_flat(seed, name, constraint, settings, budget)
                for name in DATA
                for kind, constraint in (
                    ("clipping", WeightClipping(settings.surface_bound)),
                    (PENALTY, GradientPenalty(settings.surface_penalty_weight)),
                )
            },
        )

    found = budget.trials(trial, settings.seeds)
    penalised = [one.deep[PENALTY] for one in found]
    return Outcome(
        statistics={
            "clipped_at_ends": [one.deep["c = 0.01"].at_ends(0.01) for one in found],
            "penalised_not": [one.at_ends(float(np.abs(one.weights).max())) for one in penalised],
            "small_c_vanishes": [one.deep["c = 0.01"].first_over_last for one in found],
            "large_c_explodes": [one.deep["c = 0.1"].first_over_last for one in found],
            "penalised_neither": [abs(one.first_over_last) for one in penalised],
            "surfaces_simple": [
                float(
                    np.mean(
                        [
                            one.surfaces[name, PENALTY].cosine
                            - one.surfaces[name, "clipping"].cosine
                            for name in DATA
                        ]
                    )
                )
                for one in found
            ],
        },
        settings=asdict(settings),
        figure=_draw(found, settings),
        notes={
            "cosine_with_transport": {
                f"{name}, {kind}": [one.surfaces[name, kind].cosine for one in found]
                for name, kind in found[0].surfaces
            }
        },
    )


def _draw(found: list[Trial], settings: Settings) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.8, 6.4), layout="constrained")
    grid = figure.add_gridspec(3, 6, height_ratios=[1.2, 1, 1])
    depth = figure.add_subplot(grid[0, :2])
    tidy(depth, size=9)
    for i, name in enumerate(found[0].deep):
        for k, one in enumerate(found):
            norms = np.maximum(one.deep[name].norms, 1e-30)
            depth.semilogy(
                range(1, len(norms) + 1), norms / norms[-1], color=series_style(i)["color"],
                lw=1.3, alpha=0.8, label=None if k else name,
            )  # fmt: skip
    label(depth, "Gradient at each layer", "layer, input to output", "norm, last layer = 1")
    depth.set_ylim(1e-28, None)
    depth.set_xticks(range(1, settings.deep_layers + 2, 3))
    legend(depth, loc="lower right", labelspacing=0.2)
    for place, name, end, colour in (
        (grid[0, 2:4], "c = 0.01", 0.01, SERIES[1]),
        (grid[0, 4:], PENALTY, None, SERIES[3]),
    ):
        axes = figure.add_subplot(place)
        tidy(axes, size=9)
        weights = found[0].deep[name].weights
        wide = end or float(np.quantile(np.abs(weights), 0.999))
        shares, edges = np.histogram(weights, np.linspace(-wide, wide * (1 + 1e-9), 42))
        axes.stairs(100 * shares / len(weights), edges, fill=True, color=colour)
        axes.locator_params(axis="x", nbins=5)
        label(axes, f"Weights, {name}", "weight", "share, %")
    for row, kind in enumerate(("clipping", PENALTY)):
        for column, name in enumerate(DATA):
            axes = figure.add_subplot(grid[1 + row, 2 * column : 2 * column + 2])
            tidy(axes, size=8)
            _surface(axes, found[0].surfaces[name, kind], f"{name}, {kind}")
    return figure


def _surface(axes: Axes, surface: Surface, title: str) -> None:
    ticks = np.linspace(-2, 2, len(surface.score))
    axes.grid(visible=False)
    axes.contour(ticks, ticks, surface.score, 14, colors=MUTED, linewidths=0.8, linestyles="solid")
    axes.scatter(
        surface.real[:400, 0], surface.real[:400, 1], s=4, c=SERIES[1], linewidths=0, zorder=3
    )
    axes.set_aspect("equal", adjustable="box")
    axes.set_xticks([-2, 0, 2])
    axes.set_yticks([-2, 0, 2])
    label(axes, f"{title}\ncosine with transport {surface.cosine:.2f}")
    axes.title.set_fontsize(9)


EXPERIMENT = Experiment(
    name="clipping-pathologies",
    title="Clipping drives weights to two ends, gradients to nothing or too much, surfaces flat",
    source="the encyclopedia, after Gulrajani et al. 2017, figures 1 and 2",
    claims=CLAIMS,
    data="swissroll, gaussians8, gaussians25, each against itself plus N(0, 1)",
    differs="Width 128 (deep) and 64 (surfaces) instead of 512, hundreds of updates at ten times "
    "the published rates instead of thousands at these; surfaces clipped at .1, without which "
    "a critic of this width is constant.",
    seconds=60,
    seeds=3,
    needed=3,
    run=run,
)
