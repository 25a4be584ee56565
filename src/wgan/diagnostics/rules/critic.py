"""The critic, what holds it, and whether it keeps up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules.base import (
    EXCESS,
    LOG2,
    Told,
    far,
    number,
    rule,
    setting,
    sure,
    told,
    young,
)
from wgan.diagnostics.signs import blocks, trend


@rule(
    "clip-bound-too-small",
    "The clipping box is so small that the critic is flat.",
    "Weights crowd at its ends, and the gradient that reaches the generator is below 1e-4.",
    live="stuck",
)
def _clip_small(x: Examination) -> Told | None:
    clip = x.constraint("weight-clipping")
    norm, share = x.late("generator_gradient_norm"), x.late("clip_share")
    steep = x.late("audit.slope_median", 0.5) > 1
    if clip is None or not norm < 1e-4 or not share > 0.3 or steep:
        return None
    return told(
        f"{share:.0%} of the critic's weights are at the bounds of {clip.get('bound')}, and the "
        f"generator's gradient has a norm of {number(norm)}",
        "Every layer multiplies the gradient by less than 1, so that nothing of it is left at the "
        "other end.",
        f"a larger box: --constraint weight-clipping:bound={_larger(clip)}, or a critic with fewer "
        "layers, or --recipe wgan-gp, which has no such bound to tune",
        sure(1e-4, norm, low=0.8),
    )


def _larger(clip: Any) -> str:
    bound = clip.get("bound")
    return f"{10 * bound:g}" if isinstance(bound, float | int) else "0.1"


@rule(
    "clip-bound-too-large",
    "The clipping box is so large that it holds nothing.",
    "No weight is at its ends, or the critic's slopes are over 20 all the same.",
    live="stuck",
)
def _clip_large(x: Examination) -> Told | None:
    clip = x.constraint("weight-clipping")
    slope, share = x.late("audit.slope_median", 0.5), x.late("clip_share")
    idle = x.late("clip_share", 1.0) < 1e-3
    if clip is None or not (idle or slope > 20):
        return None
    rising = trend(blocks(*x.curves["critic_gradient_norm"])[1]).rises(0.05)
    return told(
        f"{share:.1%} of the critic's weights are at the bounds of {clip.get('bound')}; its slope "
        f"between real and fake samples is {number(slope)}"
        + (", and its gradients grow" if rising else ""),
        "Within so large a box the critic's scale rises as long as it trains, and the generator's "
        "steps with it.",
        f"--constraint weight-clipping:bound={_smaller(clip)}, or --recipe wgan-gp",
        sure(slope, 20, low=0.75) if slope > 20 else 0.65,
    )


def _smaller(clip: Any) -> str:
    bound = clip.get("bound")
    return f"{min(bound / 10, 0.1):g}" if isinstance(bound, float | int) else "0.1"


@rule(
    "constraint-not-enforced",
    "The penalty does not hold the critic's slopes at 1.",
    "The median slope between real and fake samples is over 4 under a penalty that asks for 1.",
    live="stuck",
)
def _loose(x: Examination) -> Told | None:
    penalty = x.constraint("gradient-penalty") or x.constraint("dragan")
    slope = x.late("audit.slope_median", 0.5)
    if not math.isfinite(slope):
        slope = x.late("slope")
    if penalty is None or not slope > 4:
        return None
    return told(
        f"the critic's median slope is {number(slope)} where the penalty asks for 1; its weight "
        f"is {penalty.get('weight')}",
        "The penalty costs the critic less than it wins by being steep.",
        "raise its weight: --constraint gradient-penalty:weight=10 is the published one",
        sure(slope, 4, low=0.75),
    )


@rule(
    "constraint-over-enforced",
    "A penalty on slopes flattens the critic.",
    "The median slope is under 0.05 with an R1 or R2 penalty, or that penalty is over 3 times the "
    "estimate; and the samples are far from the data.",
    live="stuck",
)
def _tight(x: Examination) -> Told | None:
    penalty = x.constraint("r1") or x.constraint("r2")
    slope, cost = x.late("audit.slope_median", 0.5), x.late("r1_penalty")
    values = np.abs(x.series(x.estimate))
    estimate = float(np.median(values[-max(1, len(values) // 4) :])) if len(values) else math.nan
    if penalty is None or young(x) or not (slope < 0.05 or cost > 3 * estimate) or not far(x):
        return None
    gamma = penalty.get("gamma")
    return told(
        f"the critic's median slope is {number(slope)} with gamma {gamma}; the penalty is "
        f"{number(cost)}, the estimate {number(estimate)}",
        "Being flat costs such a critic nothing and any slope costs it much, so that the generator "
        "learns little from it.",
        f"--constraint r1:gamma={gamma / 100 if isinstance(gamma, float | int) else 0.1:g}",
        max(sure(0.05, slope, low=0.75), sure(cost, 3 * max(estimate, 1e-12), low=0.75)),
    )


@rule(
    "penalty-dominates",
    "The critic minimises its penalty and little else.",
    "The penalty is over 3 times the estimate in size though the critic's slopes are near what it "
    "asks for, and the samples are far from the data.",
    live="stuck",
)
def _dominates(x: Examination) -> Told | None:
    if x.estimate is None or x.late("generator_gradient_norm") < 1e-4:  # nothing comes through
        return None
    for key in ("gradient_penalty", "dragan_penalty"):
        penalty, estimate = x.late(key), abs(x.late(x.estimate))
        if x.late("audit.slope_median", 0.5) < 0.5:  # a flat critic costs the penalty's weight
            continue
        if penalty > 3 * max(estimate, 1e-12) and far(x):
            return told(
                f"{key.replace('_', ' ')} is {number(penalty)}, the estimate {number(estimate)}",
                "The gradient that the critic follows is the penalty's, so that it keeps its "
                "slopes right and does not look at the samples.",
                "lower the penalty's weight by a factor of a hundred",
                sure(penalty / max(estimate, 1e-12), 3, low=0.7),
            )
    return None


@rule(
    "critic-saturated",
    "The discriminator has won, and the generator gets nothing from it.",
    "The JS estimate is within 15% of log 2 at the end, or has stayed above half of log 2 and does "
    "not fall; and the samples are far from the data and come no closer.",
    live="stuck",
)
def _saturated(x: Examination) -> Told | None:
    value = x.late("js_estimate")
    if not x.config:  # the losses of another tool: whether samples are far is not known
        if not value > 0.95 * LOG2:
            return None
    elif not far(x) or not (value > 0.85 * LOG2 or _strong(x)):
        return None
    return told(
        f"the JS estimate is {number(value)} of at most log 2 = 0.693"
        + (f"; the generator's gradient has a norm of {number(x.late('generator_gradient_norm'))}")
        * ("generator_gradient_norm" in x.curves),
        "The two distributions hardly overlap, so that a good discriminator is sure everywhere "
        "and its slope there is 0.",
        "--recipe wgan-gp, whose critic keeps its slope; or fewer critic updates (--n-critic 1) "
        "and --recipe gan-ns",
        sure(value / LOG2, 0.85, low=0.85) if value > 0.85 * LOG2 and x.config else 0.75,
    )


def _strong(x: Examination) -> bool:
    """Whether a discriminator has kept the upper hand, and the samples where they are."""
    if "js_estimate" not in x.curves:
        return False
    _, values = blocks(*x.curves["js_estimate"])
    late = values[len(values) // 3 :]
    if not np.median(late) > 0.5 * LOG2 or trend(late).change < -0.1 * np.median(late):
        return False
    excess = x.series(EXCESS)
    return len(excess) > 2 and float(excess[-1]) > 0.8 * float(excess[0])


@rule(
    "critic-under-trained",
    "The critic does not keep up with the generator.",
    "On held-out data the estimate is below 0 in part of the records, or still rises by a third "
    "when the critic trains on alone; and the samples are far from the data.",
    live="stuck",
)
def _under(x: Examination) -> Told | None:
    if x.estimate != "wasserstein_estimate":  # of others the level means less
        return None
    values = x.series(x.estimate)
    negative = float((values[len(values) // 4 :] < 0).mean()) if len(values) else 0.0
    gap, share = x.series("audit.optimality_gap"), 0.0
    if len(gap) and (gap > 0).mean() >= 0.75:  # it rises, and does not only wander
        held = float(np.median(np.abs(x.series("audit.critic_estimate"))))
        share = float(np.median(gap)) / max(held, 1e-12)
    if young(x) or not far(x) or not (negative > 0.1 or share > 0.35):
        return None
    said = []
    if negative > 0.1:
        said.append(f"the estimate is below 0 in {negative:.0%} of the records")
    if share > 0.05:
        said.append(f"trained on alone the critic changes its estimate by {share:.0%}")
    return told(
        " and ".join(said),
        "A critic that is behind points the generator to where it has already been.",
        f"--n-critic {2 * int(setting(x, 'n_critic') or 1) + 1} (each costs a critic update a "
        "step), or a higher --critic-lr",
        min(0.9, max(sure(negative, 0.1, low=0.7), sure(share, 0.35, low=0.5, high=0.75))),
    )


@rule(
    "critic-exploited",
    "The estimate falls and the samples do not get better.",
    "The estimate has a falling trend in the second half, the excess a rising one.",
    live="stuck",
)
def _exploited(x: Examination) -> Told | None:
    excess, values = x.series(EXCESS), x.series(x.estimate)
    if len(excess) < 10 or len(values) < 100:
        return None
    late = excess[len(excess) // 2 :]
    _, medians = blocks(*x.curves[x.estimate or ""])
    falls, rises = trend(medians[len(medians) // 2 :]).falls(0.05), trend(excess).rises(0.05)
    if not (falls and rises) or late[-1] < 1.5 * float(excess.min()) or not far(x):
        return None
    return told(
        f"the {(x.estimate or '').replace('_', ' ')} falls while the excess rose from "
        f"{number(float(excess.min()))} to {number(float(late[-1]))}",
        "The generator has found where the critic is wrong, and moves there.",
        "hold the critic (--recipe wgan-gp) or train it more; the best checkpoint is kept: "
        "--checkpoint best",
        0.75,
    )
