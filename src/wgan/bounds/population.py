"""W1 between populations, from below, certified; and from above where a diameter is known.

``W1(P, Q) = sup E_P f - E_Q f`` over 1-Lipschitz f (Kantorovich and Rubinstein), so that any such f
bounds it from below. Several are found on one part of the samples, one is chosen on a second, and
what it separates is measured on a third, so that nothing reported was fitted to what it is measured
on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wgan.bounds.critics import Draw, LipschitzCritic, Points
from wgan.bounds.fitting import Budget, fit_anchored, fit_line, fit_network, minibatches
from wgan.bounds.intervals import Gap, population_gap
from wgan.errors import UserError
from wgan.transport import Cost

FEWEST = 60
"""Samples of each population below which there are too few for three parts."""

_TRAINED, _CHOSEN = 0.6, 0.15  # shares; the rest is measured on
_TRIALS = {"networks": 0.07, "cones": 0.05}  # shares of the budget, for each kind to show itself
_LEAST = 0.05  # of the budget, below which a kind is not tried again
_AHEAD = 1.2  # times what a network reached, from which on cones get all of the rest
_ANCHORS = 2_000
_TRIED = 1_000  # cones of a trial
_LEARNED = 256  # cones that move


@dataclass(frozen=True, eq=False)
class Parts:
    """Two populations in three independent parts.

    Attributes:
        dim: Numbers in a sample.
        draw: Batches to fit on.
        choose: ``(x, y)`` on which one of several critics is chosen.
        measure: ``(x, y)`` on which it is measured.
        anchors: Samples of each that `draw` has at least.
    """

    dim: int
    draw: Draw
    choose: tuple[Points, Points]
    measure: tuple[Points, Points]
    anchors: int


def split(x: Points, y: Points, seed: int) -> Parts:
    """Two finite samples in three parts each, at random: 60%, 15% and 25%.

    Raises:
        UserError: Fewer than `FEWEST` samples of one.
    """
    fewest = min(len(x), len(y))
    if fewest < FEWEST:
        raise UserError(
            f"a bound on the populations needs at least {FEWEST} samples of each, got {fewest}"
        )
    rng = np.random.default_rng(seed)
    parts = []
    for points in (x, y):
        order = rng.permutation(len(points))
        first = int(_TRAINED * len(points))
        second = first + int(_CHOSEN * len(points))
        parts.append([points[order[:first]], points[order[first:second]], points[order[second:]]])
    (fit_x, choose_x, measure_x), (fit_y, choose_y, measure_y) = parts
    anchors = min(len(fit_x), len(fit_y))
    return Parts(
        x.shape[1],
        minibatches(fit_x, fit_y),
        (choose_x, choose_y),
        (measure_x, measure_y),
        anchors,
    )


def unlimited(draw: Draw, dim: int, seed: int, *, choose: int, measure: int) -> Parts:
    """The parts of two populations that can be drawn from without end."""

    def part(offset: int, n: int) -> tuple[Points, Points]:
        x, y = draw(torch.Generator().manual_seed(seed * 3 + offset), n)
        return x.numpy(), y.numpy()

    return Parts(dim, draw, part(1, choose), part(2, measure), _ANCHORS)


@dataclass(frozen=True, eq=False)
class PopulationBound:
    """A certified lower bound of W1 between two populations.

    Attributes:
        gap: What the chosen critic separates on the third part, with its bound.
        critic: The chosen one, 1-Lipschitz in the ground metric.
        chosen: What every critic separated on the second part, by name.
        seconds: What it took.
    """

    gap: Gap
    critic: LipschitzCritic
    chosen: Mapping[str, float]
    seconds: float

    @property
    def lower(self) -> float:
        """The bound at the gap's level; 0, which always holds, where that is negative."""
        return max(0.0, self.gap.lower)


Way = Callable[[Draw, torch.Generator, Budget], LipschitzCritic]

WAYS: tuple[str, ...] = ("maxmin", "sorted", "half-sorted", "cones-up", "cones-down")
"""The kinds of critic that are fitted, beside the best line."""

LEARNED_CONES = "cones-learned"
"""A maximum of cones whose places are learned too; fitted only where it is asked for."""


def lower_bound(
    parts: Parts,
    budget: Budget,
    *,
    cost: Cost = "euclidean",
    level: float = 0.95,
    spread: float | None = None,
    seed: int = 0,
    ways: Sequence[str] = WAYS,
    given: Sequence[LipschitzCritic] = (),
) -> PopulationBound:
    """The best of several 1-Lipschitz critics, measured on samples that had no part in finding it.

    Every way gets a short trial; the two that separate the second part best share what is left of
    the budget; and the critic that is measured is the best of all, trials included.

    Args:
        parts: The samples.
        budget: For all of the fitting.
        cost: The ground metric.
        level: Of the one-sided bound.
        spread: The most that a critic can differ by, for an interval at every size; None: CLT.
        seed: Of weights and draws.
        ways: Which of `WAYS` to try, and `LEARNED_CONES`.
        given: Further critics, already 1-Lipschitz, to choose from.
    """
    began, at = time.monotonic(), budget.clock()
    x, y = parts.choose
    noted: dict[str, tuple[float, LipschitzCritic]] = {}

    def value(critic: LipschitzCritic) -> float:
        return float(critic(x).mean() - critic(y).mean())

    def note(name: str, critic: LipschitzCritic) -> float:
        found = value(critic)
        if name not in noted or found > noted[name][0]:
            noted[name] = found, critic
        return found

    for i, critic in enumerate(given):
        note(f"given {i + 1}: {critic.name}", critic)
    note("line", fit_line(parts.draw, _rng(seed, 0), cost=cost))
    anchors = min(_ANCHORS, parts.anchors)
    tried = _ways(cost, value, min(_TRIED, anchors))
    best: dict[str, tuple[float, str]] = {}
    for i, name in enumerate(ways):
        family = _family(name)
        critic = tried[name](parts.draw, _rng(seed, i + 1), budget.part(_TRIALS[family]))
        best[family] = max(best.get(family, (-math.inf, "")), (note(name, critic), name))
    finalists = _finalists(best)
    ways_left = _ways(cost, value, anchors)
    for i, name in enumerate(finalists):
        left = 1 - sum(_TRIALS[_family(way)] for way in ways)
        if budget.seconds is not None:  # there are fixed costs beside the trials' budgets
            left = 1 - (budget.clock() - at) / budget.seconds
            share = left / (len(finalists) - i)
        else:
            share = left / len(finalists)
        if share > _LEAST:
            rng = _rng(seed, len(ways) + 1 + i)
            note(name, ways_left[name](parts.draw, rng, budget.part(share)))
    _, critic = max(noted.values(), key=lambda entry: entry[0])
    first, second = parts.measure
    gap = population_gap(critic(first), critic(second), level=level, spread=spread)
    chosen = {name: found for name, (found, _) in noted.items()}
    return PopulationBound(gap, critic, chosen, time.monotonic() - began)


def _family(way: str) -> str:
    return "cones" if way.startswith("cones") else "networks"


def _finalists(best: Mapping[str, tuple[float, str]]) -> list[str]:
    """The kinds that get the rest of the budget, of the best trial of each family."""
    if len(best) == 2:
        network, cones = best["networks"], best["cones"]
        # Cones come quickly to what they can reach and networks slowly, so that a network that is
        # ahead stays so.
        if network[0] >= cones[0]:
            return [network[1]]
        if cones[0] >= _AHEAD * network[0]:
            return [cones[1]]
    return [name for _, name in best.values()]


def _ways(cost: Cost, value: Callable[[LipschitzCritic], float], anchors: int) -> dict[str, Way]:
    def network(group: int | None, depth: int, share: float = 1.0) -> Way:
        return lambda draw, rng, budget: fit_network(
            draw, rng, budget, cost=cost, group=group, depth=depth, share=share, watch=value
        )

    def cones(above: bool, most: int = anchors, moving: bool = False) -> Way:
        return lambda draw, rng, budget: fit_anchored(
            draw, rng, budget, cost=cost, above=above, anchors=most, moving=moving
        )

    return {
        "maxmin": network(2, depth=3),
        "sorted": network(None, depth=2),  # a full sort says more in one layer
        "half-sorted": network(None, depth=3, share=0.5),
        "cones-up": cones(True),
        "cones-down": cones(False),
        LEARNED_CONES: cones(True, most=min(_LEARNED, anchors), moving=True),
    }


def _rng(seed: int, way: int) -> torch.Generator:
    return torch.Generator().manual_seed(1_000_003 * seed + way)
