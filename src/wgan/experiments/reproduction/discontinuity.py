"""W1 is continuous in a generator's weights and differentiable almost everywhere; JS is not.

"1. If g is continuous in theta, so is W(P_r, P_theta). 2. If g is locally Lipschitz and satisfies
regularity assumption 1, then W is continuous everywhere, and differentiable almost everywhere.
3. Statements 1-2 are false for the Jensen-Shannon divergence and all the KLs." By Corollary 1 this
is so for any feedforward network.

P_r is what a small ReLU network makes of Z at weights theta_0, P_theta at theta_0 + t v, v a random
direction. Z has finitely many equally probable values, so that all distances are exact: W1 by exact
transport, JS and TV from the masses of equal points. Continuity: on grids ten times finer around
t = 0 the greatest step of W1 between neighbours shrinks ten times, that of JS and TV does not.
Differentiability: at random t finite differences from the left and from the right agree, and so
does the derivative by the envelope theorem, ``d/dt sum_ij P_ij |x_i - y_j(t)|`` with the
optimal plan P held, by automatic differentiation.

Source: Arjovsky, Chintala, Bottou 2017, Theorem 1 and Corollary 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import label, legend, panels
from wgan.experiments.reproduction.parallel_lines import divergences
from wgan.networks import NetworkSpec, Shapes, make_generator
from wgan.reports.style import MUTED, series_style
from wgan.transport import exact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
NAMES = ("w1", "js", "tv")
_NEAR = 1e-6  # left and right of where a derivative is taken

CLAIMS = (
    Claim(
        "w1_continuous",
        "W1 is continuous in the weights",
        "its greatest step between neighbours on a grid ten times finer, over that on the coarse",
        "<=",
        0.2,
    ),
    *(
        Claim(
            f"{name}_jumps",
            f"{name.upper()} is not",
            "its greatest step on the finer grid, over that on the coarse one",
            ">=",
            0.9,
        )
        for name in ("js", "tv")
    ),
    Claim(
        "w1_differentiable",
        "W1 is differentiable almost everywhere",
        "share of random t at which the slopes from the left and from the right agree to 1%",
        ">=",
        0.95,
    ),
    Claim(
        "w1_gradient",
        "and its derivative is that of the optimal plan",
        "share of random t at which central differences agree with it to 1%",
        ">=",
        0.95,
    ),
)


@dataclass(frozen=True)
class Settings:
    """Of the generator and of the grids of t, each from -`reach` to `reach`."""

    width: int = 16
    depth: int = 2
    atoms: int = 100
    reach: float = 1.0
    places: int = 41
    slopes: int = 30
    seeds: int = 5


@dataclass(frozen=True, eq=False)
class Path:
    """A line through the weights of a generator: t to its samples of Z, ``[atoms, 2]``, float64."""

    still: Tensor
    samples: Callable[[Tensor], Tensor]

    @classmethod
    def draw(cls, seed: int, settings: Settings) -> Path:
        """A network, a direction as long as its weights, and the values of Z."""
        spec = NetworkSpec(settings.width, settings.depth)
        network = make_generator("mlp", spec, Shapes((2,), latent=1), seed).double()
        rng = torch.Generator().manual_seed(seed)
        at = {name: weight.detach() for name, weight in network.named_parameters()}
        towards = {
            name: torch.randn(weight.shape, generator=rng, dtype=weight.dtype)
            * weight.square().mean().sqrt().clamp_min(0.1)
            for name, weight in at.items()
        }
        z = torch.randn(settings.atoms, 1, generator=rng, dtype=torch.float64)

        def samples(t: Tensor) -> Tensor:
            moved = {name: at[name] + t * towards[name] for name in at}
            out: Tensor = torch.func.functional_call(network, moved, (z,))
            return out

        return cls(samples(torch.zeros((), dtype=torch.float64)), samples)

    def at(self, t: float) -> Floats:
        """The samples at t."""
        return np.asarray(self.samples(torch.tensor(t, dtype=torch.float64)))

    def distances(self, t: float) -> dict[str, float]:
        """W1, JS and TV between P_r and P_theta."""
        real, fake = np.asarray(self.still), self.at(t)
        together, place = np.unique(np.concatenate([real, fake]), axis=0, return_inverse=True)
        p, q = (
            np.bincount(half, minlength=len(together)) / len(real)
            for half in np.split(place.reshape(-1), 2)
        )
        return {"w1": exact(real, fake).value, **divergences(p, q)}

    def slope(self, t: float) -> float:
        """dW1/dt by the envelope theorem."""
        at = torch.tensor(t, dtype=torch.float64, requires_grad=True)
        fake = self.samples(at)
        plan = exact(np.asarray(self.still), fake.detach().numpy())
        apart = fake[torch.from_numpy(plan.target)] - self.still[torch.from_numpy(plan.source)]
        cost = torch.from_numpy(plan.mass) @ apart.norm(dim=1)
        return float(torch.autograd.grad(cost, at)[0])


@dataclass(frozen=True, eq=False)
class Trial:
    """One path: the distances on a coarse and a fine grid, and slopes at random places."""

    coarse: dict[str, Floats]
    fine: dict[str, Floats]
    left: Floats
    right: Floats
    envelope: Floats

    def ratio(self, name: str) -> float:
        """The greatest step on the fine grid over that on the coarse one."""
        steps = [float(np.abs(np.diff(grid[name])).max()) for grid in (self.fine, self.coarse)]
        return steps[0] / steps[1]

    def agreement(self, one: Floats, other: Floats) -> float:
        """The share of places where two slopes agree to 1% of the greatest."""
        return float((np.abs(one - other) <= 0.01 * np.abs(self.envelope).max()).mean())


def run_trial(seed: int, settings: Settings, budget: Budget) -> Trial:
    """Follow one path."""
    path = Path.draw(seed, settings)

    def over(grid: Floats) -> dict[str, Floats]:
        found = []
        for t in grid:
            budget.check()
            found.append(path.distances(float(t)))
        return {name: np.array([one[name] for one in found]) for name in NAMES}

    grid = np.linspace(-settings.reach, settings.reach, settings.places)
    slopes = []
    for t in np.random.default_rng(seed).uniform(-settings.reach, settings.reach, settings.slopes):
        budget.check()
        low, here, high = (path.distances(t + by)["w1"] for by in (-_NEAR, 0, _NEAR))
        slopes.append(((here - low) / _NEAR, (high - here) / _NEAR, path.slope(t)))
    table = np.array(slopes)
    return Trial(over(grid), over(grid / 10), table[:, 0], table[:, 1], table[:, 2])


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """A path for each seed."""
    found = budget.trials(lambda seed: run_trial(seed, settings, budget), settings.seeds)
    return Outcome(
        statistics={
            "w1_continuous": [one.ratio("w1") for one in found],
            "js_jumps": [one.ratio("js") for one in found],
            "tv_jumps": [one.ratio("tv") for one in found],
            "w1_differentiable": [one.agreement(one.left, one.right) for one in found],
            "w1_gradient": [
                one.agreement((one.left + one.right) / 2, one.envelope) for one in found
            ],
        },
        settings=asdict(settings),
        figure=_draw(found, settings),
    )


def _draw(found: list[Trial], settings: Settings) -> Figure:
    figure, (left, middle, right) = panels(3, 9.2, 3.0)
    grid = np.linspace(-settings.reach, settings.reach, settings.places)
    for axes, t, side, title in (
        (left, grid, "coarse", "Along a line through the weights"),
        (middle, grid / 10, "fine", "Ten times closer to P_r"),
    ):
        for i, (name, unit) in enumerate((("w1", "data's unit"), ("js", "nats"), ("tv", "share"))):
            values = getattr(found[0], side)[name]
            axes.plot(
                t,
                values,
                **series_style(i),
                marker="o",
                ms=2.5,
                lw=1.2,
                label=f"{name.upper()}, {unit}",
            )
        label(axes, title, "t: weights are theta_0 + t v", "distance from P_r")
    middle.set_ylim(-0.05, 1.8)
    legend(middle, loc="upper center")
    for i, one in enumerate(found):
        style = {"color": series_style(i)["color"], "s": 12, "alpha": 0.8}
        right.scatter(one.envelope, (one.left + one.right) / 2, **style, label=f"seed {i + 1}")
    reach = max(float(np.abs(one.envelope).max()) for one in found)
    right.plot([-reach, reach], [-reach, reach], color=MUTED, lw=0.8, zorder=0)
    legend(right, loc="upper left", handletextpad=0.1)
    label(right, "Slopes of W1 at random t", "from the optimal plan", "by finite differences")
    return figure


EXPERIMENT = Experiment(
    name="discontinuity",
    title="W1 is continuous in a generator's weights, JS and TV are not",
    source="Arjovsky et al. 2017, Theorem 1 and Corollary 1",
    claims=CLAIMS,
    data="samples of a ReLU network, 2 layers of 16 units, from a 1-d latent",
    differs="A theorem in the paper, a measurement here: Z has 100 values instead of a density, so "
    "that every distance is exact.",
    seconds=10,
    seeds=5,
    needed=3,
    run=run,
)
