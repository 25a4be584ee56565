"""A 101-layer residual generator and critic train with a gradient penalty.

The paper's abstract counts 101-layer ResNets among what a gradient penalty trains stably with
almost no tuning. Here both players are `resnet` networks of 33 blocks with three convolutions each,
a layer before and one behind; the critic has layer norm, for batch norm would make its penalty
depend on other samples, the generator batch norm. They train on pictures of digits.

Depth does no harm if gradients neither vanish nor explode on their way. For both players the norm
of their loss's gradient is taken in what enters each block, at the start and at the end of
training; it counts per number, as a root mean square, for the grids differ. The estimate is passed
through a median filter.

Source: Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.errors import NonFiniteError
from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import label, legend, panels
from wgan.experiments.reproduction.pictures import Digits, Floats, sheet, start
from wgan.networks.resnet import Residual
from wgan.reports.plots import Curve
from wgan.reports.style import MUTED, SERIES
from wgan.training import TrainState, bind_critic, generate, synthesize, train
from wgan.types import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ESTIMATE = "wasserstein_estimate"
PLAYERS = ("generator", "critic")

CLAIMS = (
    *(
        Claim(
            f"{player}_gradients",
            f"gradients neither vanish nor explode over the depth: {player}",
            "greatest norm over least, among the gradients in what enters the blocks, log10, at "
            "the start and at the end",
            "<=",
            1.5,
        )
        for player in PLAYERS
    ),
    Claim(
        "estimate_falls",
        "the estimate falls",
        "filtered estimate at the end, over its greatest",
        "<=",
        0.6,
    ),
    Claim(
        "samples_improve",
        "and samples get better",
        "Frechet distance at the end over that before training",
        "<=",
        0.6,
    ),
)


@dataclass(frozen=True)
class Settings:
    """Published: `lr`, `n_critic` and the penalty's weight are 1e-4, 5 and 10."""

    steps: int = 500
    blocks: int = 33
    width: int = 16
    batch_size: int = 16
    n_critic: int = 2
    lr: float = 5e-4
    judged: int = 1000
    seeds: int = 3


@dataclass(frozen=True, eq=False)
class Trial:
    """One run.

    Attributes:
        layers: With weights, of each player.
        estimate: Over the steps.
        norms: By player, ``[2, blocks]``: at the start and at the end, first block to last.
        frechet: Before training and at the end.
        samples: At the end, pixel levels.
    """

    layers: Mapping[str, int]
    estimate: Curve
    norms: Mapping[str, Floats]
    frechet: tuple[float, float]
    samples: Floats

    def spread(self, player: str) -> float:
        """log10 of the greatest over the least norm of a player's gradients, the worse of both."""
        norms = np.maximum(self.norms[player], np.finfo(np.float64).tiny)
        return float(np.log10(norms.max(1) / norms.min(1)).max())

    @property
    def fall(self) -> float:
        """The filtered estimate at the end over its greatest."""
        values = self.estimate.median().values
        return float(values[-1] / values.max())


def gradients(state: TrainState, digits: Digits, count: int, seed: int) -> dict[str, Floats]:
    """By player the gradient's norm in what enters each block, per number, first block to last.

    Of ``mean f(x) - mean f(y)`` for the critic and ``-mean f(y)`` for the generator, on held-out
    pictures and fresh samples.
    """
    assert state.critic is not None
    # Copies, for batch norm learns from every pass.
    generator, critic = deepcopy(state.generator.module), deepcopy(state.critic.module)
    real = digits.held.batch(torch.arange(count)).values.to(state.like)
    latent = torch.randn(count, state.method.latent, generator=torch.Generator().manual_seed(seed))
    entered: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        entered.append(inputs[0])

    hooks = [
        module.register_forward_pre_hook(keep)
        for network in (generator, critic)
        for module in network.modules()
        if isinstance(module, Residual)
    ]
    score = bind_critic(critic, None)
    fake = generate(generator, latent.to(state.like), None)
    depth = len(entered)
    fooled = -score(fake).score.mean()
    in_generator = torch.autograd.grad(fooled, entered[:depth])
    entered.clear()
    both = torch.cat([real, fake.detach()])
    scores = score(both).score
    told = scores[:count].mean() - scores[count:].mean()
    in_critic = torch.autograd.grad(told, entered)
    for hook in hooks:
        hook.remove()
    return {
        player: np.array([float(one.square().mean().sqrt()) for one in found])
        for player, found in zip(PLAYERS, (in_generator, in_critic), strict=True)
    }


def layers(network: nn.Module) -> int:
    """Convolutions and linear layers."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return sum(isinstance(module, kinds) for module in network.modules())


def trial(seed: int, digits: Digits, settings: Settings, budget: Budget) -> Trial:
    """Train both players, and look at them before and after."""
    given = {
        "recipe": "wgan-gp",
        "network": "resnet",
        "depth": settings.blocks,
        "critic_norm": "layer",
        "generator_norm": "batch",
        "width": settings.width,
        "batch_size": settings.batch_size,
        "n_critic": settings.n_critic,
        "lr": settings.lr,
    }
    state = start(given, seed, settings.steps, digits.training)
    rng = torch.Generator().manual_seed(seed)
    latent = torch.randn(len(digits.real), state.method.latent, generator=rng)

    def sampled() -> NDArray[np.uint8]:
        values = synthesize(state.generator.module, latent, None, state.like)
        own: NDArray[np.uint8] = digits.training.codec.decode(values)
        return own

    assert state.critic is not None
    before = digits.frechet(sampled())
    first = gradients(state, digits, settings.batch_size, seed)
    records: list[Record] = []
    with suppress(NonFiniteError):
        records += train(state, digits.training, until=budget.until(settings.steps))
    last = gradients(state, digits, settings.batch_size, seed)
    own = sampled()
    steps = np.array([record["step"] for record in records], dtype=np.int64)
    return Trial(
        {"generator": layers(state.generator.module), "critic": layers(state.critic.module)},
        Curve(steps, np.array([record[ESTIMATE] for record in records], dtype=float)),
        {player: np.stack([first[player], last[player]]) for player in PLAYERS},
        (before, digits.frechet(own)),
        own[:40].reshape(-1, *own.shape[-2:]).astype(float),
    )


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """One run from every seed."""
    digits = Digits.open(settings.judged)
    found = budget.trials(lambda seed: trial(seed, digits, settings, budget), settings.seeds)
    return Outcome(
        statistics={
            **{f"{player}_gradients": [one.spread(player) for one in found] for player in PLAYERS},
            "estimate_falls": [one.fall for one in found],
            "samples_improve": [one.frechet[1] / one.frechet[0] for one in found],
        },
        settings=asdict(settings),
        figure=_draw(found),
        notes={
            "layers": dict(found[0].layers),
            "frechet_floor": digits.floor,
            "frechet": [list(one.frechet) for one in found],
            "gradients": {
                player: [[[float(f"{v:.3g}") for v in row] for row in one.norms[player]]
                         for one in found]
                for player in PLAYERS
            },
        },
        data=digits.instead,
    )  # fmt: skip


def _draw(found: list[Trial]) -> Figure:
    figure, axes = panels(4, 12.4, 3.2)
    for panel, player in zip(axes, PLAYERS, strict=False):
        for i, one in enumerate(found):
            for row, (style, when) in enumerate((("--", "start"), ("-", "end"))):
                norms = one.norms[player][row]
                name = when if i == 0 else None
                panel.plot(range(1, len(norms) + 1), norms, style, color=SERIES[i], lw=1.2,
                           label=name)  # fmt: skip
        panel.set_yscale("log")
        low, high = panel.get_ylim()
        middle = (low * high) ** 0.5
        panel.set_ylim(min(low, middle / 30), max(high, middle * 30))
        label(panel, f"{player}: {found[0].layers[player]} layers", "block, input to output",
              "" if panel is axes[1] else "norm of the gradient, per number")  # fmt: skip
        legend(panel, loc="lower left")
    for i, one in enumerate(found):
        axes[2].plot(one.estimate.steps, one.estimate.values, color=SERIES[i], lw=0.5, alpha=0.35)
        median = one.estimate.median()
        axes[2].plot(median.steps, median.values, color=SERIES[i], lw=1.5)
    axes[2].axhline(0, color=MUTED, lw=0.6)
    label(axes[2], "estimate, all seeds", "step", "E f(x) - E f(y)")
    sheet(axes[3], found[0].samples, across=8)
    label(axes[3], f"samples: Frechet {found[0].frechet[0]:.0f} to {found[0].frechet[1]:.0f}")
    return figure


EXPERIMENT = Experiment(
    name="deep-resnet",
    title="101-layer residual players train with a gradient penalty",
    source="Gulrajani et al. 2017, section 5",
    claims=CLAIMS,
    data="MNIST, 28 x 28 pixels; samples are judged by test pictures, which are not trained on",
    differs="MNIST instead of bedrooms (LSUN is not to be had); 16 filters, batches of 16, two "
    "critic updates a step and a rate of 5e-4; 500 steps. A block adds its branch divided by the "
    "root of the number of blocks.",
    seconds=1400,
    seeds=3,
    needed=3,
    run=run,
)
