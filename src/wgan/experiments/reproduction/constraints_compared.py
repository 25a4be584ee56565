"""Five ways to keep a critic Lipschitz, on one budget: what each costs, and what comes of it.

The course's table: weight clipping has "very low" computational cost, "moderate" stability and
"lower (capacity limited)" quality; the gradient penalty a "high" cost ("2nd order grad") and "high"
stability and quality; spectral normalisation a "low" cost and "very high" stability and quality.
The Lipschitz penalty and the orthogonal critic stand beside them.

Each trains on 25 Gaussians with the same networks, batches, rates and critic updates, for the same
processor seconds, so that what is cheap makes more steps. Cost: processor seconds of a critic
update, over those without a constraint. Quality: exact W1 between samples and data at the end.
Stability: how much W1 swings over the looks in the second half, its deviation over its mean.

Source: the course, the table of constraints.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from wgan.constraints import (
    Constraint,
    GradientPenalty,
    Orthogonal,
    SpectralNormalisation,
    WeightClipping,
)
from wgan.data.synthetic import Gaussians25
from wgan.errors import NonFiniteError
from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import label, panels
from wgan.networks import NetworkSpec, Shapes, make_critic, make_generator
from wgan.objectives import Wasserstein
from wgan.reports.style import INK, SERIES
from wgan.training import Method, OptimizerSpec, TrainState, synthesize, train
from wgan.training.step import critic_update
from wgan.transport import exact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONSTRAINTS: dict[str, tuple[Constraint, ...]] = {
    "clipping": (WeightClipping(0.1),),
    "penalty": (GradientPenalty(0.1),),
    "one-sided": (GradientPenalty(0.1, one_sided=True),),
    "spectral": (SpectralNormalisation(),),
    "orthogonal": (Orthogonal(),),
}

CLAIMS = (
    Claim(
        "clipping_cheap",
        "clipping costs very little",
        "time of a critic update over one without a constraint",
        "<=",
        1.5,
    ),
    Claim(
        "penalty_dear",
        "the gradient penalty costs much",
        "time of a critic update over one that is clipped",
        ">=",
        1.5,
    ),
    Claim(
        "spectral_cheaper",
        "spectral normalisation costs less than the penalty",
        "time of a critic update over one that is penalised",
        "<=",
        0.9,
    ),
    Claim(
        "penalty_better",
        "the penalty gives better samples than clipping",
        "exact W1 at the end, over clipping's",
        "<=",
        0.95,
    ),
    Claim(
        "spectral_better",
        "and so does spectral normalisation",
        "exact W1 at the end, over clipping's",
        "<=",
        0.95,
    ),
    Claim(
        "penalty_stabler",
        "the penalty is stabler than clipping",
        "swing of W1 in the second half, over clipping's",
        "<=",
        1.0,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The same for every constraint."""

    seconds: float = 5.0
    looks: int = 8
    lr: float = 1e-3
    batch_size: int = 256
    n_critic: int = 2
    width: int = 64
    depth: int = 3
    timed: int = 60
    judged: int = 1000
    seeds: int = 3


@dataclass(frozen=True)
class Course:
    """One run.

    Attributes:
        cost: Processor seconds of a critic update.
        steps: Made in the time.
        w1: At each look.
    """

    cost: float
    steps: int
    w1: tuple[float, ...]

    @property
    def swing(self) -> float:
        """Deviation over mean of W1 in the second half."""
        late = self.w1[len(self.w1) // 2 :]
        return float(np.std(late) / np.mean(late))


def start(constraints: tuple[Constraint, ...], seed: int, settings: Settings) -> TrainState:
    """The players before the first step."""
    shapes, spec = Shapes((2,), latent=2), NetworkSpec(settings.width, settings.depth)
    optimizer = OptimizerSpec("adam", settings.lr, 0.5, 0.9)
    method = Method(
        Wasserstein(),
        optimizer,
        optimizer,
        constraints,
        batch_size=settings.batch_size,
        generator_batch_size=settings.batch_size,
        latent=2,
        n_critic=settings.n_critic,
        average=0.999,
        seed=seed,
    )
    return TrainState.create(
        method,
        make_generator("mlp", spec, shapes, 2 * seed + 1),
        make_critic("mlp", spec, shapes, 2 * seed + 2),
        Gaussians25(seed),
    )


def cost(constraints: tuple[Constraint, ...], seed: int, settings: Settings) -> float:
    """Processor seconds of a critic update: the median, after a few that warm up."""
    state, source = start(constraints, seed, settings), Gaussians25(seed)
    spent = []
    for _ in range(settings.timed + 5):
        batch = state.next_batch(source, settings.batch_size)
        began = time.process_time()
        critic_update(state, batch)
        spent.append(time.process_time() - began)
    return float(np.median(spent[5:]))


def follow(name: str, seed: int, settings: Settings, budget: Budget) -> Course:
    """Train for the given processor seconds; looks do not count."""
    source = Gaussians25(seed)
    price = cost(CONSTRAINTS[name], seed, settings)
    state = start(CONSTRAINTS[name], seed, settings)
    rng = torch.Generator().manual_seed(seed)
    latent = torch.randn(settings.judged, 2, generator=rng)
    real = source.batch(torch.arange(10**7, 10**7 + settings.judged)).values.double().numpy()
    w1: list[float] = []
    for _ in range(settings.looks):
        end = time.process_time() + settings.seconds / settings.looks

        def done(state: TrainState, end: float = end) -> bool:
            budget.check()
            return time.process_time() >= end

        try:
            for _ in train(state, source, until=done):
                pass
        except NonFiniteError:
            w1 += [float("inf")] * (settings.looks - len(w1))
            break
        own = synthesize(state.average, latent, None, state.like).double().numpy()
        w1.append(exact(own, real).value)
    return Course(price, state.step, tuple(w1))


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Every constraint from every seed."""

    def trial(seed: int) -> tuple[float, dict[str, Course]]:
        free = cost((), seed, settings)
        return free, {name: follow(name, seed, settings, budget) for name in CONSTRAINTS}

    found = budget.trials(trial, settings.seeds)
    runs = [one for _, one in found]
    return Outcome(
        statistics={
            "clipping_cheap": [one["clipping"].cost / free for free, one in found],
            "penalty_dear": [one["penalty"].cost / one["clipping"].cost for one in runs],
            "spectral_cheaper": [one["spectral"].cost / one["penalty"].cost for one in runs],
            "penalty_better": [one["penalty"].w1[-1] / one["clipping"].w1[-1] for one in runs],
            "spectral_better": [one["spectral"].w1[-1] / one["clipping"].w1[-1] for one in runs],
            "penalty_stabler": [one["penalty"].swing / one["clipping"].swing for one in runs],
        },
        settings=asdict(settings),
        figure=_draw(found),
        notes={name: [asdict(one[name]) for one in runs] for name in CONSTRAINTS},
    )


def _draw(found: list[tuple[float, dict[str, Course]]]) -> Figure:
    figure, axes = panels(3, 9.2, 3.2)
    readings = (
        ("Cost of a critic update", "time, without a constraint = 1"),
        ("Quality", "exact W1 at the end, data's unit"),
        ("Swing of W1, second half", "deviation over mean"),
    )
    for panel, (title, unit) in zip(axes, readings, strict=True):
        for i, name in enumerate(CONSTRAINTS):
            values = {
                readings[0][0]: [one[name].cost / free for free, one in found],
                readings[1][0]: [one[name].w1[-1] for _, one in found],
                readings[2][0]: [one[name].swing for _, one in found],
            }[title]
            panel.barh(i, float(np.mean(values)), color=SERIES[0], alpha=0.35, height=0.6)
            panel.plot(values, [i] * len(values), "o", color=SERIES[0], ms=4)
        shown = list(CONSTRAINTS) if panel is axes[0] else [""] * len(CONSTRAINTS)
        panel.set_yticks(range(len(CONSTRAINTS)), shown, fontsize=9, color=INK)
        panel.invert_yaxis()
        panel.set_xlim(0, None)
        label(panel, title, unit)
    return figure


EXPERIMENT = Experiment(
    name="constraints-compared",
    title="Clipping, penalties, spectral and orthogonal critics on one budget",
    source="the course, the table of constraints",
    claims=CLAIMS,
    data="gaussians25 (synthetic)",
    differs="The course states no data, networks or numbers. MLPs of 3 layers of 64 units, Adam at "
    "1e-3, five processor seconds for each; clipping at .1 and penalties of weight .1, as `auto` "
    "has them in the plane. Times depend on the machine.",
    seconds=90,
    seeds=3,
    needed=3,
    run=run,
)
