"""Momentum on a clipped critic: where the loss blows up, the step turns against the gradient.

"WGAN training becomes unstable at times when one uses a momentum based optimizer such as Adam (with
beta1 > 0) on the critic, or when one uses high learning rates. Since the loss for the critic is
nonstationary, momentum based methods seemed to perform worse. As the loss blew up and samples got
worse, the cosine between the Adam step and the gradient usually turned negative. The only places
where this cosine was negative was in these situations of instability."

A clipped WGAN on 8 Gaussians whose critic is moved by RMSProp or by Adam with beta1 = .9, at three
rates; the generator has RMSProp at the same rate, as Algorithm 1 has one for both. The cosine is
that of the critic's step before clipping and of -gradient, at every critic update. How much the
loss swings is the standard deviation of the critic's estimate in the second half of the run, over
that of RMSProp at the same rate; the samples are judged by exact W1.

Source: Arjovsky, Chintala, Bottou 2017, section 4.3, end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.constraints import WeightClipping
from wgan.data.synthetic import Gaussians8
from wgan.errors import NonFiniteError
from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import label, legend, panels
from wgan.networks import NetworkSpec, Shapes, make_critic, make_generator
from wgan.objectives import Wasserstein
from wgan.reports.style import MUTED, SERIES
from wgan.training import Method, OptimizerSpec, TrainState, synthesize, train
from wgan.transport import exact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
KINDS = ("RMSProp", "Adam, beta1 .9")
_RMSPROP, _ADAM = KINDS

CLAIMS = (
    Claim(
        "rmsprop_descends",
        "RMSProp steps never turn against the gradient",
        "share of critic updates with a negative cosine, greatest of the rates",
        "<=",
        0.0,
    ),
    Claim(
        "adam_turns",
        "with momentum at a high rate they do",
        "share of negative cosines, Adam with beta1 .9 at the highest rate",
        ">=",
        0.1,
    ),
    Claim(
        "only_when_unstable",
        "and only there",
        "share of negative cosines, Adam with beta1 .9 at the lowest rate",
        "<=",
        0.05,
    ),
    Claim(
        "loss_blows_up",
        "the loss blows up there",
        "swing of the estimate at the highest rate, Adam with beta1 .9 over RMSProp",
        ">=",
        2.0,
    ),
    Claim(
        "samples_worse",
        "and samples get worse",
        "exact W1 at the end at the highest rate, Adam with beta1 .9 over RMSProp",
        ">=",
        1.2,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The lowest of the `rates` is to `bound` as the paper's 5e-5 is to .01."""

    rates: tuple[float, ...] = (5e-4, 2e-3, 1e-2)
    bound: float = 0.1
    steps: int = 150
    n_critic: int = 5
    batch_size: int = 64
    width: int = 64
    depth: int = 3
    judged: int = 1000
    seeds: int = 3


@dataclass(frozen=True, eq=False)
class Course:
    """One run: the estimate at each step, the cosine at each critic update, W1 at the end."""

    estimate: Floats
    cosine: Floats
    w1: float

    @property
    def negative(self) -> float:
        """The share of critic updates against the gradient."""
        return float((self.cosine < 0).mean())

    @property
    def swing(self) -> float:
        """The estimate's standard deviation in the second half."""
        return float(self.estimate[len(self.estimate) // 2 :].std())


def watch_cosine(state: TrainState) -> list[float]:
    """A list that each critic update adds to: the cosine of its step and of -gradient."""
    assert state.critic is not None
    optimizer, parameters = state.critic.optimizer, state.critic.parameters
    found: list[float] = []
    before: list[Tensor] = []

    def flat(tensors: list[Tensor]) -> Tensor:
        return torch.cat([t.detach().flatten() for t in tensors])

    def remember(*_: Any) -> None:
        before[:] = [flat(parameters)]

    def compare(*_: Any) -> None:
        step = flat(parameters) - before[0]
        gradient = flat([p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters])
        found.append(float(torch.cosine_similarity(step, -gradient, dim=0)))

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(compare)
    return found


def follow(kind: str, rate: float, seed: int, settings: Settings, budget: Budget) -> Course:
    """Train once."""
    source = Gaussians8(seed)
    shapes, spec = Shapes((2,), latent=2), NetworkSpec(settings.width, settings.depth)
    if kind == _RMSPROP:
        optimizer = OptimizerSpec("rmsprop", rate)
    else:
        optimizer = OptimizerSpec("adam", rate, 0.9, 0.999)
    method = Method(
        Wasserstein(),
        OptimizerSpec("rmsprop", rate),
        optimizer,
        (WeightClipping(settings.bound),),
        batch_size=settings.batch_size,
        generator_batch_size=settings.batch_size,
        latent=2,
        n_critic=settings.n_critic,
        average=0,
        seed=seed,
    )
    state = TrainState.create(
        method,
        make_generator("mlp", spec, shapes, 2 * seed + 1),
        make_critic("mlp", spec, shapes, 2 * seed + 2),
        source,
    )
    cosine = watch_cosine(state)
    estimate: list[float] = []
    try:
        for record in train(state, source, until=budget.until(settings.steps)):
            estimate.append(float(record["wasserstein_estimate"] or 0.0))
    except NonFiniteError:
        estimate.append(float("inf"))  # blown up for good
    latent = torch.randn(settings.judged, 2, generator=torch.Generator().manual_seed(seed))
    fake = synthesize(state.generator.module, latent, None, state.like).double().numpy()
    real = source.batch(torch.arange(10**6, 10**6 + settings.judged)).values.double().numpy()
    w1 = exact(real, fake).value if np.isfinite(fake).all() else float("inf")
    return Course(np.array(estimate), np.array(cosine), w1)


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Every optimizer at every rate, from every seed."""
    found = budget.trials(
        lambda seed: {
            (kind, rate): follow(kind, rate, seed, settings, budget)
            for kind in KINDS
            for rate in settings.rates
        },
        settings.seeds,
    )
    low, high = settings.rates[0], settings.rates[-1]
    return Outcome(
        statistics={
            "rmsprop_descends": [
                max(one[_RMSPROP, rate].negative for rate in settings.rates) for one in found
            ],
            "adam_turns": [one[_ADAM, high].negative for one in found],
            "only_when_unstable": [one[_ADAM, low].negative for one in found],
            "loss_blows_up": [one[_ADAM, high].swing / one[_RMSPROP, high].swing for one in found],
            "samples_worse": [one[_ADAM, high].w1 / one[_RMSPROP, high].w1 for one in found],
        },
        settings=asdict(settings),
        figure=_draw(found, settings),
        notes={
            name: {
                f"{kind}, rate {rate:g}": [getattr(one[kind, rate], name) for one in found]
                for kind in KINDS
                for rate in settings.rates
            }
            for name in ("w1", "negative", "swing")
        },
    )


def _draw(found: list[dict[tuple[str, float], Course]], settings: Settings) -> Figure:
    across = len(settings.rates)
    figure, axes = panels(across, 9.2, 5.2, down=2)
    for column, rate in enumerate(settings.rates):
        top, bottom = axes[column], axes[across + column]
        for kind, colour in zip(KINDS, (SERIES[0], SERIES[1]), strict=True):
            course = found[0][kind, rate]
            w1 = float(np.mean([one[kind, rate].w1 for one in found]))
            top.plot(
                course.estimate, color=colour, lw=1.1, alpha=0.85, label=f"{kind}: W1 {w1:.2f}"
            )
            share = float(np.mean([one[kind, rate].negative for one in found]))
            window = max(1, len(course.cosine) // 40)
            smooth = np.convolve(course.cosine, np.ones(window) / window, "valid")
            steps = (np.arange(len(smooth)) + window / 2) / settings.n_critic
            bottom.plot(steps, smooth, color=colour, lw=1.1, label=f"{share:.0%} negative")
        low, high = top.get_ylim()
        top.set_ylim(low, high + 0.45 * (high - low))
        bottom.set_ylim(-0.6, 1.5)
        bottom.axhline(0, color=MUTED, lw=0.8)
        legend(top, loc="upper right", labelspacing=0.2)
        legend(bottom, loc="upper right", labelspacing=0.2)
        label(top, f"rate {rate:g}", "step", "E f(x) - E f(y)" if not column else "")
        label(bottom, "", "step", "cosine of step, -gradient" if not column else "")
    return figure


EXPERIMENT = Experiment(
    name="momentum",
    title="Momentum on a clipped critic: steps against the gradient, and what they cost",
    source="Arjovsky et al. 2017, section 4.3, end",
    claims=CLAIMS,
    data="gaussians8 (synthetic)",
    differs="8 Gaussians and MLPs of 3 layers of 64 instead of bedrooms and DCGAN; clipped at "
    ".1, the rates ten times the paper's for that, and 4 and 20 times as high again; 150 steps.",
    seconds=60,
    seeds=3,
    needed=3,
    run=run,
)
