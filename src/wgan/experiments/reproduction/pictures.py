"""What the figures on pictures share: handwritten digits, runs on them, and a judge from outside.

Samples are judged by the Frechet distance in the features of a classifier (LeNet-5 on MNIST), which
does not come from the critic.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.build import build_state
from wgan.config import resolve
from wgan.data import open_source
from wgan.data.base import Source
from wgan.diagnostics import Audit, HeldOut, Sizes
from wgan.errors import NonFiniteError
from wgan.experiments.reproduction.base import Budget
from wgan.metrics import FeatureSpace, feature_space, frechet_distance
from wgan.networks import NetworkSpec, make_generator
from wgan.reports.plots import Curve
from wgan.reports.style import MUTED, SERIES
from wgan.training import TrainState, synthesize, train
from wgan.training.step import critic_update
from wgan.types import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

MLP = NetworkSpec(512, 4)
"""The generator without an inductive bias for pictures, as the paper has it."""

_FILES = {
    "train": "mnist/train-images-idx3-ubyte.gz",
    "test": "mnist/t10k-images-idx3-ubyte.gz",
    "classifier": "weights/lenet5_mnist.npz",
}
_AUDITED = 250  # held-out pictures in each half of an audit
_SHOWN = 16  # samples kept of each look
_HEIGHT = 0.25  # of a row of samples, as a share of the panel


def data_folder() -> Path:
    """Where files of data are looked for: ``$WGAN_DATA``, or ``../shared/data``."""
    return Path(os.environ.get("WGAN_DATA") or Path("..") / "shared" / "data")


@dataclass(frozen=True, eq=False)
class Digits:
    """Digits to train on, others to judge by, and the space in which to judge.

    Attributes:
        training: Pictures to train on.
        held: Pictures never trained on.
        space: Where samples are compared.
        real: Features of `held` that samples are compared with, ``[n, k]``.
        floor: Frechet distance of as many further pictures of `held` from these.
        instead: What stands in for MNIST, and why; None where nothing does.
    """

    training: Source
    held: Source
    space: FeatureSpace
    real: Floats
    floor: float
    instead: str | None

    @classmethod
    def open(cls, judged: int) -> Digits:
        """MNIST and its classifier; where they are missing the embedded digits and their pixels.

        Args:
            judged: Pictures on each side of a comparison, at most half of those held out.
        """
        folder = data_folder()
        missing = [name for name in _FILES.values() if not (folder / name).is_file()]
        spec, instead, held = str(folder / _FILES["classifier"]), None, None
        if not missing:
            training = open_source(folder / _FILES["train"])
            held = open_source(folder / _FILES["test"])
        else:
            spec = "raw"
            instead = (
                "digits, 8 x 8 pixels, 30% held out, Frechet distance of pixels: in place of "
                f"MNIST, for there is no {missing[0]} in {folder} (set WGAN_DATA)"
            )
            training, held = open_source("digits").split(0.3, 0)
        assert held.size is not None
        judged = min(judged, held.size // 2)
        own = held.codec.decode(held.batch(torch.arange(2 * judged)).values)
        space = feature_space(spec, own, low=held.codec.low, high=held.codec.high)
        real, other = space(own[:judged]), space(own[judged:])
        return cls(training, held, space, real, frechet_distance(real, other), instead)

    def frechet(self, own: NDArray[Any]) -> float:
        """Of samples in the data's own unit from the held-out pictures."""
        return frechet_distance(self.space(own), self.real)


@dataclass(frozen=True, eq=False)
class Course:
    """One run.

    Attributes:
        curves: Its records by name.
        at: The steps at which it was looked at.
        frechet: At each look.
        lower: Certified lower bound of W1 at each look (95% confidence, pixel levels); empty
            where it was not audited.
        samples: 16 at each look, of the same latents, pixel levels.
    """

    curves: dict[str, Curve]
    at: NDArray[np.int64]
    frechet: Floats
    lower: Floats
    samples: tuple[Floats, ...]

    def filtered(self, name: str) -> Floats:
        """The median-filtered curve at the looks."""
        curve = self.curves[name].median()
        if not len(curve):  # its first step was not finite
            return np.zeros(len(self.at))
        there: Floats = curve.values[np.searchsorted(curve.steps, self.at).clip(max=len(curve) - 1)]
        return there

    def correlation(self, name: str, quality: str = "frechet") -> float:
        """Spearman's, of a quality and the median-filtered curve; 0 where either is constant."""
        from scipy.stats import spearmanr

        there, judged = self.filtered(name), getattr(self, quality)
        if np.ptp(there) == 0 or np.ptp(judged) == 0:
            return 0.0
        return float(spearmanr(there, judged).statistic)

    def plain(self) -> dict[str, Any]:
        """The looks, for the notes."""
        return {
            "steps": self.at.tolist(),
            "frechet": self.frechet.round(3).tolist(),
            **({"lower": self.lower.round(2).tolist()} if len(self.lower) else {}),
            **{name: [float(f"{v:.4g}") for v in self.filtered(name)] for name in self.curves},
        }


def start(given: Mapping[str, Any], seed: int, steps: int, source: Source) -> TrainState:
    """A run before its first step: a recipe's `auto` settings on a processor, and what is given.

    An MLP that generates is `MLP`, whatever the width of the critic.
    """
    plain = {"average": 0.0, "device": "cpu", **given, "seed": seed, "steps": steps}
    config, _ = resolve(plain, source, source.name)
    generator = None
    if config.hyper.generator_network == "mlp":
        generator = make_generator("mlp", MLP, config.shapes(source), 2 * seed + 1)
    return build_state(config, source, generator)


def follow(
    given: Mapping[str, Any],
    names: tuple[str, ...],
    seed: int,
    digits: Digits,
    at: NDArray[np.int64],
    budget: Budget,
    *,
    ahead: int = 0,
    audited: bool = False,
) -> Course:
    """Train on digits, and judge the samples at the given steps.

    Args:
        given: The recipe and what departs from its `auto` settings.
        names: Of the records to keep.
        at: Ascending steps; the last is the end of the run.
        ahead: Updates of the critic before the first step.
        audited: Whether W1 is also bounded from below by certified critics.
    """
    state = start(given, seed, int(at[-1]), digits.training)
    rng = torch.Generator().manual_seed(seed)
    latent = torch.randn(len(digits.real), state.method.latent, generator=rng)
    audit = None
    if audited:
        assert digits.held.size is not None
        held = HeldOut(digits.held, Sizes(min(_AUDITED, digits.held.size // 2), 0))
        audit = Audit(digits.training, held, seed=seed, latent=state.method.latent)
    for _ in range(ahead):
        budget.check()
        critic_update(state, state.next_batch(digits.training, state.method.batch_size))
    records: list[Record] = []
    frechet: list[float] = []
    lower: list[float] = []
    samples: list[Floats] = []
    for step in at:
        finite = True
        try:
            records += train(state, digits.training, until=budget.until(int(step)))
        except NonFiniteError:
            finite = False
        values = synthesize(state.generator.module, latent, None, state.like)
        own = digits.training.codec.decode(values)
        frechet.append(digits.frechet(own))
        samples.append(own[:_SHOWN].reshape(-1, *own.shape[-2:]).astype(float))
        if audit is not None:
            lower.append(float(audit(state)["audit.lower"]))  # type: ignore[arg-type]
        if not finite:  # judged as it stood
            break
    steps = np.array([record["step"] for record in records], dtype=np.int64)
    curves = {
        name: Curve(steps, np.array([record[name] for record in records], dtype=float))
        for name in names
    }
    return Course(curves, at[: len(frechet)], np.array(frechet), np.array(lower), tuple(samples))


def looks(steps: int, count: int, first: int = 10) -> NDArray[np.int64]:
    """So many steps to look at, denser at the start."""
    return np.unique(np.geomspace(min(first, steps), steps, count).round().astype(np.int64))


def draw_course(
    axes: Axes, course: Course, name: str, quality: str = "frechet", *, title: str, unit: str
) -> None:
    """The curve, raw and filtered, the quality beside it, and samples early, midway and late."""
    from matplotlib.ticker import MaxNLocator

    curve = course.curves[name]
    axes.plot(curve.steps, curve.values, color=SERIES[0], lw=0.5, alpha=0.3)
    median = curve.median()
    axes.plot(median.steps, median.values, color=SERIES[0], lw=1.7)
    axes.set_xscale("log")
    low, high = (median.values.min(), median.values.max()) if len(median) else (0.0, 1.0)
    span = max(high - low, 1e-3 * max(abs(low), abs(high))) or 1.0
    axes.set_ylim(low - 0.1 * span, high + 0.75 * span)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(title, fontsize=9.5)
    axes.set_xlabel("step", fontsize=8.5)
    axes.set_ylabel(unit, fontsize=8.5, color=SERIES[0])
    judged = getattr(course, quality)
    beside = axes.twinx()
    beside.plot(course.at[: len(judged)], judged, "o--", color=SERIES[1], lw=1, ms=2.5)
    beside.set_ylim(0, 1.75 * max(judged.max(), 1e-9))
    beside.tick_params(labelsize=8, color=MUTED, labelcolor=SERIES[1])
    beside.spines[["top"]].set_visible(False)
    beside.yaxis.set_major_locator(MaxNLocator(4))
    for k, look in enumerate((0, len(course.samples) // 2, len(course.samples) - 1)):
        inset = axes.inset_axes((0.03 + 0.325 * k, 0.97 - _HEIGHT, 0.29, _HEIGHT))
        sheet(inset, course.samples[look][:8], across=4)


def sheet(axes: Axes, samples: Floats, across: int) -> None:
    """Samples side by side in rows, nothing around them."""
    rows = [samples[i : i + across] for i in range(0, len(samples) - across + 1, across)]
    mosaic = np.concatenate([np.concatenate(list(row), 1) for row in rows])
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255 if samples.shape[-1] > 8 else 16)
    axes.set_axis_off()
