"""The critic's estimate falls as samples get better, and stays where training fails.

"We can see a clear correlation between lower error and better sample quality." "Both the generator
and the discriminator are MLPs with substantially high learning rates (so training failed). Loss is
constant and samples are constant as well."

WGANs with a clipped, a penalised and an orthogonal critic, and a clipped one at a high rate, train
on pictures of digits. Along each run the samples are judged by exact W1 to pictures that were held
out, which does not come from the critic. The estimate is passed through the median filter of the
figure and read at the same steps; the correlation of the two is Spearman's.

Source: Arjovsky, Chintala, Bottou 2017, section 4.3 and figure 4.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.build import build_state
from wgan.config import resolve
from wgan.data import open_source
from wgan.errors import NonFiniteError
from wgan.experiments.reproduction.base import Budget, Claim, Experiment, Outcome
from wgan.experiments.reproduction.drawing import label, panels
from wgan.reports.plots import Curve
from wgan.reports.style import MUTED, SERIES
from wgan.training import synthesize, train
from wgan.transport import exact
from wgan.types import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
RUNS: dict[str, dict[str, Any]] = {
    "clipping": {"recipe": "wgan"},
    "gradient penalty": {"recipe": "wgan-gp"},
    "orthogonal": {"recipe": "wgan-orthogonal"},
    "clipping, high rate": {"recipe": "wgan", "lr": 0.1},
}
_FAILED = "clipping, high rate"

CLAIMS = (
    *(
        Claim(
            f"{name.replace(' ', '_')}_tracks",
            f"the estimate tracks the samples' quality: {name}",
            "Spearman correlation of the filtered estimate and exact W1 along the run",
            ">=",
            0.6,
        )
        for name in RUNS
        if name != _FAILED
    ),
    Claim(
        "failed_stays",
        "at too high a rate samples do not improve",
        "exact W1 at the last look over that of a clipped critic at the usual rate",
        ">=",
        1.5,
    ),
)


@dataclass(frozen=True)
class Settings:
    """The rest is each recipe's `auto` settings for such pictures."""

    steps: int = 400
    looks: int = 20
    judged: int = 400
    seeds: int = 3


@dataclass(frozen=True, eq=False)
class Course:
    """One run: its records by name as curves, and W1 and 16 samples at each look."""

    curves: dict[str, Curve]
    at: NDArray[np.int64]
    w1: Floats
    samples: tuple[Floats, ...]

    def correlation(self, name: str) -> float:
        """Spearman's, of W1 and the median-filtered curve; 0 where either is constant."""
        from scipy.stats import spearmanr

        curve = self.curves[name].median()
        there = curve.values[np.searchsorted(curve.steps, self.at).clip(max=len(curve) - 1)]
        if np.ptp(there) == 0 or np.ptp(self.w1) == 0:
            return 0.0
        return float(spearmanr(there, self.w1).statistic)


def follow(
    given: dict[str, Any], names: tuple[str, ...], seed: int, settings: Settings, budget: Budget
) -> Course:
    """Train on digits and judge the samples on the way, denser at the start."""
    source = open_source("digits")
    config, _ = resolve(
        {"average": 0.0, "device": "cpu", **given, "seed": seed, "steps": settings.steps},
        source,
        "digits",
    )
    training, held = source.split(0.3, seed)
    state = build_state(config, training)
    assert held.size is not None
    rows = torch.arange(min(settings.judged, held.size))
    real = source.codec.decode(held.batch(rows).values).reshape(len(rows), -1).astype(float)
    rng = torch.Generator().manual_seed(seed)
    latent = torch.randn(len(rows), config.hyper.latent, generator=rng)
    at = np.unique(np.geomspace(5, settings.steps, settings.looks).round().astype(np.int64))
    records: list[Record] = []
    w1: list[float] = []
    samples: list[Floats] = []
    for step in at:
        try:
            records += train(state, training, until=budget.until(int(step)))
        except NonFiniteError:
            break
        own = source.codec.decode(synthesize(state.generator.module, latent, None, state.like))
        w1.append(exact(own.reshape(len(own), -1).astype(float), real).value)
        samples.append(own[:16].reshape(16, *source.codec.shape).astype(float))
    steps = np.array([record["step"] for record in records], dtype=np.int64)
    curves = {
        name: Curve(steps, np.array([record[name] for record in records], dtype=float))
        for name in names
    }
    return Course(curves, at[: len(w1)], np.array(w1), tuple(samples))


def run(budget: Budget, settings: Settings = Settings()) -> Outcome:
    """Every critic from every seed."""
    found = budget.trials(
        lambda seed: {
            name: follow(given, ("wasserstein_estimate",), seed, settings, budget)
            for name, given in RUNS.items()
        },
        settings.seeds,
    )
    tracked = [name for name in RUNS if name != _FAILED]
    return Outcome(
        statistics={
            **{
                f"{name.replace(' ', '_')}_tracks": [
                    one[name].correlation("wasserstein_estimate") for one in found
                ]
                for name in tracked
            },
            "failed_stays": [one[_FAILED].w1[-1] / one["clipping"].w1[-1] for one in found],
        },
        settings=asdict(settings),
        figure=draw(found[0], "wasserstein_estimate", "E f(x) - E f(y)"),
        notes={name: {"w1_at_the_end": [one[name].w1[-1] for one in found]} for name in RUNS},
    )


def draw(courses: dict[str, Course], name: str, unit: str) -> Figure:
    """For each run the filtered curve with W1 beside it, and samples early, midway and late."""
    figure, axes = panels(2, 9.0, 3.0 * -(-len(courses) // 2), down=-(-len(courses) // 2))
    for i, (one, (title, course)) in enumerate(zip(axes, courses.items(), strict=False)):
        curve = course.curves[name]
        one.plot(curve.steps, curve.values, color=SERIES[0], lw=0.5, alpha=0.35)
        median = curve.median()
        one.plot(median.steps, median.values, color=SERIES[0], lw=1.7)
        one.set_xscale("log")
        low, high = np.quantile(curve.values, (0.01, 0.99))
        one.set_ylim(low - 0.1 * (high - low), high + 0.75 * (high - low))
        beside = one.twinx()
        beside.plot(course.at, course.w1, "o--", color=SERIES[1], lw=1, ms=3)
        beside.set_ylim(0, 1.75 * course.w1.max())
        beside.tick_params(labelsize=8.5, color=MUTED)
        beside.spines[["top"]].set_visible(False)
        beside.set_ylabel("exact W1 (dashed), pixel levels" if i % 2 else "", fontsize=8.5,
                          color=SERIES[1])  # fmt: skip
        rho = course.correlation(name)
        label(one, f"{title}: correlation {rho:.2f}", "step", "" if i % 2 else unit)
        one.yaxis.label.set_color(SERIES[0])
        for k, look in enumerate((0, len(course.samples) // 2, len(course.samples) - 1)):
            _sheet(one, course.samples[look], 0.12 + 0.3 * k)
    for spare in axes[len(courses) :]:
        spare.set_visible(False)
    return figure


def _sheet(axes: Axes, samples: Floats, left: float) -> None:
    """Eight samples in two rows in the upper part of a panel."""
    pictures = samples[:8].reshape(8, *samples.shape[-2:])
    mosaic = np.concatenate([np.concatenate(list(pictures[k : k + 4]), 1) for k in (0, 4)])
    inset = axes.inset_axes((left, 0.68, 0.26, 0.3))
    inset.imshow(mosaic, cmap="gray", interpolation="nearest", vmin=0, vmax=16)
    inset.set_axis_off()


EXPERIMENT = Experiment(
    name="meaningful-loss",
    title="The critic's estimate falls as samples get better, and stays where training fails",
    source="Arjovsky et al. 2017, section 4.3, figure 4",
    claims=CLAIMS,
    data="digits, 8 x 8 pixels; 30% held out to judge by",
    differs="Digits instead of bedrooms (LSUN is not to be had); MLPs for both instead of a "
    "DCGAN critic; the recipes' `auto` settings; hundreds of steps. Quality is measured instead of "
    "looked at.",
    seconds=100,
    seeds=3,
    needed=3,
    run=run,
)
