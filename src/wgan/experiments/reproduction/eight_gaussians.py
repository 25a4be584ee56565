"""Eight Gaussians on a circle: the WGAN finds them all, the standard GAN rotates between them.

"In this mixture, the mode collapse problem of GANs is easy to visualize, since a normal GAN would
rotate between the different modes of the mixture, and fail to capture the whole distribution. Our
WGAN algorithm approximately finds the correct distribution, without any mode collapse."

The WGAN of Algorithm 1 and the GAN with the -log D loss, both with networks of the same size and no
averaged weights, looked at ten times. A mode is found if 4% of the samples are within .15 of its
centre (the circle's radius is 1.41). Rotation: the share of latents whose sample is nearest to
another mode than it was at the look before, in the second half of the run.

Source: Arjovsky, Chintala, Bottou 2017, section 4.1 and figure 2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.build import build_state
from wgan.config import resolve
from wgan.data.synthetic import Gaussians8
from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import cloud, label, legend
from wgan.metrics import mode_coverage
from wgan.reports.style import SERIES, tidy
from wgan.training import synthesize, train
from wgan.transport import exact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
RECIPES = {"WGAN": "wgan", "standard GAN": "gan-ns"}
_WGAN, _GAN = RECIPES
_MIN_SHARE, _RADIUS = 0.04, 0.15
_GREEN, _BLUE = SERIES[2], SERIES[0]

CLAIMS = (
    Claim("wgan_finds_all", "the WGAN finds all modes", "modes found at the last look", ">=", 8),
    Claim(
        "gan_does_not",
        "the standard GAN fails to capture the whole distribution",
        "modes found, mean of the looks in the second half",
        "<=",
        7,
    ),
    Claim(
        "gan_rotates",
        "it rotates between the modes",
        "share of latents that change their mode from look to look, GAN over WGAN",
        ">=",
        2,
    ),
    Claim("wgan_nearer", "the WGAN is nearer", "exact W1 at the end, WGAN over GAN", "<=", 0.7),
)


@dataclass(frozen=True)
class Settings:
    """Of both; the rest is each recipe's `auto` settings for data in the plane."""

    steps: int = 2500
    looks: int = 10
    judged: int = 1000
    seeds: int = 3


@dataclass(frozen=True, eq=False)
class Course:
    """One run as it was looked at: samples ``[judged, 2]`` of the same latents at each look."""

    steps: tuple[int, ...]
    samples: tuple[Floats, ...]
    w1: tuple[float, ...]
    modes: tuple[int, ...]
    moved: tuple[float, ...]

    def late(self, values: tuple[float, ...]) -> float:
        """The mean over the second half."""
        return float(np.mean(values[len(values) // 2 :]))


def follow(recipe: str, seed: int, settings: Settings, budget: Budget) -> Course:
    """Train, and look every so many steps."""
    source = Gaussians8(seed)
    given = {"recipe": recipe, "seed": seed, "average": 0.0, "device": "cpu"}
    config, _ = resolve({**given, "steps": settings.steps}, source, source.name)
    state = build_state(config, source)
    rng = torch.Generator().manual_seed(seed)
    latent = torch.randn(settings.judged, config.hyper.latent, generator=rng)
    real = source.batch(torch.arange(10**7, 10**7 + settings.judged)).values.double().numpy()
    samples: list[Floats] = []
    w1: list[float] = []
    modes: list[int] = []
    at = [settings.steps * (k + 1) // settings.looks for k in range(settings.looks)]
    for step in at:
        for _ in train(state, source, until=budget.until(step)):
            pass
        own = synthesize(state.generator.module, latent, None, state.like).double().numpy()
        samples.append(own)
        w1.append(exact(own, real).value)
        covered = mode_coverage(own, source, min_share=_MIN_SHARE, radius=_RADIUS)
        modes.append(covered.found)
    nearest = [source.modes(own) for own in samples]
    moved = [float((b != a).mean()) for a, b in pairwise(nearest)]
    return Course(tuple(at), tuple(samples), tuple(w1), tuple(modes), tuple(moved))


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Both from every seed."""
    found = budget.trials(
        lambda seed: {
            name: follow(recipe, seed, settings, budget) for name, recipe in RECIPES.items()
        },
        settings.seeds,
    )
    rotation = [
        one[_GAN].late(one[_GAN].moved) / max(one[_WGAN].late(one[_WGAN].moved), 1e-3)
        for one in found
    ]
    return Outcome(
        statistics={
            "wgan_finds_all": [one[_WGAN].modes[-1] for one in found],
            "gan_does_not": [one[_GAN].late(one[_GAN].modes) for one in found],
            "gan_rotates": rotation,
            "wgan_nearer": [one[_WGAN].w1[-1] / one[_GAN].w1[-1] for one in found],
        },
        settings={**asdict(settings), "recipes": list(RECIPES.values())},
        figure=_draw(found),
        notes={
            name: {
                key: [getattr(one[name], key) for one in found] for key in ("w1", "modes", "moved")
            }
            for name in RECIPES
        },
    )


def _draw(found: list[dict[str, Course]]) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from scipy.stats import gaussian_kde

    figure = Figure(figsize=(8.8, 5.9), layout="constrained")
    grid = figure.add_gridspec(3, 10, height_ratios=[1, 1, 1.15])
    greens = LinearSegmentedColormap.from_list("density", ["#ffffff", _GREEN])
    ticks = np.linspace(-2.1, 2.1, 50)
    places = np.stack(np.meshgrid(ticks, ticks), 0).reshape(2, -1)
    looks = len(found[0][_WGAN].steps)
    shown = sorted({0, looks // 4, looks // 2, 3 * looks // 4, looks - 1})[-5:]
    for row, name in enumerate(RECIPES):
        course = found[0][name]
        for column, look in enumerate(shown):
            axes = figure.add_subplot(grid[row, 2 * column : 2 * column + 2])
            tidy(axes, size=8)
            axes.grid(visible=False)
            points = course.samples[look]
            kde = gaussian_kde(
                points.T + 1e-3 * np.random.default_rng(0).normal(size=(2, len(points)))
            )
            kde.set_bandwidth(0.15)
            density = kde(places).reshape(50, 50)
            axes.contourf(ticks, ticks, density / density.max(), 12, cmap=greens)
            cloud(axes, points[:500], _BLUE, size=3)
            axes.set(xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), xticks=[], yticks=[])
            label(axes, f"{name if not column else ''} step {course.steps[look]:,}".strip())
            axes.title.set_fontsize(8.5)
    for place, key, title, unit in (
        (grid[2, :5], "modes", "Modes found", "modes of 8"),
        (grid[2, 5:], "w1", "Exact W1 to the data", "W1, data's unit"),
    ):
        axes = figure.add_subplot(place)
        tidy(axes, size=9)
        for name, colour in zip(RECIPES, (SERIES[0], SERIES[1]), strict=True):
            for k, one in enumerate(found):
                axes.plot(
                    one[name].steps, getattr(one[name], key), color=colour, lw=1.2, alpha=0.85,
                    marker="o", ms=2.5, label=None if k else name,
                )  # fmt: skip
        axes.set_ylim(0, None)
        legend(axes, loc="best")
        label(axes, f"{title}, every seed", "step", unit)
    return figure


EXPERIMENT = Experiment(
    name="eight-gaussians",
    title="Eight Gaussians: the WGAN finds all, the standard GAN rotates between them",
    source="Arjovsky et al. 2017, section 4.1, figure 2",
    claims=CLAIMS,
    data="gaussians8 (synthetic)",
    differs="The paper states no settings for this figure. They are the recipes' `auto` ones "
    "for data in the plane: MLPs of width 64, batches of 256, rates of 1e-3, clipping at .1, two "
    "critic updates a step for the WGAN and one for the GAN; 2,500 steps.",
    seconds=60,
    seeds=3,
    needed=3,
    run=run,
)
