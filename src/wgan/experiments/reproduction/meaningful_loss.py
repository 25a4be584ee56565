"""The critic's estimate falls as samples get better, and stays where training fails.

"We can see a clear correlation between lower error and better sample quality." "Both the generator
and the discriminator are MLPs with substantially high learning rates (so training failed). Loss is
constant and samples are constant as well."

An MLP and a DCGAN generator train on pictures of digits against a DCGAN critic, which is clipped,
penalised or orthogonal; and a pair of MLPs, clipped, at a high rate. Along each run the samples are
judged twice by what does not come from the critic: by their Frechet distance from held-out pictures
in the features of a classifier, and by a certified lower bound of W1, from critics that are found
afresh. Critics are trained ahead of the first step, so that the estimate does not start with what
they have yet to learn. It is passed through the median filter of the figure and read at the same
steps.

Source: Arjovsky, Chintala, Bottou 2017, section 4.3 and figure 4.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import panels
from wgan.experiments.reproduction.pictures import MLP, Course, Digits, draw_course, follow, looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ESTIMATE = "wasserstein_estimate"
GENERATORS: dict[str, dict[str, Any]] = {
    "MLP": {"generator_network": "mlp", "critic_network": "dcgan"},
    "DCGAN": {"network": "dcgan"},
}
CRITICS: dict[str, dict[str, Any]] = {
    "clipped": {"recipe": "wgan", "lr": 5e-4, "n_critic": 2},
    "penalised": {"recipe": "wgan-gp"},
    "orthogonal": {"recipe": "wgan-orthogonal"},
}
FAILED = "MLPs at a high rate"
_HIGH_RATE: dict[str, Any] = {
    "recipe": "wgan",
    "lr": 0.1,
    "network": "mlp",
    "width": MLP.width,
    "depth": MLP.depth,
}
TRACKED = tuple((generator, critic) for critic in CRITICS for generator in GENERATORS)


def key(generator: str, critic: str) -> str:
    """Of the claims on a pair."""
    return f"{generator.lower()}_{critic}"


CLAIMS = (
    *(
        Claim(
            f"{key(generator, critic)}_frechet",
            f"the estimate tracks quality: {generator} generator, {critic} critic",
            "Spearman correlation of the filtered estimate and the Frechet distance",
            ">=",
            0.6,
        )
        for generator, critic in TRACKED
    ),
    *(
        Claim(
            f"{key(generator, critic)}_certified",
            f"and a certified W1: {generator} generator, {critic} critic",
            "Spearman correlation of the filtered estimate and the certified lower bound",
            ">=",
            0.6,
        )
        for generator, critic in TRACKED
    ),
    Claim(
        "failed_stays",
        "at too high a rate samples do not improve",
        "Frechet distance at the last look over that of the clipped MLP generator at the usual "
        "rate",
        ">=",
        2.0,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The rest is each recipe's `auto` settings for such pictures."""

    steps: int = 240
    looks: int = 7
    ahead: int = 100
    judged: int = 500
    width: int = 16
    batch_size: int = 32
    seeds: int = 3


def trial(seed: int, digits: Digits, settings: Settings, budget: Budget) -> dict[str, Course]:
    """All runs from a seed, by generator and critic."""
    at = looks(settings.steps, settings.looks)
    common = {"batch_size": settings.batch_size, "width": settings.width}
    given = {
        f"{generator}, {critic}": {**common, **GENERATORS[generator], **CRITICS[critic]}
        for generator, critic in TRACKED
    }
    given[FAILED] = {**common, **_HIGH_RATE}
    return {
        name: follow(one, (ESTIMATE,), seed, digits, at, budget, ahead=settings.ahead, audited=True)
        for name, one in given.items()
    }


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Every pair from every seed."""
    digits = Digits.open(settings.judged)
    found = budget.trials(lambda seed: trial(seed, digits, settings, budget), settings.seeds)
    return Outcome(
        statistics={
            **{
                f"{key(generator, critic)}_{end}": [
                    one[f"{generator}, {critic}"].correlation(ESTIMATE, quality) for one in found
                ]
                for end, quality in (("frechet", "frechet"), ("certified", "lower"))
                for generator, critic in TRACKED
            },
            "failed_stays": [
                float(one[FAILED].frechet[-1] / one["MLP, clipped"].frechet[-1]) for one in found
            ],
        },
        settings=asdict(settings),
        figure=_draw(found[0]),
        notes={
            "frechet_floor": digits.floor,
            **{name: [one[name].plain() for one in found] for name in found[0]},
        },
        data=digits.instead,
    )


def _draw(courses: dict[str, Course]) -> Figure:
    figure, axes = panels(2, 9.0, 10.4, down=4)
    for i, (one, (name, course)) in enumerate(zip(axes, courses.items(), strict=False)):
        rho, certified = (course.correlation(ESTIMATE, kind) for kind in ("frechet", "lower"))
        title = f"{name}: correlation {rho:.2f}"
        if name != FAILED:
            title += f", certified {certified:.2f}"
        draw_course(one, course, ESTIMATE, title=title, unit="" if i % 2 else "E f(x) - E f(y)")
    for spare in axes[len(courses) :]:
        spare.set_visible(False)
    return figure


EXPERIMENT = Experiment(
    name="meaningful-loss",
    title="The critic's estimate falls as samples get better, and stays where training fails",
    source="Arjovsky et al. 2017, section 4.3, figure 4",
    claims=CLAIMS,
    data="MNIST, 28 x 28 pixels; samples are judged by test pictures, which are not trained on",
    differs="MNIST instead of bedrooms (LSUN is not to be had); a DCGAN of 16 filters instead of "
    "64, batches of 32, 240 steps; the recipes' `auto` settings, but clipped critics at ten times "
    "the published rate and with two updates a step; critics 100 updates ahead. Quality is "
    "measured: dashed, the Frechet distance of 500 samples in LeNet-5's features.",
    seconds=330,
    seeds=3,
    needed=3,
    run=run,
)
