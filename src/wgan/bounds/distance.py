"""How far two data sets, or a model and its data, are apart, and what is known of it.

Three questions, never mixed up: the W1 of the two finite samples; the W1 of the populations from
below, certified; and from above. Beside them stand other distances, as context.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wgan.bounds.critics import LipschitzCritic, Points
from wgan.bounds.fitting import Budget
from wgan.bounds.intervals import (
    Interval,
    box_diameter,
    check_level,
    inside,
    transport_excess,
)
from wgan.bounds.population import FEWEST, WAYS, PopulationBound, lower_bound, split
from wgan.errors import UnknownNameError, UserError
from wgan.transport import (
    Cost,
    Gaussian,
    SampleDistance,
    as_points,
    cost_matrix,
    energy_statistic,
    exact_from_cost,
    max_sliced_direction,
    permutation_test,
    random_directions,
    sample_bures_squared,
    sample_distance,
    sinkhorn_divergence,
    sliced_wasserstein,
    wasserstein_1d,
)

METRICS: tuple[Cost, ...] = ("euclidean", "l1", "linf")
"""Ground metrics of W1."""

_CONTEXT = 1_000  # samples of each in the context's matrices
_FLOOR = 1_000  # in each half, for the noise floor
_LOOSE = 0.1  # share of the plug-in value that chance alone may make up
_FINITE = 0.3  # share of the time for the two samples' own distance


@dataclass(frozen=True)
class Population:
    """W1 between the populations that two samples were drawn from.

    Attributes:
        lower: With probability at least `level`, W1 is at least this; 0 says nothing.
        upper: With probability at least `level`, W1 is at most this; None: no diameter is known.
        upper_is_loose: Whether chance alone makes up more than a tenth of the samples' W1, so that
            the upper bound, and the samples' W1 itself, say little.
        estimate: What the chosen critic separates, without the allowance for chance.
        level: Of each bound by itself.
        interval: How the lower bound allows for chance.
        method: The critic that gave it.
        noise_floor: W1 of a sample against another of the same population, at `floor_size` samples;
            the larger of the two populations'.
        at_floor_size: W1 of the two samples at that size.
        floor_size: Samples on each side of both.
        critics: What each critic separated where one was chosen.
    """

    lower: float
    upper: float | None
    upper_is_loose: bool
    estimate: float
    level: float
    interval: Interval
    method: str
    noise_floor: float
    at_floor_size: float
    floor_size: int
    critics: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Distance:
    """What is known of the distance between two data sets; in the data's own units.

    Attributes:
        samples: W1 of the two samples, exact or between two bounds.
        population: W1 of the populations; None where there are too few samples.
        context: Other distances, by name.
        sizes: Samples in each.
        metric: The ground metric.
        unit: Of W1.
        seconds: What it took.
        critic: The 1-Lipschitz critic behind the lower bound.
    """

    samples: SampleDistance
    population: Population | None
    context: Mapping[str, float]
    sizes: tuple[int, int]
    metric: Cost
    unit: str
    seconds: float
    critic: LipschitzCritic | None = field(repr=False)
    _points: tuple[Points, Points] = field(repr=False)

    @property
    def lower(self) -> float | None:
        """The certified lower bound of the populations' W1."""
        return None if self.population is None else self.population.lower

    @property
    def upper(self) -> float | None:
        """Its upper bound, where a diameter is known."""
        return None if self.population is None else self.population.upper

    @property
    def estimate(self) -> float | None:
        """What the best critic separates on samples that it was not fitted to."""
        return None if self.population is None else self.population.estimate

    @property
    def interval(self) -> str | None:
        """``clt`` or ``bernstein``."""
        return None if self.population is None else self.population.interval

    @property
    def method(self) -> str | None:
        """The critic behind the lower bound."""
        return None if self.population is None else self.population.method

    def to_json(self) -> dict[str, Any]:
        """Plain data; see docs/distance.md for each number."""
        population: dict[str, Any] | None = None
        if self.population is not None:
            population = {**vars(self.population), "critics": dict(self.population.critics)}
        return {
            "samples": {
                "w1": self.samples.upper,
                "dual": self.samples.lower,
                "gap": self.samples.gap,
                "exact": self.samples.exact,
                "method": self.samples.method,
                "sizes": list(self.sizes),
            },
            "population": population,
            "context": dict(self.context),
            "metric": self.metric,
            "unit": self.unit,
            "seconds": self.seconds,
        }

    def explain(self) -> str:
        """What may be concluded, in one paragraph."""
        finite, unit = self.samples, self.unit
        if finite.exact:
            said = f"The two samples are {_number(finite.upper)} apart, exactly ({unit})."
        else:
            said = (
                f"The two samples are between {_number(finite.lower)} and {_number(finite.upper)} "
                f"apart, both certified ({unit})."
            )
        found = self.population
        if found is None:
            return f"{said} They are too few to say anything of the populations: {FEWEST} of each."
        if found.lower > 0:
            how = "asymptotically" if found.interval == "clt" else "at any sample size"
            said += (
                f" The populations they come from are at least {_number(found.lower)} apart, at "
                f"{found.level:.0%} confidence ({how}), for a 1-Lipschitz critic ({found.method}) "
                f"separates them by {_number(found.estimate)} on samples it was not fitted to."
            )
        else:
            said += (
                " No critic told the populations apart on samples it was not fitted to; that says "
                "nothing about how close they are."
            )
        if found.upper is None:
            said += " Without known bounds of the data nothing can be said from above."
        else:
            said += f" They are at most {_number(found.upper)} apart, at the same confidence."
        if found.upper_is_loose:
            said += (
                f" Chance alone puts {_number(found.noise_floor)} between two samples of one of "
                f"them, against {_number(found.at_floor_size)} between the two at the same size "
                f"({found.floor_size:,} each), so the samples' distance, and any bound from above, "
                "is loose."
            )
        return said

    def table(self) -> str:
        """The numbers in lines, for a terminal."""
        finite = self.samples
        w1 = _number(finite.upper)
        if not finite.exact:
            w1 = f"{_number(finite.lower)} to {w1}"
        lines = [("W1 of the two samples", w1, finite.method)]
        if (found := self.population) is not None:
            lines += [
                (
                    "W1 of the populations, at least",
                    _number(found.lower),
                    f"{found.level:.0%}, {found.interval}; {found.method}",
                ),
                (
                    "W1 of the populations, at most",
                    "not known" if found.upper is None else _number(found.upper),
                    "needs bounds" if found.upper is None else "loose" * found.upper_is_loose,
                ),
                (
                    "noise floor of W1",
                    _number(found.noise_floor),
                    f"where the two are {_number(found.at_floor_size)} apart: "
                    f"{found.floor_size:,} samples of each",
                ),
            ]
        names = {
            "sliced_w1": "sliced W1",
            "max_sliced_w1": "max-sliced W1",
            "w2": "W2",
            "w2_of_gaussians": "W2 of the fitted Gaussians",
            "sinkhorn_divergence": "Sinkhorn divergence",
            "energy": "energy distance",
            "mmd_squared": "MMD squared",
        }
        for name, title in names.items():
            if name in self.context:
                p_value = self.context.get(f"{name}_p_value")
                note = "" if p_value is None else f"as large by chance with p = {p_value:.2g}"
                lines.append((title, _number(self.context[name]), note))
        width = max(len(title) for title, _, _ in lines)
        value = max(len(number) for _, number, _ in lines)
        return "\n".join(f"{t:<{width}}  {v:>{value}}  {note}".rstrip() for t, v, note in lines)

    def plot(self, path: str | Path | None = None) -> Any:
        """Where the mass must move: the plan in two dimensions, else along the critic.

        Args:
            path: Where to save the picture; None: nowhere.

        Returns:
            The matplotlib figure.
        """
        from wgan.bounds.picture import draw_distance

        return draw_distance(self, *self._points, path)


def measure(
    x: Any,
    y: Any,
    *,
    metric: Cost = "euclidean",
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
    seconds: float | None = 60.0,
    steps: int | None = None,
    seed: int = 0,
    ways: Sequence[str] = WAYS,
    given: Sequence[LipschitzCritic] = (),
    unit: str = "the data's units",
) -> Distance:
    """W1 between two samples and between their populations.

    Args:
        x: ``[n, *shape]``, independent draws of one population, in own units.
        y: ``[m, *shape]``, of the other.
        metric: The ground metric on flat samples: ``euclidean``, ``l1`` or ``linf``.
        bounds: ``(low, high)`` that hold for every number that can occur, not only for those seen:
            with them the bounds hold at any sample size and there is one from above.
        level: Of each bound by itself, in (0.5, 1).
        seconds: Of the whole, > 0; None: `steps` decides.
        steps: Updates in finding critics, in all; None: `seconds` decides.
        seed: Of splits, weights and draws. With `steps` alone the result is a function of it.
        ways: Kinds of critic to try.
        given: Further 1-Lipschitz critics.
        unit: What W1 is measured in.

    Raises:
        UserError: Shapes that differ, values that are not finite or out of bounds, a value out of
            its range.
    """
    began = time.monotonic()
    if metric not in METRICS:
        raise UnknownNameError("metric", metric, METRICS)
    for way in ways:
        if way not in WAYS:
            raise UnknownNameError("critic", way, WAYS)
    check_level(level)
    if seconds is None and steps is None:
        raise UserError("give `seconds` or `steps`: one of them must end it")
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(f"`seconds` must be > 0, got {seconds}")
    if steps is not None and steps < 1:
        raise UserError(f"`steps` must be >= 1, got {steps}")
    shapes = np.shape(x)[1:], np.shape(y)[1:]
    x, y = as_points(x, "a"), as_points(y, "b")
    if shapes[0] != shapes[1] or x.shape[1] != y.shape[1]:
        raise UserError(
            f"`a` and `b` must have samples of one shape, got {list(shapes[0])} and "
            f"{list(shapes[1])}"
        )
    diameter = None
    if bounds is not None:
        diameter = box_diameter(bounds, x.shape[1], metric)
        for name, points in (("a", x), ("b", y)):
            if not inside(points, bounds):
                raise UserError(
                    f"`bounds` are {bounds[0]:g} to {bounds[1]:g}, and `{name}` has values from "
                    f"{points.min():g} to {points.max():g}; give bounds that always hold"
                )

    context = _context(x, y, metric, seed)
    finite = sample_distance(
        x, y, cost=metric, seconds=None if seconds is None else _FINITE * seconds
    )
    population = critic = None
    if min(len(x), len(y)) >= FEWEST:
        left = None
        if seconds is not None:
            left = max(0.1 * seconds, seconds - (time.monotonic() - began)) * 0.9
        bound = lower_bound(
            split(x, y, seed),
            Budget(steps, left),
            cost=metric,
            level=level,
            spread=diameter,
            seed=seed,
            ways=ways,
            given=given,
        )
        critic = bound.critic
        population = _population(x, y, finite, bound, diameter, level, metric, seed)
    return Distance(
        finite,
        population,
        context,
        (len(x), len(y)),
        metric,
        unit,
        time.monotonic() - began,
        critic,
        (x, y),
    )


def _population(
    x: Points,
    y: Points,
    finite: SampleDistance,
    bound: PopulationBound,
    diameter: float | None,
    level: float,
    metric: Cost,
    seed: int,
) -> Population:
    upper = None
    if diameter is not None:
        upper = finite.upper + transport_excess(len(x), len(y), diameter, level)
        upper = min(upper, diameter)
    size, floor, at_size = _noise(x, y, metric, seed)
    return Population(
        lower=bound.lower,
        upper=upper,
        upper_is_loose=floor > _LOOSE * at_size,
        estimate=bound.gap.estimate,
        level=level,
        interval=bound.gap.interval,
        method=bound.critic.name,
        noise_floor=floor,
        at_floor_size=at_size,
        floor_size=size,
        critics=bound.chosen,
    )


def _noise(x: Points, y: Points, metric: Cost, seed: int) -> tuple[int, float, float]:
    """Samples in a half, W1 within the wider population, and W1 between both at that size."""
    rng = np.random.default_rng(seed)
    size = min(len(x) // 2, len(y) // 2, _FLOOR)
    halves = []
    for points in (x, y):
        order = rng.permutation(len(points))
        halves.append((points[order[:size]], points[order[size : 2 * size]]))

    def w1(first: Points, second: Points) -> float:
        return exact_from_cost(cost_matrix(first, second, metric)).value

    floor = max(w1(first, second) for first, second in halves)
    return size, floor, w1(halves[0][0], halves[1][0])


def _context(x: Points, y: Points, metric: Cost, seed: int) -> dict[str, float]:
    """Other distances, on up to `_CONTEXT` samples of each."""
    rng = np.random.default_rng(seed)
    x, y = (points[rng.permutation(len(points))[:_CONTEXT]] for points in (x, y))
    first, second = torch.from_numpy(x), torch.from_numpy(y)
    generator = torch.Generator().manual_seed(seed)
    dim = x.shape[1]
    lines = random_directions(generator, 500, dim).double()
    found = {
        "samples": float(min(len(x), len(y))),
        "sliced_w1": float(sliced_wasserstein(first, second, lines)),
        "max_sliced_w1": _max_sliced(first, second, lines[:32]),
        "w2": math.sqrt(max(0.0, exact_from_cost(cost_matrix(x, y, "sqeuclidean")).value)),
        "w2_of_gaussians": math.sqrt(max(0.0, sample_bures_squared(x, y))),
    }
    if min(len(x), len(y)) < 2:
        return found
    pooled = np.concatenate([x, y])
    within = cost_matrix(pooled, pooled)
    blur = 0.05 * float(within.max()) or 1.0
    half = slice(None, 500)
    found["sinkhorn_divergence"] = float(
        sinkhorn_divergence(first[half], second[half], blur=blur, p=1, iterations=50)
    )
    found["sinkhorn_blur"] = blur
    spread = float(np.median(within[np.triu_indices(len(pooled), 1)])) or 1.0
    kernel = Gaussian((spread,))(torch.from_numpy(pooled), torch.from_numpy(pooled)).numpy()
    for name, matrix in (("energy", within), ("mmd_squared", -kernel)):
        test = permutation_test(matrix, len(x), permutations=200, seed=seed)
        found[name] = energy_statistic(matrix, len(x))
        found[f"{name}_p_value"] = test.p_value
    return found


def _max_sliced(x: torch.Tensor, y: torch.Tensor, starts: torch.Tensor) -> float:
    """W1 along a direction found on one half, on the other, which did not choose it."""
    n, m = max(1, len(x) // 2), max(1, len(y) // 2)
    _, direction = max_sliced_direction(x[:n], y[:m], starts)
    rest = (x[n:] if len(x) > 1 else x) @ direction, (y[m:] if len(y) > 1 else y) @ direction
    return float(wasserstein_1d(*rest))


def _number(value: float) -> str:
    return f"{value:.4g}"
