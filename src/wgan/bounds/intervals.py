"""One-sided confidence bounds on a critic's gap between two populations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from wgan.errors import UnknownNameError, UserError

Interval = Literal["clt", "bernstein"]
Choice = Literal["auto", "clt", "bernstein"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
"""How to allow for chance: ``auto`` is Bernstein's where bounds of the data are known, else CLT."""


@dataclass(frozen=True)
class Gap:
    """``E_P f - E_Q f`` of one critic f from held-out scores, and a bound from below.

    Attributes:
        estimate: Difference of the mean scores, in the critic's unit.
        lower: With probability at least `level` the population gap is above it.
        standard_error: Of the estimate.
        level: 1 - alpha, in (0.5, 1).
        interval: ``clt``: Welch's t, asymptotic. ``bernstein``: empirical Bernstein, at any size.
    """

    estimate: float
    lower: float
    standard_error: float
    level: float
    interval: Interval

    def two_sided(self) -> tuple[float, float]:
        """The symmetric interval that has `lower` as its lower end: level 1 - 2 alpha."""
        return self.lower, 2 * self.estimate - self.lower


def population_gap(
    real: Any, fake: Any, *, level: float = 0.95, spread: float | None = None
) -> Gap:
    """A lower confidence bound on ``E f(real) - E f(fake)`` from independent scores.

    Without `spread`, ``d - t sqrt(s^2 / n + s'^2 / m)`` with Welch's t quantile at `level`: right
    as the sizes grow. With it, the empirical Bernstein bound of Maurer and Pontil (2009, theorem 4)
    on each side at half of alpha, right at every size::

        d - sum over both of sqrt(2 s^2 ln(2 / (alpha / 2)) / n)
                             + 7 spread ln(2 / (alpha / 2)) / (3 (n - 1))

    Args:
        real: ``[n]`` scores, n >= 2, independent of how the critic was found.
        fake: ``[m]``, m >= 2.
        level: 1 - alpha, in (0.5, 1).
        spread: An upper bound on ``max f - min f`` over all that may occur, > 0; None: not known.

    Raises:
        UserError: Fewer than two scores, scores that are not finite, or a value out of its range.
    """
    check_level(level)
    sides = [np.asarray(scores, dtype=np.float64) for scores in (real, fake)]
    for name, scores in zip(("real", "fake"), sides, strict=True):
        if scores.ndim != 1 or len(scores) < 2:
            raise UserError(f"`{name}` must be at least 2 scores [n], got shape {scores.shape}")
        if not np.isfinite(scores).all():
            raise UserError(f"`{name}` must be finite scores")
    means = [float(scores.mean()) for scores in sides]
    squares = [float(scores.var(ddof=1)) / len(scores) for scores in sides]
    error = math.sqrt(sum(squares))
    estimate = means[0] - means[1]
    if spread is None:
        width = _welch(squares, [len(scores) for scores in sides], level) * error
        return Gap(estimate, estimate - width, error, level, "clt")
    if not spread > 0 or not math.isfinite(spread):
        raise UserError(f"`spread` must be a number > 0, got {spread}")
    log = math.log(2 / ((1 - level) / 2))
    width = sum(
        math.sqrt(2 * square * log) + 7 * spread * log / (3 * (len(scores) - 1))
        for square, scores in zip(squares, sides, strict=True)
    )
    return Gap(estimate, estimate - width, error, level, "bernstein")


def transport_excess(n: int, m: int, diameter: float, level: float) -> float:
    """How far the mean plug-in transport may lie above one value of it, at confidence `level`.

    ``diameter sqrt((1 / n + 1 / m) ln(1 / alpha) / 2)``: moving one of n points changes the W1 of
    two samples by at most ``diameter / n`` (McDiarmid 1989). As ``E W1(P_n, Q_m) >= W1(P, Q)``,
    the plug-in value plus this bounds the populations' W1 from above.
    """
    check_level(level)
    return diameter * math.sqrt((1 / n + 1 / m) * math.log(1 / (1 - level)) / 2)


def coupling_bound(moved: Any, *, level: float = 0.95, spread: float | None = None) -> float:
    """An upper confidence bound on W1 from jointly drawn pairs: on ``E |x - y|``.

    Any joint law of P and Q is a plan, so that W1(P, Q) is at most its mean cost. The allowance is
    Student's without `spread`, else Maurer and Pontil's, as in :func:`population_gap`, at all of
    alpha: there is one sample.

    Args:
        moved: ``[n]``, the distance between the two of each pair, n >= 2.
        level: 1 - alpha, in (0.5, 1).
        spread: The largest distance there can be; None: not known.

    Raises:
        UserError: Fewer than two pairs, or a level out of its range.
    """
    from scipy.stats import t

    check_level(level)
    costs = np.asarray(moved, dtype=np.float64)
    if costs.ndim != 1 or len(costs) < 2:
        raise UserError(f"a coupling needs at least 2 pairs, got shape {costs.shape}")
    square = float(costs.var(ddof=1)) / len(costs)
    if spread is None:
        width = float(t.ppf(level, len(costs) - 1)) * math.sqrt(square)
    else:
        log = math.log(2 / (1 - level))
        width = math.sqrt(2 * square * log) + 7 * spread * log / (3 * (len(costs) - 1))
    return float(costs.mean()) + width


def allowance(choice: str, spread: float | None) -> float | None:
    """The `spread` of an interval as chosen: None for CLT.

    Raises:
        UnknownNameError: No such choice.
        UserError: Bernstein's without a spread.
    """
    if choice not in CHOICES:
        raise UnknownNameError("interval", choice, CHOICES)
    if choice == "bernstein" and spread is None:
        raise UserError(
            "interval bernstein needs to know how far apart two points can be: give bounds LO,HI "
            "that every number that can occur is between"
        )
    return None if choice == "clt" else spread


def check_level(level: float) -> None:
    """Raise `UserError` unless a confidence level is in (0.5, 1)."""
    if not 0.5 < level < 1:
        raise UserError(f"`level` must be above 0.5 and below 1, got {level}")


def _welch(squares: list[float], sizes: list[int], level: float) -> float:
    from scipy.stats import t

    total = sum(squares)
    if total == 0:
        return 0.0
    parts = [s * s / (n - 1) for s, n in zip(squares, sizes, strict=True)]
    return float(t.ppf(level, total * total / sum(parts)))


def box_diameter(bounds: tuple[float, float], dim: int, cost: str) -> float:
    """The diameter of a cube ``[low, high]^dim`` in the ground metric.

    Args:
        bounds: ``(low, high)`` that hold for every number of every sample that may occur.
        dim: Numbers in a sample.
        cost: ``euclidean``, ``l1`` or ``linf``.
    """
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"`bounds` must be finite, low below high, got {low} and {high}")
    return (high - low) * {"euclidean": math.sqrt(dim), "l1": float(dim), "linf": 1.0}[cost]


def inside(points: NDArray[np.float64], bounds: tuple[float, float]) -> bool:
    """Whether every number lies within the bounds."""
    return bool(points.min() >= bounds[0] and points.max() <= bounds[1])
