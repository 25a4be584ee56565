"""What a series of numbers does: falls, swings, grows, settles; with how sure that is.

A record's terms are noisy and each is like the one before, so that a test for independent numbers
would see trends everywhere. The series are first cut to some hundred block medians, and the tests
allow for what correlation is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Series = NDArray[np.float64]

BLOCKS = 120
"""Medians to which a series is cut."""

_FEWEST = 8  # numbers of which anything is said
_PAIRED = 400
_RESAMPLES = 200


def blocks(steps: Series, values: Series, count: int = BLOCKS) -> tuple[Series, Series]:
    """Medians over up to `count` stretches of equal length, at their middle steps."""
    if len(values) <= count:
        return np.asarray(steps, float), np.asarray(values, float)
    cut = np.array_split(np.arange(len(values)), count)
    return (
        np.array([np.median(steps[part]) for part in cut]),
        np.array([np.median(values[part]) for part in cut]),
    )


@dataclass(frozen=True)
class Trend:
    """Whether a series rises or falls.

    Attributes:
        tau: Kendall's tau with time, -1 (always falls) to 1 (always rises).
        p_value: Two-sided, corrected for autocorrelation.
        change: From the first to the last number along Sen's slope, in the series' unit.
        spread: Median deviation of the series from Sen's line.
    """

    tau: float
    p_value: float
    change: float
    spread: float

    def falls(self, level: float = 0.01) -> bool:
        """Whether it falls, at a level of significance."""
        return self.tau < 0 and self.p_value < level

    def rises(self, level: float = 0.01) -> bool:
        """Whether it rises."""
        return self.tau > 0 and self.p_value < level


def trend(values: Series) -> Trend:
    """The Mann-Kendall test with the variance of an autocorrelated series, and Sen's slope.

    ``S = sum_{i<j} sign(v_j - v_i)``; its variance for independent numbers is multiplied by
    ``(1 + r) / (1 - r)``, the loss of independent numbers in first-order red noise. r is the
    correlation of neighbours in the ranks of the detrended series where that is significant, plus
    ``(2 + 4 r) / n`` for what detrending takes off it, and at most 0.98. A series of over 400
    numbers is first cut to as many block medians, for all pairs are looked at.

    Source: Mann 1945; Sen 1968; Hamed and Rao 1998; for the bias Marriott and Pope 1954.
    """
    from scipy.stats import norm, rankdata

    v = np.asarray(values, float)
    if len(v) > _PAIRED:
        v = blocks(np.arange(len(v), dtype=float), v, _PAIRED)[1]
    n = len(v)
    if n < _FEWEST or not np.ptp(v) > 0:
        return Trend(0.0, 1.0, 0.0, 0.0)
    i, j = np.triu_indices(n, 1)
    s = float(np.sign(v[j] - v[i]).sum())
    slope = float(np.median((v[j] - v[i]) / (j - i)))
    line = slope * np.arange(n)
    rest = v - line
    ranks = rankdata(rest) - (n + 1) / 2
    r = float(ranks[1:] @ ranks[:-1]) / (float(ranks @ ranks) or 1.0)
    r = min(r + (2 + 4 * r) / n, 0.98) if r > 1.96 / math.sqrt(n) else 0.0
    factor = (1 + r) / (1 - r)
    variance = n * (n - 1) * (2 * n + 5) / 18 * factor
    z = (s - math.copysign(1, s)) / math.sqrt(variance) if s else 0.0
    spread = float(np.median(np.abs(rest - np.median(rest))))
    return Trend(2 * s / (n * (n - 1)), float(2 * norm.sf(abs(z))), slope * (n - 1), spread)


@dataclass(frozen=True)
class Swing:
    """The strongest oscillation of a series.

    Attributes:
        period: In numbers of the series.
        amplitude: Half of the way between its ends, in the series' unit.
        share: Of the detrended variance.
        p_value: Of a peak as high in red noise of the same correlation.
    """

    period: float
    amplitude: float
    share: float
    p_value: float


def swing(values: Series) -> Swing:
    """The highest peak of the periodogram against red noise.

    The series is detrended by a quadratic. In first-order red noise with correlation r the
    periodogram at frequency f is exponential about
    ``(1 - r^2) / (1 + r^2 - 2 r cos(2 pi f))`` times its mean (Gilman, Fuglister, Mitchell 1963),
    and the p-value is that of the largest ratio among all frequencies.
    """
    v = np.asarray(values, float)
    n = len(v)
    if n < 2 * _FEWEST or not np.ptp(v) > 0:
        return Swing(math.inf, 0.0, 0.0, 1.0)
    t = np.linspace(-1, 1, n)
    v = v - np.polyval(np.polyfit(t, v, 2), t)
    total = float(v @ v)
    if not total > 0:
        return Swing(math.inf, 0.0, 0.0, 1.0)
    r = min(max(float(v[1:] @ v[:-1]) / total, 0.0), 0.99)
    power = np.abs(np.fft.rfft(v)) ** 2
    f = np.fft.rfftfreq(n)
    kept = slice(3, None)  # a quadratic has taken most of what is slower
    power, f = power[kept], f[kept]
    red = (1 - r * r) / (1 + r * r - 2 * r * np.cos(2 * math.pi * f))
    ratio = power / (red * (power.sum() / red.sum()))
    k = int(ratio.argmax())
    share = float(2 * power[k] / (n * total))
    p_value = 1 - (1 - math.exp(-float(ratio[k]))) ** len(ratio)
    return Swing(1 / float(f[k]), math.sqrt(2 * share * total / n), share, p_value)


def growth(values: Series) -> tuple[float, float]:
    """Doublings over the last third of a series of positive numbers, and how straight that is.

    Returns:
        Doublings by a fit of the logarithm against time; r^2 of that fit in [0, 1].
    """
    v = np.asarray(values, float)
    v = v[len(v) * 2 // 3 :]
    if len(v) < _FEWEST or not (v > 0).all():
        return 0.0, 0.0
    t = np.linspace(0, 1, len(v))
    logs = np.log2(v)
    slope, level = np.polyfit(t, logs, 1)
    rest = logs - slope * t - level
    varied = float(((logs - logs.mean()) ** 2).sum())
    return float(slope), 1 - float(rest @ rest) / varied if varied > 0 else 0.0


@dataclass(frozen=True)
class Decay:
    """A series that settles: ``level + height exp(-step / time)``.

    Attributes:
        level: Where it settles, in the series' unit.
        time: Steps in which what is left falls to 1 / e.
        left: What was left above the level at the last step.
        settled: The step from which less than 5% of the fall is left; with
        low, high: its 95% interval by a bootstrap of blocks of residuals.
        fit: r^2 in [0, 1].
    """

    level: float
    time: float
    left: float
    settled: float
    low: float
    high: float
    fit: float


def decay(steps: Series, values: Series, *, seed: int = 0) -> Decay | None:
    """The exponential decay that fits a series best; None where it has too few numbers.

    The time is found on a grid, level and height by least squares. Residuals are resampled in
    blocks of a tenth of the series, so that what is correlated stays so (Kunsch 1989).
    """
    t, v = blocks(steps, values, 60)
    if len(v) < 2 * _FEWEST or not np.ptp(v) > 0:
        return None
    span = float(t[-1] - t[0])
    grid = span * np.geomspace(0.03, 10, 400)
    shapes = np.exp(-(t - t[0]) / grid[:, None])
    centred = shapes - shapes.mean(1, keepdims=True)
    power = (centred**2).sum(1)

    def fitted(series: Series) -> tuple[float, float, float, Series]:
        heights = centred @ series / power  # least squares for each time at once
        k = int((heights**2 * power).argmax())
        made = series.mean() + heights[k] * centred[k]
        level = float(series.mean() - heights[k] * shapes[k].mean())
        return level, float(heights[k]), float(grid[k]), made

    level, height, time, made = fitted(v)
    rest = v - made
    rng = np.random.default_rng(seed)
    length = max(2, len(v) // 10)
    times = []
    for _ in range(_RESAMPLES):
        starts = rng.integers(0, len(v) - length + 1, size=-(-len(v) // length))
        drawn = np.concatenate([rest[s : s + length] for s in starts])[: len(v)]
        times.append(fitted(made + drawn)[2])
    low, high = np.quantile(times, [0.025, 0.975])
    varied = float(((v - v.mean()) ** 2).sum())

    def end(of: float) -> float:
        return float(t[0] + of * math.log(20))

    return Decay(
        level,
        time,
        height * math.exp(-span / time),
        end(time),
        end(float(low)),
        end(float(high)),
        1 - float(rest @ rest) / varied,
    )
