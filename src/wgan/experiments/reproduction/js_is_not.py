"""A standard GAN's losses say nothing of its samples, where a WGAN's estimate does.

"Samples get better for the DCGAN but the JS estimate increases or stays constant, pointing towards
no significant correlation between sample quality and loss." "In fact it often remains very close to
log 2 ~ 0.69 which is the highest value taken by the JS distance." With the generator's loss in its
place: "This does not change the conclusions."

Standard GANs with the -log D trick train on pictures of digits: an MLP and a DCGAN generator, each
against a DCGAN discriminator, and a pair of MLPs; beside them WGANs with a clipped critic and the
same generators. The JS estimate is log 2 plus half of what the discriminator maximises; the
generator's loss is E -log D. Both, and the WGAN's estimate, are passed through one median filter
and compared along the run with the Frechet distance of the samples from held-out pictures.

Source: Arjovsky, Chintala, Bottou 2017, section 4.3, figures 5 and 9.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import panels
from wgan.experiments.reproduction.pictures import (
    MLP,
    Course,
    Digits,
    draw_course,
    follow,
    looks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MLP = {"generator_network": "mlp", "critic_network": "dcgan"}
_DCGAN = {"network": "dcgan"}
_MLPS = {"network": "mlp", "width": MLP.width, "depth": MLP.depth, "lr": 2e-4}
GANS: dict[str, dict[str, Any]] = {"MLP": _MLP, "DCGAN": _DCGAN, "both MLP": _MLPS}
WGANS: dict[str, dict[str, Any]] = {"MLP": _MLP, "DCGAN": _DCGAN}
JS, GENERATOR_LOSS, ESTIMATE = "js_estimate", "generator_loss", "wasserstein_estimate"


def key(name: str) -> str:
    """Of the claims on networks of this name."""
    return name.lower().replace(" ", "_")


CLAIMS = (
    *(
        Claim(
            f"js_{key(name)}",
            f"the JS estimate does not tell the samples' quality: {name}",
            "Spearman correlation of the filtered JS estimate and the Frechet distance",
            "<=",
            0.3,
        )
        for name in GANS
    ),
    *(
        Claim(
            f"loss_{key(name)}",
            f"nor does the generator's loss: {name}",
            "Spearman correlation of the filtered loss and the Frechet distance",
            "<=",
            0.3,
        )
        for name in GANS
    ),
    Claim(
        "samples_improve",
        "all the same samples get better: DCGAN",
        "Frechet distance at the last look over that at the first",
        "<=",
        0.7,
    ),
    *(
        Claim(
            f"saturates_{key(name)}",
            f"the JS estimate is often close to log 2: {name}",
            "median of the filtered JS estimate over the second half, over log 2",
            ">=",
            0.9,
        )
        for name in ("MLP", "DCGAN")
    ),
    *(
        Claim(
            f"wgan_{key(name)}",
            f"a WGAN's estimate does tell it: {name}",
            "Spearman correlation of the filtered estimate and the Frechet distance",
            ">=",
            0.6,
        )
        for name in WGANS
    ),
)


@dataclass(frozen=True)
class Settings:
    """The rest is each recipe's `auto` settings for such pictures."""

    steps: int = 300
    looks: int = 10
    ahead: int = 100
    judged: int = 500
    width: int = 16
    batch_size: int = 32
    wgan_lr: float = 5e-4
    seeds: int = 3


@dataclass(frozen=True, eq=False)
class Trial:
    """Runs from one seed, by their networks."""

    gans: dict[str, Course]
    wgans: dict[str, Course]


def trial(seed: int, digits: Digits, settings: Settings, budget: Budget) -> Trial:
    """All runs from a seed."""
    at = looks(settings.steps, settings.looks)
    common = {"batch_size": settings.batch_size, "width": settings.width}

    def course(given: dict[str, Any], names: tuple[str, ...], ahead: int = 0) -> Course:
        return follow({**common, **given}, names, seed, digits, at, budget, ahead=ahead)

    gan = {"recipe": "gan-ns"}
    wgan = {"recipe": "wgan", "lr": settings.wgan_lr, "n_critic": 2}
    return Trial(
        {name: course({**gan, **given}, (JS, GENERATOR_LOSS)) for name, given in GANS.items()},
        {
            name: course({**wgan, **given}, (ESTIMATE,), settings.ahead)
            for name, given in WGANS.items()
        },
    )


def saturation(course: Course) -> float:
    """The median of the filtered JS estimate over the second half of the steps, over log 2."""
    late = course.curves[JS].median().values
    return float(np.median(late[len(late) // 2 :])) / math.log(2)


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Every pair of networks from every seed."""
    digits = Digits.open(settings.judged)
    found = budget.trials(lambda seed: trial(seed, digits, settings, budget), settings.seeds)
    return Outcome(
        statistics={
            **{
                f"{start}_{key(name)}": [one.gans[name].correlation(of) for one in found]
                for start, of in (("js", JS), ("loss", GENERATOR_LOSS))
                for name in GANS
            },
            "samples_improve": [
                float(one.gans["DCGAN"].frechet[-1] / one.gans["DCGAN"].frechet[0]) for one in found
            ],
            **{
                f"saturates_{key(name)}": [saturation(one.gans[name]) for one in found]
                for name in ("MLP", "DCGAN")
            },
            **{
                f"wgan_{key(name)}": [one.wgans[name].correlation(ESTIMATE) for one in found]
                for name in WGANS
            },
        },
        settings=asdict(settings),
        figure=_draw(found[0]),
        notes={
            "frechet_floor": digits.floor,
            "gans": {name: [one.gans[name].plain() for one in found] for name in GANS},
            "wgans": {name: [one.wgans[name].plain() for one in found] for name in WGANS},
        },
        data=digits.instead,
    )


def _draw(one: Trial) -> Figure:
    figure, axes = panels(3, 11.4, 8.0, down=3)
    rows = (
        (one.gans, JS, "GAN", "JS estimate, nats"),
        (one.gans, GENERATOR_LOSS, "GAN", "generator loss, nats"),
        (one.wgans, ESTIMATE, "WGAN", "E f(x) - E f(y)"),
    )
    for row, (courses, curve, method, unit) in enumerate(rows):
        for i, (name, course) in enumerate(courses.items()):
            panel = axes[3 * row + i]
            title = f"{method}, {name}: correlation {course.correlation(curve):.2f}"
            draw_course(panel, course, curve, title=title, unit="" if i else unit)
            if curve == JS:
                panel.axhline(math.log(2), color="k", lw=0.7, ls=":")
    axes[-1].set_visible(False)
    return figure


EXPERIMENT = Experiment(
    name="js-is-not",
    title="A standard GAN's losses do not tell the quality of its samples",
    source="Arjovsky et al. 2017, section 4.3, figures 5 and 9",
    claims=CLAIMS,
    data="MNIST, 28 x 28 pixels; samples are judged by test pictures, which are not trained on",
    differs="MNIST instead of bedrooms (LSUN is not to be had); a DCGAN of 16 filters instead of "
    "64, batches of 32, 300 steps; the recipes' `auto` settings, but clipped critics at ten "
    "times the published rate, with two updates a step and 100 ahead. Quality is measured: "
    "dashed, the Frechet distance of 500 samples in LeNet-5's features. Dotted: log 2.",
    seconds=100,
    seeds=3,
    needed=3,
    run=run,
)
