"""An optimal discriminator saturates between two Gaussians, a clipped critic stays near linear.

"We train a GAN discriminator and a WGAN critic till optimality. The discriminator learns very
quickly to distinguish between fake and real, and as expected provides no reliable gradient
information. The critic, however, can't saturate, and converges to a linear function that gives
remarkably clean gradients everywhere."

Real samples are N(-4, 1) on the line, fake ones N(4, 1); they are what they are, and only the
discriminator or critic learns. A generator would descend by the gradient at its samples of
log(1 - D), and of -f for the critic f. The critic's scores have no unit, so that each gradient is
taken relative to its greatest on the line from -8 to 8.

Source: Arjovsky, Chintala, Bottou 2017, section 3 and figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.constraints import Constraint, WeightClipping
from wgan.data.codec import Codec
from wgan.data.synthetic import Synthetic
from wgan.experiments.reproduction.adversary import train_critic
from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import label, legend, panels
from wgan.networks import NetworkSpec, Shapes, make_critic
from wgan.objectives import Objective, Standard, Wasserstein
from wgan.reports.style import REAL, SERIES
from wgan.training import OptimizerSpec, bind_critic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
_MEAN = 4.0
_REACH = 8.0
_FAKES = 2000

CLAIMS = (
    Claim(
        "discriminator_vanishes",
        "the discriminator's gradient vanishes where the fakes are",
        "median over fake samples of |d log(1 - D)/dx|, over its greatest on the line",
        "<=",
        0.05,
    ),
    Claim(
        "critic_does_not",
        "the critic's does not",
        "median over fake samples of |df/dx|, over its greatest on the line",
        ">=",
        0.1,
    ),
    Claim(
        "critic_clean",
        "and it is there all over the line",
        "least |df/dx| between -8 and 8, over its greatest",
        ">=",
        0.1,
    ),
    Claim(
        "critic_linear",
        "the critic is near linear",
        "share of f's variance on the line that a straight line explains",
        ">=",
        0.9,
    ),
)


@dataclass(frozen=True)
class Settings:
    """Of the two, each as its paper has it but for the network: clipping at .01, RMSProp 5e-5."""

    discriminator_updates: int = 1500
    discriminator_lr: float = 1e-3
    critic_updates: int = 1500
    critic_lr: float = 5e-5
    bound: float = 0.01
    width: int = 64
    depth: int = 2
    batch_size: int = 64
    seeds: int = 5


class Real(Synthetic):
    """N(-4, 1), points ``[n, 1]``."""

    name = "gaussian"
    codec = Codec(kind="rows", shape=(1,), dtype="float32")

    def points(self, uniform: Floats) -> Floats:
        """Quantiles of the normal distribution."""
        from scipy.special import ndtri

        quantiles: Floats = ndtri(uniform[:, :1])
        return quantiles - _MEAN


@dataclass(frozen=True, eq=False)
class Line:
    """What one of the two says along the line.

    Attributes:
        value: D, or f; ``[n]``.
        slope: Of log(1 - D), or of -f; ``[n]``.
        at_fakes: The same at fake samples.
    """

    value: Floats
    slope: Floats
    at_fakes: Floats

    @property
    def relative(self) -> Floats:
        """|slope| over its greatest."""
        size: Floats = np.abs(self.slope) / np.abs(self.slope).max()
        return size

    @property
    def left_for_fakes(self) -> float:
        """The median of |slope| over fakes, over its greatest on the line."""
        return float(np.median(np.abs(self.at_fakes)) / np.abs(self.slope).max())


def train_one(
    objective: Objective,
    optimizer: OptimizerSpec,
    constraints: Sequence[Constraint],
    updates: int,
    seed: int,
    settings: Settings,
    budget: Budget,
) -> Line:
    """Train to optimality, then look along the line."""
    spec = NetworkSpec(settings.width, settings.depth)
    state = train_critic(
        make_critic("mlp", spec, Shapes((1,), latent=1), seed),
        Real(seed),
        lambda latent: latent + _MEAN,
        objective,
        optimizer,
        constraints,
        updates=updates,
        batch_size=settings.batch_size,
        latent=1,
        seed=seed,
        budget=budget,
    )
    assert state.critic is not None
    score = bind_critic(state.critic.module, None)

    def look(x: Floats) -> tuple[Floats, Floats]:
        points = torch.tensor(x, dtype=torch.float32)[:, None].requires_grad_()
        out: Tensor = score(points).score
        if isinstance(objective, Standard):
            value, minimised = out.sigmoid(), -torch.nn.functional.softplus(out)
        else:
            value, minimised = out, -out
        (slope,) = torch.autograd.grad(minimised.sum(), points)
        return value.detach().double().numpy(), slope[:, 0].double().numpy()

    rng = np.random.default_rng(seed)
    value, slope = look(np.linspace(-_REACH, _REACH, 801))
    return Line(value, slope, look(rng.normal(_MEAN, 1, _FAKES))[1])


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """A discriminator and a critic from every seed."""

    def trial(seed: int) -> tuple[Line, Line]:
        discriminator = OptimizerSpec("adam", settings.discriminator_lr, 0.5, 0.999)
        clipped = OptimizerSpec("rmsprop", settings.critic_lr)
        bound = WeightClipping(settings.bound)
        return (
            train_one(
                Standard(),
                discriminator,
                (),
                settings.discriminator_updates,
                seed,
                settings,
                budget,
            ),
            train_one(
                Wasserstein(), clipped, (bound,), settings.critic_updates, seed, settings, budget
            ),
        )

    found = budget.trials(trial, settings.seeds)
    x = np.linspace(-_REACH, _REACH, len(found[0][0].value))
    return Outcome(
        statistics={
            "discriminator_vanishes": [one.left_for_fakes for one, _ in found],
            "critic_does_not": [one.left_for_fakes for _, one in found],
            "critic_clean": [float(one.relative.min()) for _, one in found],
            "critic_linear": [float(np.corrcoef(x, one.value)[0, 1] ** 2) for _, one in found],
        },
        settings=asdict(settings),
        figure=_draw(x, found),
    )


def _draw(x: Floats, found: list[tuple[Line, Line]]) -> Figure:
    figure, (left, right) = panels(2, 8.4, 3.4)
    rng = np.random.default_rng(0)
    for mean, colour, name in ((-_MEAN, REAL, "real"), (_MEAN, SERIES[2], "fake")):
        density = np.exp(-np.square(x - mean) / 2) / np.sqrt(2 * np.pi)
        left.fill_between(x, density, color=colour, alpha=0.45, lw=0, label=f"density of {name}")
        drawn = rng.normal(mean, 1, 40)
        left.plot(drawn, np.full(40, -0.04), "o", color=colour, ms=3, alpha=0.6)
    for k, (discriminator, critic) in enumerate(found):
        centred = critic.value - critic.value.min()
        for axes, one, other in (
            (left, discriminator.value, centred / centred.max()),
            (right, discriminator.relative, critic.relative),
        ):
            names = (None, None) if k else ("discriminator D", "WGAN critic f")
            axes.plot(x, one, color=SERIES[1], lw=1.3, alpha=0.8, label=names[0])
            axes.plot(x, other, color=SERIES[0], lw=1.3, alpha=0.8, label=names[1])
    left.set_ylim(-0.1, 1.5)
    right.set_ylim(-0.03, 1.35)
    legend(left, loc="upper center", ncols=2)
    legend(right, loc="upper center", ncols=2)
    label(left, "Values", "x", "D, and f from 0 to 1")
    label(right, "Gradients for the generator", "x", "|d log(1 - D)/dx|, |df/dx|, greatest 1")
    return figure


EXPERIMENT = Experiment(
    name="optimal-critic",
    title="An optimal discriminator saturates, an optimal clipped critic stays near linear",
    source="Arjovsky et al. 2017, section 3, figure 3",
    claims=CLAIMS,
    data="N(-4, 1) and N(4, 1) on the line",
    differs="The paper states neither the Gaussians nor the networks: MLPs of 2 layers of 64. "
    "The gradient drawn is that of the generator's minimax loss.",
    seconds=20,
    seeds=5,
    needed=3,
    run=run,
)
