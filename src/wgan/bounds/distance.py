"""How far two data sets, or a model and its data, are apart, and what is known of it.

Three questions, never mixed up: the W1 of the two finite samples; the W1 of the populations from
below, certified; and from above. Beside them stand other distances, as context.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from wgan.bounds.critics import LipschitzCritic, Points
from wgan.bounds.fitting import Budget
from wgan.bounds.intervals import (
    Choice,
    Interval,
    allowance,
    box_diameter,
    check_level,
    coupling_bound,
    inside,
    transport_excess,
)
from wgan.bounds.population import FEWEST, WAYS, lower_bound, split
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
_Found = TypeVar("_Found")

_LOOSE = 0.1  # share of the plug-in value that chance alone may make up
_FEWER = 20
_FEW = 150  # samples that the context and the floor are first taken on, to see how long they take
_SHARES = {"context": 0.15, "floor": 0.1, "samples": 0.3, "anchors": 0.1}  # of the time


@dataclass(frozen=True)
class Population:
    """W1 between the populations that two samples were drawn from.

    Attributes:
        lower: With probability at least `level`, W1 is at least this; 0 says nothing.
        upper: With probability at least `level`, W1 is at most this; None: no diameter is known.
        upper_method: Where that comes from: the samples' own transport, or a coupling.
        upper_is_loose: Whether chance alone makes up more than a tenth of the samples' W1, so that
            the upper bound, and the samples' W1 itself, say little; not said of a coupling.
        estimate: What the chosen critic separates, without the allowance for chance.
        level: Of each bound by itself.
        interval: How the lower bound, and a coupling's from above, allow for chance.
        method: The critic that gave it.
        noise_floor: W1 of a sample against another of the same population, at `floor_size` samples;
            the larger of the two populations'.
        at_floor_size: W1 of the two samples at that size.
        floor_size: Samples on each side of both.
        critics: What each critic separated where one was chosen.
    """

    lower: float
    upper: float | None
    upper_method: str | None
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
            return (
                f"{said} They are too few to say anything of the populations, which takes {FEWEST} "
                "of each, of pairs twice as many."
            )
        if found.lower > 0:
            how = "asymptotically" if found.interval == "clt" else "at any sample size"
            said += (
                f" The populations they come from are at least {_number(found.lower)} apart, at "
                f"{found.level:.0%} confidence ({how}), for a 1-Lipschitz critic ({found.method}) "
                f"separates them by {_number(found.estimate)} on samples it was not fitted to."
            )
        elif found.estimate > 0:
            certain = "for large samples" if found.interval == "clt" else "at any sample size"
            said += (
                f" The best critic ({found.method}) separates the populations by "
                f"{_number(found.estimate)} on samples it was not fitted to; the allowance for "
                f"chance ({found.interval}, right {certain}) is larger, so nothing is certain from "
                "below, which says nothing about how close they are."
            )
        else:
            said += (
                " No critic told the populations apart on samples it was not fitted to; that says "
                "nothing about how close they are."
            )
        if found.upper is None:
            said += " Without known bounds of the data nothing can be said from above."
        else:
            said += (
                f" They are at most {_number(found.upper)} apart, at the same confidence "
                f"({found.upper_method})."
            )
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
                    "needs bounds"
                    if found.upper is None
                    else f"{found.upper_method}{', loose' * found.upper_is_loose}",
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
                if name == "sliced_w1":
                    note = f"this and what follows on {self.context['samples']:,.0f} of each"
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
    interval: Choice = "auto",
    paired: bool = False,
    spent: float = 0.0,
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
        seconds: Of the whole, > 0; None: `steps` decides. A short time leaves fewer samples to the
            context and the noise floor (each says how many), fewer anchors to cones, and wider
            bounds to large samples.
        steps: Updates in finding critics, in all; None: `seconds` decides.
        seed: Of splits, weights and draws. With `steps` alone the result is a function of it.
        ways: Kinds of critic to try.
        given: Further 1-Lipschitz critics.
        interval: How to allow for chance: ``clt``, right for large samples; ``bernstein``, right at
            any size, which needs bounds; ``auto``: that where there are bounds.
        paired: Whether row i of both was drawn jointly, n = m. Then the bound from above is that
            of this coupling, and the one from below takes x from one half of the pairs and y from
            the other, which are independent.
        spent: Seconds that reading the samples took, of `seconds`.
        unit: What W1 is measured in.

    Raises:
        UserError: Shapes that differ, values that are not finite or out of bounds, a value out of
            its range.
    """
    began = time.monotonic() - spent
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

    if paired and len(x) != len(y):
        raise UserError(f"pairs need as many of `a` as of `b`, got {len(x)} and {len(y)}")
    spread = allowance(interval, diameter)

    def left() -> float:
        return math.inf if seconds is None else began + seconds - time.monotonic()

    def share(part: str) -> float:
        """Of the time, for a part; never more than half of what is left."""
        return math.inf if seconds is None else max(0.0, min(_SHARES[part] * seconds, left() / 2))

    context, _ = _fitting(
        lambda size: _context(x, y, metric, seed, size),
        min(_CONTEXT, max(len(x), len(y))),
        share("context"),
    )
    finite = sample_distance(
        x, y, cost=metric, seconds=None if seconds is None else max(share("samples"), 1e-3)
    )
    upper = method = None
    if paired:
        upper, method = (
            coupling_bound(_row_costs(x, y, metric), level=level, spread=spread),
            "the coupling given by the pairs",
        )
    elif diameter is not None:
        upper = finite.upper + transport_excess(len(x), len(y), diameter, level)
        method = "the samples' transport"
    if upper is not None and diameter is not None:
        upper = min(upper, diameter)

    # One half of the pairs gives its x, the other its y: such are independent.
    first, second = (x, y) if not paired else (x[::2], y[1::2])
    population = critic = None
    if min(len(first), len(second)) >= FEWEST:
        size = min(len(first) // 2, len(second) // 2, _FLOOR)
        (size, floor, at_size), exacts = _fitting(
            lambda size: _noise(first, second, metric, seed, size), size, share("floor")
        )
        parts = split(first, second, seed)
        if seconds is not None:
            # Cones start from an exact transport, which no budget of theirs bounds.
            each = exacts / 3
            most = size * (share("anchors") / (len(ways) + 2) / max(each, 1e-9)) ** (1 / 2.5)
            parts = replace(parts, anchors=max(20, min(parts.anchors, int(most))))
        bound = lower_bound(
            parts,
            Budget(steps, None if seconds is None else max(0.1, 0.9 * left())),
            cost=metric,
            level=level,
            spread=spread,
            seed=seed,
            ways=ways,
            given=given,
        )
        critic = bound.critic
        population = Population(
            lower=bound.lower,
            upper=upper,
            upper_method=method,
            upper_is_loose=not paired and floor > _LOOSE * at_size,
            estimate=bound.gap.estimate,
            level=level,
            interval=bound.gap.interval,
            method=bound.critic.name,
            noise_floor=floor,
            at_floor_size=at_size,
            floor_size=size,
            critics=bound.chosen,
        )
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


def _fitting(take: Callable[[int], _Found], size: int, seconds: float) -> tuple[_Found, float]:
    """What `take` gives at the largest size up to `size` that the time allows; and its seconds.

    Its time grows with the size to the power 2.5 (an exact transport's), which a trial scales.
    """
    few = min(size, _FEW)
    if math.isinf(seconds):
        return take(size), 0.0
    take(min(size, _FEWER))  # imports
    began = time.monotonic()
    found = take(few)
    took = time.monotonic() - began
    larger = (
        min(size, int(few * ((seconds - took) / max(took, 1e-9)) ** 0.4)) if took < seconds else 0
    )
    if larger > 1.2 * few:
        began = time.monotonic()
        found = take(larger)
        took = time.monotonic() - began
    return found, took


def _row_costs(x: Points, y: Points, metric: Cost) -> Points:
    order = {"euclidean": 2.0, "l1": 1.0, "linf": math.inf}[metric]
    costs: Points = np.linalg.norm(x - y, order, axis=1)
    return costs


def _noise(x: Points, y: Points, metric: Cost, seed: int, size: int) -> tuple[int, float, float]:
    """The size of a half, W1 within the wider population, and W1 between both at that size."""
    rng = np.random.default_rng(seed)
    halves = []
    for points in (x, y):
        order = rng.permutation(len(points))
        halves.append((points[order[:size]], points[order[size : 2 * size]]))

    def w1(first: Points, second: Points) -> float:
        return exact_from_cost(cost_matrix(first, second, metric)).value

    floor = max(w1(first, second) for first, second in halves)
    return size, floor, w1(halves[0][0], halves[1][0])


def _context(x: Points, y: Points, metric: Cost, seed: int, size: int) -> dict[str, float]:
    """Other distances, on up to `size` samples of each."""
    rng = np.random.default_rng(seed)
    x, y = (points[rng.permutation(len(points))[:size]] for points in (x, y))
    first, second = torch.from_numpy(x), torch.from_numpy(y)
    generator = torch.Generator().manual_seed(seed)
    dim = x.shape[1]
    lines = random_directions(generator, 500, dim).double()
    found = {
        "samples": float(min(len(x), len(y))),
        "sliced_w1": float(sliced_wasserstein(first, second, lines)),
        "max_sliced_w1": _max_sliced(first, second, lines[: max(4, min(32, 2**15 // dim))]),
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
