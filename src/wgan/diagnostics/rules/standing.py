"""Where the time goes, and where the run stands."""

from __future__ import annotations

import numpy as np

from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules.base import (
    EXCESS,
    Told,
    far,
    number,
    rule,
    setting,
    sure,
    told,
    young,
)
from wgan.diagnostics.signs import blocks, decay, swing, trend


@rule(
    "time-lost",
    "Much of the time goes into something else than training.",
    "Over a quarter of it into audits, or over 30% into waiting for data.",
    "note",
)
def _time(x: Examination) -> Told | None:
    steps = float(x.series("step_seconds").sum())
    audits = float(x.series("audit_seconds").sum())
    data = float(x.series("data_seconds").sum())
    total = steps + audits
    if total <= 0:
        return None
    if audits > 0.25 * total:
        return told(
            f"{audits / total:.0%} of the time went into audits, every {setting(x, 'audit_every')} "
            "steps",
            "Each takes as long as some tens of steps, whatever lies between two.",
            "leave --audit-every out: audits then take 5%",
            sure(audits / total, 0.25, low=0.75),
        )
    if data > 0.3 * total:
        return told(
            f"{data / total:.0%} of the time was waited for data",
            "Reading or decoding is slower than the step.",
            "keep the data on a local disk and let the first reading fill the cache; smaller "
            "pictures (--size)",
            sure(data / total, 0.3, low=0.8),
        )
    return None


@rule(
    "oscillation",
    "The estimate swings.",
    "Its strongest frequency stands far above red noise and moves it by over half of its level.",
)
def _oscillation(x: Examination) -> Told | None:
    if x.estimate is None or x.estimate not in x.curves:
        return None
    steps, medians = blocks(*x.curves[x.estimate])
    half = len(medians) // 3
    found = swing(medians[half:])
    level = abs(float(np.median(medians[half:])))
    if found.p_value > 0.01 or found.share < 0.4 or found.amplitude < 0.5 * level:
        return None
    period = found.period * float(np.median(np.diff(steps)))
    return told(
        f"the estimate swings by {number(found.amplitude)} around {number(level)} with a period "
        f"of about {period:,.0f} steps",
        "The two players circle around each other instead of approaching.",
        "--extrapolate, or --lookahead-every 5, or a smaller --generator-lr",
        0.7,
    )


@rule(
    "too-early",
    "The run has only begun.",
    "Under 300 steps and under 3 audits.",
    "note",
)
def _early(x: Examination) -> Told | None:
    if not x.config or not young(x):
        return None
    return told(
        f"{x.steps:,} steps",
        "So early, samples are far from the data in any run, and nothing says yet where it goes.",
        f"go on: wgan resume RUN --steps {max(1_000, 4 * x.steps)}",
        0.9,
    )


@rule(
    "far-from-data",
    "The samples can be told from the data.",
    "Their nearest neighbours tell three of four, or the excess is over a quarter of the noise "
    "floor; from 300 steps or 3 audits on.",
    "note",
)
def _far(x: Examination) -> Told | None:
    if young(x) or not x.config:
        return None
    near, coverage = x.judged.get("nn_accuracy"), x.judged.get("coverage")
    apart = near is not None and near.value > 0.75
    if not (far(x) or apart):
        return None
    said = [
        f"{what} {entry.value:.2f} where data have {entry.floor:.2f}"
        for what, entry in (("1-NN accuracy", near), ("coverage", coverage))
        if entry is not None
    ]
    if EXCESS in x.curves:
        said.append(f"the excess is {number(x.last(EXCESS))}")
    return told(
        ", ".join(said),
        "Where nothing is wrong with the training, it is too short, or the networks too small.",
        f"go on: wgan resume RUN --steps {2 * x.steps}; a larger --width if it settles like this",
        0.8,
    )


@rule(
    "still-improving",
    "The samples still get better.",
    "The excess falls, by a trend test that allows for autocorrelation.",
    "note",
)
def _improving(x: Examination) -> Told | None:
    steps, excess = x.curves.get(EXCESS, (np.empty(0), np.empty(0)))
    if len(excess) < 8:
        return None
    late = excess[len(excess) // 3 :]
    found = trend(late) if len(late) >= 8 else trend(excess)
    if not found.falls(0.05):
        return None
    fit = decay(steps, excess)
    when = ""
    if fit is not None and fit.fit > 0.5 and fit.settled > steps[-1]:
        when = (
            f"; as it goes, 95% of the way is gone at step {fit.settled:,.0f} "
            f"({fit.low:,.0f} to {fit.high:,.0f})"
        )
    return told(
        f"the excess fell by {number(-found.change)} to {number(float(excess[-1]))} "
        f"(p = {found.p_value:.1e}){when}",
        "It has not settled yet.",
        f"go on: wgan resume RUN --steps {2 * int(steps[-1])}",
        0.85,
    )


@rule(
    "plateaued",
    "The samples no longer get better.",
    "The excess has no falling trend over the last two thirds of the audits.",
    "note",
)
def _plateau(x: Examination) -> Told | None:
    _, excess = x.curves.get(EXCESS, (np.empty(0), np.empty(0)))
    if len(excess) < 12:
        return None
    found = trend(excess[len(excess) // 3 :])
    if found.falls(0.05):
        return None
    return told(
        f"the excess has stayed near {number(float(np.median(excess[len(excess) // 2 :])))} since "
        "a third of the run",
        "It has settled, as far as held-out data of this size can tell.",
        "stop here, or change something: a larger --width, a lower --lr for the end, other data",
        0.8,
    )
