"""Two Gaussians that slide apart: the Jensen-Shannon divergence saturates, W1 is linear.

"When P_r and P_g have non-overlapping support, JS divergence is constant (log 2) and provides zero
gradient"; "even when distributions don't overlap, W provides a meaningful distance and gradient".
N(0, 1) stays and N(d, 1) moves. Both are computed by quadrature, W1 as the integral of |F - G| and
JS from the densities, and W1 a second time by scipy's transport between weighted points. The
derivatives are central differences. Nothing is random.

Source: the course, "Why JS divergence fails" and its example of a sliding Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import label, legend, panels
from wgan.reports.style import INK, MUTED, REAL, SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

CLAIMS = (
    Claim(
        "w1_linear",
        "W1 is the distance slid",
        "greatest |W1(d) - d| over the grid of d",
        "<=",
        1e-6,
    ),
    Claim(
        "w1_agrees",
        "two ways to W1 agree",
        "greatest difference of quadrature and scipy's transport of weighted points",
        "<=",
        1e-3,
    ),
    Claim(
        "js_saturates",
        "JS is at log 2 once the Gaussians are apart",
        "JS(d) / log 2 at d = 10",
        ">=",
        0.999,
    ),
    Claim(
        "js_gradient_vanishes",
        "JS gives no gradient there",
        "|dJS/dd| at d = 10 over its greatest value",
        "<=",
        1e-3,
    ),
    Claim("w1_gradient", "W1 does, everywhere", "least dW1/dd over the grid", ">=", 0.999),
)


@dataclass(frozen=True)
class Settings:
    """Of the quadrature: how far the Gaussians slide, over how many places."""

    farthest: float = 10.0
    places: int = 41
    points: int = 4001


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Slide, integrate, differentiate."""
    slid = np.linspace(0, settings.farthest, settings.places)
    x = np.linspace(-8, settings.farthest + 8, settings.points)
    w1, js, points = [], [], []
    for d in slid:
        budget.check()
        w1.append(w1_by_quadrature(d, x))
        js.append(js_by_quadrature(d, x))
        points.append(w1_of_points(d, x))
    w1_slope, js_slope = np.gradient(w1, slid), np.abs(np.gradient(js, slid))
    return Outcome(
        statistics={
            "w1_linear": [float(np.abs(w1 - slid).max())],
            "w1_agrees": [float(np.abs(np.subtract(w1, points)).max())],
            "js_saturates": [js[-1] / math.log(2)],
            "js_gradient_vanishes": [float(js_slope[-1] / js_slope.max())],
            "w1_gradient": [float(w1_slope.min())],
        },
        settings=asdict(settings),
        figure=_draw(slid, np.array(w1), np.array(js), w1_slope, js_slope),
    )


def normal(x: Floats, mean: float) -> Floats:
    """The density of N(mean, 1)."""
    return np.exp(-np.square(x - mean) / 2) / math.sqrt(2 * math.pi)


def w1_by_quadrature(d: float, x: Floats) -> float:
    """``integral |F(x) - G(x)| dx`` of N(0, 1) and N(d, 1)."""
    from scipy.integrate import simpson
    from scipy.special import ndtr

    return float(simpson(np.abs(ndtr(x) - ndtr(x - d)), x=x))


def w1_of_points(d: float, x: Floats) -> float:
    """The same of the grid's points, weighted by the two densities."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(x, x, normal(x, 0), normal(x, d)))


def js_by_quadrature(d: float, x: Floats) -> float:
    """``(KL(p, m) + KL(q, m)) / 2`` with ``m = (p + q) / 2``, in nats."""
    from scipy.integrate import simpson
    from scipy.special import rel_entr

    p, q = normal(x, 0), normal(x, d)
    m = (p + q) / 2
    return float(simpson(rel_entr(p, m) + rel_entr(q, m), x=x) / 2)


def _draw(slid: Floats, w1: Floats, js: Floats, w1_slope: Floats, js_slope: Floats) -> Figure:
    figure, (left, middle, right) = panels(3, 9.2, 3.0)
    x = np.linspace(-4, 10, 400)
    left.fill_between(x, normal(x, 0), color=REAL, alpha=0.5, lw=0)
    left.annotate("N(0, 1)", (0, 0.41), ha="center", fontsize=8.5, color=MUTED)
    for alpha, d in ((0.5, 3.0), (1.0, 6.0)):
        left.plot(x, normal(x, d), color=SERIES[1], alpha=alpha, lw=1.5)
        left.annotate(f"d = {d:g}", (d, 0.41), ha="center", fontsize=8.5, color=INK)
    left.set_ylim(0, 0.46)
    label(left, "Two Gaussians", "x", "density")
    middle.plot(slid, w1, color=SERIES[0], lw=1.8)
    label(middle, "Their distances", "distance slid, d", "W1, in units of x")
    middle.yaxis.label.set_color(SERIES[0])
    twin = middle.twinx()
    twin.spines[["top"]].set_visible(False)
    twin.plot(slid, js, color=SERIES[1], lw=1.8, linestyle="--")
    twin.axhline(math.log(2), color=MUTED, lw=0.8, linestyle=":")
    twin.set_ylim(0, 0.78)
    twin.tick_params(labelsize=9, color=MUTED)
    twin.annotate("log 2", (0.2, 0.7), fontsize=8.5, color=MUTED)
    twin.set_ylabel("JS, in nats (dashed)", color=SERIES[1], fontsize=9)
    right.plot(slid, w1_slope, color=SERIES[0], lw=1.8, label="dW1/dd")
    right.plot(slid, js_slope, color=SERIES[1], lw=1.8, linestyle="--", label="dJS/dd")
    right.set_ylim(0, 1.1)
    legend(right, loc="center right")
    label(right, "Their gradients", "distance slid, d", "change for each unit of d")
    return figure


EXPERIMENT = Experiment(
    name="sliding-gaussians",
    title="Two sliding Gaussians: JS saturates, W1 is linear",
    source="the course, 'The problem with JS divergence'",
    claims=CLAIMS,
    data="N(0, 1) and N(d, 1) on the line, d from 0 to 10; no samples",
    differs="Quadrature of the densities instead of sums over a grid; unit variances as in the "
    "course, the distance up to 10 instead of 5.",
    seconds=1,
    seeds=1,
    needed=1,
    run=run,
)
