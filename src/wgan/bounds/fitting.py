"""Find 1-Lipschitz critics that separate two populations as far as they can.

Each way maximises ``E_P f - E_Q f`` (Kantorovich's dual) over its own kind of critic. None is best
everywhere: cones at samples in a few dimensions and where the data cluster, orthogonal networks
beyond; MaxMin where the dimension is small against the width, a full sort where it is not, and in
the highest a sort of half the channels, whose other half lets linear functions pass. What they
reach is measured in `wgan benchmark-w1`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.bounds.critics import (
    Anchored,
    Draw,
    Line,
    LipschitzCritic,
    Scaled,
    metric_ratio,
)
from wgan.bounds.lipschitz import certify, float64_copy
from wgan.bounds.stiefel import StiefelMomentum, scores
from wgan.layers import GroupSort
from wgan.transport import Cost, exact, max_sliced_direction, random_directions

_KNOTS = 512
_LOOKS = 5  # at a network, in the second half of its training


@dataclass(frozen=True)
class Budget:
    """When a fit ends: after `steps` updates, or `seconds`, whichever comes first.

    Attributes:
        steps: >= 1, or None.
        seconds: > 0, or None.
        clock: What tells the seconds: of the wall, or of the processor.
    """

    steps: int | None = None
    seconds: float | None = None
    clock: Callable[[], float] = time.monotonic

    def shares(self) -> Iterator[float]:
        """The share of the budget that is spent, before every update, until it is."""
        began = self.clock()
        step = 0
        while True:
            by_steps = 0.0 if self.steps is None else step / self.steps
            by_time = 0.0 if self.seconds is None else (self.clock() - began) / self.seconds
            spent = max(by_steps, by_time)
            if spent >= 1:
                return
            yield spent
            step += 1

    def part(self, share: float) -> Budget:
        """That share of it."""
        return Budget(
            None if self.steps is None else max(1, int(share * self.steps)),
            None if self.seconds is None else share * self.seconds,
            self.clock,
        )


def fit_line(
    draw: Draw,
    rng: torch.Generator,
    *,
    cost: Cost = "euclidean",
    starts: int = 32,
    iterations: int = 50,
) -> Line:
    """The best 1-Lipschitz function along the direction in which two samples differ most.

    The direction is max-sliced W1's (Deshpande et al. 2019); along it the optimal potential has
    slope ``sign(F_Q - F_P)`` between neighbouring points of the pooled sample.

    Args:
        draw: Batches of both populations.
        rng: Of the draws.
        cost: The ground metric.
        starts: Random directions from which the best is sought, beside that between the means.
        iterations: Ascent steps from each.
    """
    x, y = draw(rng, 2_000)
    begin = random_directions(rng, starts, x.shape[1]).double()
    between = x.mean(0) - y.mean(0)
    if float(between.norm()) > 0:
        begin = torch.cat([begin, (between / between.norm())[None]])
    _, direction = max_sliced_direction(x, y, begin, iterations=iterations)
    unit = direction / direction.norm()
    x, y = draw(rng, 8_000)
    u, v = np.sort((x @ unit).numpy()), np.sort((y @ unit).numpy())
    knots = np.unique(np.quantile(np.concatenate([u, v]), np.linspace(0, 1, _KNOTS)))
    middle = (knots[1:] + knots[:-1]) / 2
    slope = np.sign(np.searchsorted(v, middle) / len(v) - np.searchsorted(u, middle) / len(u))
    values = np.concatenate([[0.0], np.cumsum(slope * np.diff(knots))])
    return Line(unit.numpy(), knots, values, 1 / metric_ratio(cost, len(unit)))


def fit_anchored(
    draw: Draw,
    rng: torch.Generator,
    budget: Budget,
    *,
    cost: Cost = "euclidean",
    above: bool = True,
    anchors: int = 2_000,
    moving: bool = False,
    batch_size: int = 256,
    rate: float = 0.01,
) -> Anchored:
    """McShane's extension from samples, its heights found by stochastic ascent of the dual.

    The heights start as the potentials of the exact transport between two samples of `anchors`
    points, whose extension is biased (it fits those points), and go on by Adam on fresh batches:
    semi-discrete transport (Genevay et al. 2016) with the constraint that both sides share one f.

    Args:
        draw: Batches of both populations.
        rng: Of the draws.
        budget: When it ends.
        cost: The ground metric.
        above: Maximum of cones at samples of P; else minimum of cones at samples of Q.
        anchors: Samples that carry a cone.
        moving: Whether the cones leave their samples, their places learned as their heights are.
        batch_size: Of the ascent.
        rate: Adam's, in units of the samples' mean distance; it falls to 0 by a cosine.
    """
    x, y = draw(rng, anchors)
    plan = exact(x.numpy(), y.numpy(), cost=cost)
    unit = plan.primal or 1.0
    at = (x if above else y).float().requires_grad_(moving)
    start = torch.from_numpy(plan.phi if above else plan.psi)
    heights = nn.Parameter((start / unit).float())
    distance = _PAIRWISE[cost]

    def score(points: Tensor) -> Tensor:
        costs = distance(points, at) / unit
        return (heights - costs).amax(1) if above else (heights + costs).amin(1)

    learned: list[tuple[Tensor, float]] = [(heights, rate)]
    if moving:
        learned.append((at, rate * float(y.std())))
    optimizer = torch.optim.Adam(
        [{"params": [part], "lr": speed, "start": speed} for part, speed in learned],
        betas=(0.9, 0.99),
    )
    for spent in budget.shares():
        _set_rate(optimizer, spent)
        x, y = (part.float() for part in draw(rng, batch_size))
        optimizer.zero_grad()
        (score(y).mean() - score(x).mean()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    found = heights.detach().double().numpy() * unit
    return Anchored(at.detach().double().numpy(), found, cost, above)


def _set_rate(optimizer: torch.optim.Optimizer, spent: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = _falling(group["start"], spent)


def _falling(rate: float, spent: float) -> float:
    """By a cosine to 0."""
    return rate * (1 + math.cos(math.pi * spent)) / 2


def _norm(p: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: torch.cdist(x, y, p=p)


_PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "euclidean": _norm(2.0),
    "l1": _norm(1.0),
    "linf": _norm(math.inf),
}


def orthogonal_network(
    dim: int,
    rng: torch.Generator,
    *,
    width: int = 128,
    depth: int = 3,
    group: int | None = 2,
    share: float = 1.0,
) -> nn.Sequential:
    """Orthogonal layers with GroupSort: 1-Lipschitz (Anil, Lucas, Grosse 2019).

    Args:
        dim: Numbers in a sample.
        rng: Of the initial weights.
        width: Of the hidden layers.
        depth: Hidden layers, >= 1.
        group: Channels that are sorted together; None: all of them.
        share: Of the channels that are sorted; the others pass.
    """
    layers: list[nn.Module] = []
    inputs = dim
    for _ in range(depth):
        layers += [_dense(inputs, width, rng), GroupSort(group, share=share)]
        inputs = width
    return nn.Sequential(*layers, _dense(inputs, 1, rng), nn.Flatten(0))


def _dense(inputs: int, outputs: int, rng: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        start = torch.linalg.qr(
            torch.randn(*sorted((inputs, outputs), reverse=True), generator=rng)
        )
        layer.weight.copy_(start.Q if outputs >= inputs else start.Q.mT)
        layer.bias.normal_(std=0.1, generator=rng)
    return layer


def fit_network(
    draw: Draw,
    rng: torch.Generator,
    budget: Budget,
    *,
    cost: Cost = "euclidean",
    width: int = 128,
    depth: int = 3,
    group: int | None = 2,
    share: float = 1.0,
    batch_size: int = 256,
    rate: float = 0.02,
    watch: Callable[[LipschitzCritic], float] | None = None,
) -> Scaled:
    """An orthogonal network trained on the dual, in the data's own centre and spread.

    Args:
        draw: Batches of both populations.
        rng: Of weights and draws.
        budget: When it ends.
        cost: The ground metric.
        width, depth, group, share: See :func:`orthogonal_network`.
        batch_size: Samples of each population in an update of the first quarter; each further
            quarter doubles them, since late updates are small against their noise.
        rate: Of the weights, in radians an update (:class:`wgan.bounds.stiefel.StiefelMomentum`);
            the biases take Adam's at half of it. Both fall to 0 by a cosine.
        watch: A value to be maximised on samples that are not trained on, asked for a few
            times: the weights of the best are kept. None: the last are.
    """
    x, y = draw(rng, 4_000)
    both = torch.cat([x, y])
    centre = both.mean(0)
    unit = float((both - centre).square().mean().sqrt()) or 1.0
    module = orthogonal_network(
        both.shape[1], rng, width=width, depth=depth, group=group, share=share
    )
    sorts = "full sort" if group is None else "MaxMin" if group == 2 else f"sorts of {group}"
    if share < 1:
        sorts += f" of {share:.0%}"
    name = f"orthogonal network, {depth} x {width}, {sorts}"
    weights = [parameter for parameter in module.parameters() if parameter.dim() == 2]
    biases = [parameter for parameter in module.parameters() if parameter.dim() == 1]
    turning = StiefelMomentum(weights)
    shifting = torch.optim.Adam(
        [{"params": biases, "lr": rate / 2, "start": rate / 2}], betas=(0.9, 0.99)
    )
    ratio = metric_ratio(cost, len(centre))

    def critic(network: nn.Module, constant: float) -> Scaled:
        return Scaled(network, (len(centre),), constant * ratio, centre.numpy(), unit, name)

    best: tuple[float, nn.Module] | None = None
    looks = 0
    for spent in budget.shares():
        if watch is not None and 2 * spent - 1 >= looks / _LOOKS:
            looks += 1
            network = float64_copy(module)
            value = watch(critic(network, 1.0))  # within rounding of what will be certified
            if best is None or value > best[0]:
                best = value, network
        x, y = draw(rng, batch_size << int(4 * spent))
        found = scores(module, ((torch.cat([x, y]) - centre) / unit).float())
        module.zero_grad()
        (found[len(x) :].mean() - found[: len(x)].mean()).backward()  # type: ignore[no-untyped-call]
        turning.step(_falling(rate, spent))
        _set_rate(shifting, spent)
        shifting.step()
    network = float64_copy(module)
    if watch is not None and best is not None and watch(critic(network, 1.0)) < best[0]:
        network = best[1]
    return critic(network, certify(network, (len(centre),)).constant)


def minibatches(x: NDArray[np.float64], y: NDArray[np.float64]) -> Draw:
    """Batches drawn from two finite samples with replacement; all of both where more are asked."""
    first, second = torch.from_numpy(x), torch.from_numpy(y)

    def draw(rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        return _some(first, rng, n), _some(second, rng, n)

    return draw


def _some(points: Tensor, rng: torch.Generator, n: int) -> Tensor:
    if n >= len(points):
        return points
    return points[torch.randint(len(points), (n,), generator=rng)]
