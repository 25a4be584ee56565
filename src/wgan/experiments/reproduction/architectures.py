"""Three generators by WGAN, WGAN with a gradient penalty and standard GAN: what each makes.

"Both algorithms produce high quality samples" with a DCGAN generator; "the standard GAN failed to
learn while the WGAN still was able to produce samples" with one without batch norm and a constant
number of filters; with an MLP of 4 layers of 512 units "the WGAN method still was able to produce
samples, lower quality than the DCGAN, and of higher quality than the MLP of the standard GAN. Note
the significant degree of mode collapse in the GAN MLP." "In no experiment did we see evidence of
mode collapse for the WGAN algorithm." The critic is a DCGAN in all of them.

Samples are compared with held-out digits in the features of a classifier: by their Frechet
distance; by coverage, the share of held-out pictures near which there is a sample; and by their
spread, the mean distance between two samples over that between two held-out pictures, which is 1
for the data and near 0 where all samples are alike.

Source: Arjovsky, Chintala, Bottou 2017, section 4.4, figures 6 to 8.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from scipy.spatial.distance import cdist

from wgan.errors import NonFiniteError
from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import panels
from wgan.experiments.reproduction.pictures import Digits, Floats, sheet, start
from wgan.metrics import manifold
from wgan.reports.style import INK
from wgan.training import TrainState, synthesize, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GENERATORS = {
    "DCGAN": "dcgan",
    "no batch norm, constant filters": "dcgan-constant",
    "MLP": "mlp",
}
METHODS: dict[str, dict[str, Any]] = {
    "WGAN": {"recipe": "wgan", "lr": 5e-4, "n_critic": 2},
    "WGAN-GP": {"recipe": "wgan-gp"},
    "GAN": {"recipe": "gan-ns"},
}
_DCGAN, _CONSTANT, _MLP = GENERATORS

CLAIMS = (
    Claim(
        "wgan_learns",
        "the WGAN produces samples with every generator",
        "Frechet distance at the end over that before training, greatest of three generators",
        "<=",
        0.5,
    ),
    Claim(
        "penalised_learns",
        "and so does the WGAN with a penalty",
        "the same",
        "<=",
        0.5,
    ),
    Claim(
        "gan_learns_dcgan",
        "so does the standard GAN with a DCGAN",
        "Frechet distance at the end over that before training",
        "<=",
        0.5,
    ),
    Claim(
        "gan_fails_constant",
        "it fails without batch norm and with constant filters",
        "Frechet distance at the end, GAN over WGAN",
        ">=",
        1.5,
    ),
    Claim(
        "gan_worse_mlp",
        "its MLP is worse than the WGAN's",
        "Frechet distance at the end, GAN over WGAN",
        ">=",
        1.2,
    ),
    Claim(
        "gan_collapses_mlp",
        "and has collapsed",
        "spread at the end, GAN over WGAN",
        "<=",
        0.7,
    ),
    Claim(
        "wgan_mlp_behind",
        "the WGAN's MLP is worse than its DCGAN",
        "Frechet distance at the end, MLP over DCGAN",
        ">=",
        1.1,
    ),
    Claim(
        "wgan_spread",
        "the WGAN never collapses",
        "spread of the samples over the data's, least of three generators",
        ">=",
        0.7,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The rest is each recipe's `auto` settings for such pictures."""

    steps: int = 1000
    judged: int = 1000
    shown: int = 40
    width: int = 16
    batch_size: int = 32
    seeds: int = 3


@dataclass(frozen=True, eq=False)
class Judged:
    """What a run made.

    Attributes:
        before: Frechet distance before the first step.
        frechet: At the end.
        coverage: Share of held-out pictures' neighbourhoods that hold a sample.
        spread: Mean distance between two samples, over that between two held-out pictures.
        samples: Some, not chosen, pixel levels.
    """

    before: float
    frechet: float
    coverage: float
    spread: float
    samples: Floats

    def plain(self) -> dict[str, float]:
        """The numbers."""
        names = ("before", "frechet", "coverage", "spread")
        return {name: round(float(getattr(self, name)), 4) for name in names}


def judge(before: float, own: Floats, digits: Digits, shown: int) -> Judged:
    """Samples in the data's own unit against the held-out pictures."""
    features = digits.space(own)
    xx, yy = cdist(features, features), cdist(digits.real, digits.real)
    xy = cdist(features, digits.real)
    return Judged(
        before,
        digits.frechet(own),
        manifold(xx, yy, xy).coverage,
        float(xx.mean() / yy.mean()),
        own[:shown].reshape(-1, *own.shape[-2:]).astype(float),
    )


def trial(
    generator: str, method: str, seed: int, digits: Digits, settings: Settings, budget: Budget
) -> Judged:
    """Train one generator by one method, and judge what it makes; stop where a loss is not finite.

    A run that stops early is judged as it stood.
    """
    given = {
        **METHODS[method],
        "generator_network": GENERATORS[generator],
        "critic_network": "dcgan",
        "width": settings.width,
        "batch_size": settings.batch_size,
    }
    state = start(given, seed, settings.steps, digits.training)
    rng = torch.Generator().manual_seed(seed)
    latent = torch.randn(len(digits.real), state.method.latent, generator=rng)

    def sampled(state: TrainState) -> Floats:
        values = synthesize(state.generator.module, latent, None, state.like)
        return digits.training.codec.decode(values)

    before = digits.frechet(sampled(state))
    with suppress(NonFiniteError):
        for _ in train(state, digits.training, until=budget.until(settings.steps)):
            pass
    return judge(before, sampled(state), digits, settings.shown)


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Every generator by every method from every seed."""
    digits = Digits.open(settings.judged)
    found = budget.trials(
        lambda seed: {
            (generator, method): trial(generator, method, seed, digits, settings, budget)
            for generator in GENERATORS
            for method in METHODS
        },
        settings.seeds,
    )

    def learned(one: dict[tuple[str, str], Judged], method: str, *names: str) -> float:
        return max(one[name, method].frechet / one[name, method].before for name in names)

    return Outcome(
        statistics={
            "wgan_learns": [learned(one, "WGAN", *GENERATORS) for one in found],
            "penalised_learns": [learned(one, "WGAN-GP", *GENERATORS) for one in found],
            "gan_learns_dcgan": [learned(one, "GAN", _DCGAN) for one in found],
            "gan_fails_constant": [
                one[_CONSTANT, "GAN"].frechet / one[_CONSTANT, "WGAN"].frechet for one in found
            ],
            "gan_worse_mlp": [
                one[_MLP, "GAN"].frechet / one[_MLP, "WGAN"].frechet for one in found
            ],
            "gan_collapses_mlp": [
                one[_MLP, "GAN"].spread / one[_MLP, "WGAN"].spread for one in found
            ],
            "wgan_mlp_behind": [
                one[_MLP, "WGAN"].frechet / one[_DCGAN, "WGAN"].frechet for one in found
            ],
            "wgan_spread": [min(one[name, "WGAN"].spread for name in GENERATORS) for one in found],
        },
        settings=asdict(settings),
        figure=_draw(found[0]),
        notes={
            "frechet_floor": digits.floor,
            **{
                f"{generator}, {method}": [one[generator, method].plain() for one in found]
                for generator in GENERATORS
                for method in METHODS
            },
        },
        data=digits.instead,
    )


def _draw(one: dict[tuple[str, str], Judged]) -> Figure:
    figure, axes = panels(3, 9.6, 7.2, down=3)
    for panel, ((generator, method), judged) in zip(axes, one.items(), strict=True):
        sheet(panel, judged.samples, across=10)
        panel.set_title(
            f"{generator}, {method}\nFrechet {judged.frechet:.1f}, coverage {judged.coverage:.2f}, "
            f"spread {judged.spread:.2f}",
            fontsize=9,
            color=INK,
        )
    return figure


EXPERIMENT = Experiment(
    name="architectures",
    title="Three generators by WGAN, WGAN-GP and standard GAN",
    source="Arjovsky et al. 2017, section 4.4, figures 6 to 8",
    claims=CLAIMS,
    data="MNIST, 28 x 28 pixels; samples are judged by test pictures, which are not trained on",
    differs="MNIST instead of bedrooms (LSUN is not to be had); DCGANs of 16 filters instead of "
    "64, batches of 32, 1,000 generator steps for each; the recipes' `auto` settings, but the "
    "clipped critic at ten times the published rate, with two updates a step. WGAN-GP is "
    "not in the paper's figures. Quality is measured instead of looked at, in LeNet-5's features.",
    seconds=600,
    seeds=3,
    needed=3,
    run=run,
)
