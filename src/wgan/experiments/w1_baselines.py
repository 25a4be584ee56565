"""Published estimators of W1 at their published settings, to compare the bounds with.

Networks, optimizers, batches and numbers of updates are those of the benchmark's authors (Korotin,
Kolesov, Burnaev 2022): two hidden layers of ``max(2 D, 128)``, Adam at 2e-4, batches of 1,024. What
each reports is what its critic separates on fresh samples, unscaled: nothing certifies the critic's
slope, so that the estimate may lie above the truth. Only the sorting network is 1-Lipschitz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from wgan.bounds import Budget
from wgan.bounds.critics import Draw, Points
from wgan.constraints import Constraint, GradientPenalty, WeightClipping
from wgan.errors import UnknownNameError
from wgan.layers import GroupSort, orthogonalise
from wgan.transport import exact
from wgan.types import Scores

STEPS: dict[str, int] = {
    "clipping": 5_000,
    "gp": 60_000,
    "lp": 60_000,
    "sn": 10_000,
    "sorting": 25_000,
    "mm-r": 20_000,
    "discrete": 1,
}
"""The published number of critic updates of every estimator."""

_BATCH, _RATE = 1_024, 2e-4
_BOUND, _PENALTY = 0.04, 10.0
_POWER_ITERATIONS, _MOVER_STEPS = 5, 12
_POINTS = 4_096  # of the discrete plan


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an estimator found.

    Attributes:
        gradient: Of its critic at points of P, ``[n, dim]``.
        steps: Updates made.
        scores: Of points, whose mean difference between P and Q is the reported W1; None for the
            discrete plan, which has a `value` and knows the gradient at its own `points` alone.
        value: Of the plan.
        points: Of P.
    """

    gradient: Callable[[Points], Points]
    steps: int
    scores: Callable[[Points], Points] | None = None
    value: float | None = None
    points: Points | None = None


def fit_baseline(name: str, draw: Draw, dim: int, budget: Budget, seed: int) -> Estimate:
    """Train one of `STEPS` until its published number of updates or the budget is spent.

    Args:
        name: A key of `STEPS`.
        draw: Batches of P, scored high, and Q.
        dim: Numbers in a sample.
        budget: Ends it before the published number of updates.
        seed: Of weights and draws.

    Raises:
        UnknownNameError: No such estimator.
    """
    if name not in STEPS:
        raise UnknownNameError("estimator", name, STEPS)
    rng = torch.Generator().manual_seed(seed)
    most = min(STEPS[name], budget.steps or STEPS[name])
    budget = replace(budget, steps=most)
    if name == "discrete":
        return _discrete(draw, rng)
    if name == "mm-r":
        return _maximin(draw, rng, dim, budget)
    constraint: Constraint = {
        "clipping": WeightClipping(_BOUND),
        "gp": GradientPenalty(_PENALTY),
        "lp": GradientPenalty(_PENALTY, one_sided=True),
    }.get(name, Constraint())
    critic = _network(dim, 1, rng)
    betas = (0.0, 0.9)
    if name == "sn":
        for layer in critic:
            if isinstance(layer, nn.Linear):
                spectral_norm(layer, n_power_iterations=_POWER_ITERATIONS)
    if name == "sorting":
        betas = (0.9, 0.999)
        critic = nn.Sequential(
            *(
                orthogonalise(layer) if isinstance(layer, nn.Linear) else GroupSort(None)
                for layer in critic
            )
        )
    optimizer = torch.optim.Adam(critic.parameters(), lr=_RATE, betas=betas)

    def scored(values: Tensor) -> Scores:
        return Scores(critic(values).squeeze(1))

    constraint.project(critic)
    steps = 0
    for _ in budget.shares():
        x, y = (part.float() for part in draw(rng, _BATCH))
        steps += 1
        both = scored(torch.cat([x, y])).score
        loss = both[_BATCH:].mean() - both[:_BATCH].mean()
        penalty = constraint.penalty(scored, x, y, constraint.draw(rng, x.shape), steps)
        optimizer.zero_grad()
        total = loss if penalty is None else loss + penalty.value
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        constraint.project(critic)
    critic.eval()
    return Estimate(_gradient(critic), steps, _scores(critic))


def _network(inputs: int, outputs: int, rng: torch.Generator) -> nn.Sequential:
    width = max(2 * inputs, 128)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=rng)))
        return nn.Sequential(
            nn.Linear(inputs, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, outputs),
        )


def _scores(critic: nn.Module, sign: float = 1.0) -> Callable[[Points], Points]:
    def scores(points: Points) -> Points:
        with torch.no_grad():
            found = critic(torch.from_numpy(points).float()).double().squeeze(1)
        result: Points = sign * found.numpy()
        return result

    return scores


def _gradient(critic: nn.Module) -> Callable[[Points], Points]:
    def gradient(points: Points) -> Points:
        values = torch.from_numpy(points).float().requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(values).sum(), values)
        found: Points = slope.double().numpy()
        return found

    return gradient


def _maximin(draw: Draw, rng: torch.Generator, dim: int, budget: Budget) -> Estimate:
    """MM:R: a map m of points of P and a critic g of Q that is against it.

    ``max_g min_m E_P |x - m(x)| - g(m(x)) + E_Q g``; the gradient is the map's unit step,
    ``(x - m(x)) / |x - m(x)|``.
    """
    critic, mover = _network(dim, 1, rng), _network(dim, dim, rng)
    betas = (0.0, 0.9)
    scoring = torch.optim.Adam(critic.parameters(), lr=_RATE, betas=betas)
    moving = torch.optim.Adam(mover.parameters(), lr=_RATE, betas=betas)
    steps = 0
    for _ in budget.shares():
        x, y = (part.float() for part in draw(rng, _BATCH))
        steps += 1
        critic.requires_grad_(False)
        for _ in range(_MOVER_STEPS):
            moved = mover(x)
            moving.zero_grad()
            ((moved - x).norm(dim=1).mean() - critic(moved).mean()).backward()
            moving.step()
        critic.requires_grad_(True)
        with torch.no_grad():
            moved = mover(x)
        scoring.zero_grad()
        (critic(moved).mean() - critic(y).mean()).backward()
        scoring.step()

    def gradient(points: Points) -> Points:
        with torch.no_grad():
            steps = points - mover(torch.from_numpy(points).float()).double().numpy()
        unit: Points = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-12)
        return unit

    return Estimate(gradient, steps, _scores(critic, sign=-1.0))


def _discrete(draw: Draw, rng: torch.Generator) -> Estimate:
    """The exact plan of two samples; the gradient at x is ``(x - y) / |x - y|``, y its match."""
    x, y = (part.numpy() for part in draw(rng, _POINTS))
    plan = exact(x, y)
    steps = x[plan.source] - y[plan.target]  # one match each, in the order of x
    unit = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-12)
    return Estimate(lambda _: unit, 1, value=plan.primal, points=x[plan.source])
