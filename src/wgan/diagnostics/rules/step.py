"""The size and the direction of an update."""

from __future__ import annotations

import math

from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules.base import (
    LOG2,
    Told,
    closing,
    damaged,
    far,
    number,
    rule,
    setting,
    sure,
    told,
    young,
)


@rule(
    "learning-rate-too-low",
    "The generator has hardly moved.",
    "Its weights are within 3% of where they began, and the samples are far from the data.",
)
def _too_low(x: Examination) -> Told | None:
    n = x.networks
    if n is None or n.moved is None or x.steps < 100 or n.moved > 0.03 or not far(x):
        return None
    saturated = x.late("js_estimate") > 0.85 * LOG2
    if saturated or x.late("generator_gradient_norm") < 1e-4:  # it cannot move: another's case
        return None
    return told(
        f"after {x.steps:,} steps the generator's weights are {n.moved:.2%} from where they began; "
        f"one update moves them by {n.generator_step:.1e} of their norm",
        f"Gradients are there (norm {number(x.late('generator_gradient_norm'))}), so it is the "
        "steps that are short.",
        f"raise --lr: ten times {setting(x, 'generator_lr')} costs nothing to try",
        sure(0.03, max(n.moved, 1e-6), low=0.7),
    )


@rule(
    "learning-rate-too-high",
    "Every update throws the networks far.",
    "One update moves a network by over 1% of its weights' norm, or an adaptive optimizer's rate "
    "is over 6% of the weights' size at the start (unless `auto` took it); and the samples are far "
    "from the data or cover a part of it, or units are dead.",
    live="stuck",
)
def _too_high(x: Examination) -> Told | None:
    n = x.networks
    critic, generator = (n.critic_step, n.generator_step) if n is not None else _strides(x)
    # Weights that are held move in place, and what moves far and gets there is no disease.
    share, first = max(critic, generator), n.first_step if n is not None else 0.0
    if x.late("clip_share") > 0.3 or young(x) or closing(x):
        share = 0.0
    if young(x):
        first = 0.0
    if not (share >= 0.01 or first >= _LONG) or not damaged(x):
        return None
    who = "critic" if critic >= generator else "generator"
    said = [f"one update moves the {who}'s weights by {share:.1%} of their norm"]
    if first >= _LONG:
        said.append(f"the rate is {first:.0%} of the size of the weights at the start")
    return told(
        "; ".join(said if share >= 0.01 else said[1:]),
        "So long a step leaves the region in which its gradient means anything; a healthy one is "
        "a few tenths of 1%. Units that it kills stay dead, and samples that it throws together "
        "stay together.",
        f"lower --lr (generator {setting(x, 'generator_lr')}, critic {setting(x, 'critic_lr')}) by "
        "a factor of ten; it then takes more steps",
        max(sure(share, 0.01, low=0.8), sure(first, _LONG, low=0.8)),
    )


_LONG = 0.06  # of a rate as a share of the weights' size: ten times what is usual


def _strides(x: Examination) -> tuple[float, float]:
    """How far an update moves critic and generator by the last audits, and by all of them."""
    found = [x.late(f"audit.{role}_stride", 0.5) for role in ("critic", "generator")]
    return tuple(value if math.isfinite(value) else 0.0 for value in found)  # type: ignore[return-value]


@rule(
    "momentum-harmful",
    "What the optimizer remembers points against the gradient.",
    "beta1 is over 0.8 for a critic that is clipped or far from settled, or the cosine between its "
    "remembered step and a fresh gradient is negative.",
)
def _momentum(x: Examination) -> Told | None:
    n, beta1 = x.networks, setting(x, "beta1")
    if n is None or n.critic_cosine is None or not beta1 or not far(x):
        return None
    clipped = x.constraint("weight-clipping") is not None
    if n.critic_cosine >= 0 and not (clipped and beta1 > 0.8):
        return None
    if beta1 < 0.7:
        return None
    return told(
        f"beta1 is {beta1}, and the cosine between the critic's remembered step and a fresh "
        f"gradient is {n.critic_cosine:.2f}",
        "The critic's loss changes with every move of the generator, so that an average over "
        f"{1 / (1 - beta1):.0f} steps points to where the critic should have gone (Arjovsky et al. "
        "2017, section 4.3).",
        "--optimizer rmsprop, or --beta1 0 (0.5 at most)",
        0.85 if n.critic_cosine < 0 else 0.8,
    )


@rule(
    "batch-too-small",
    "A batch says too little of the distribution.",
    "At most 4 samples in a batch, or under 16 with gradients on two batches that disagree.",
    live="stuck",
)
def _batch(x: Examination) -> Told | None:
    size, n = setting(x, "batch_size"), x.networks
    if not isinstance(size, int) or size > 16:
        return None
    if size > 4 and (n is None or n.batch_cosine > 0.1):
        return None
    alike = (
        ""
        if n is None
        else (f"; the generator's gradients on two batches have a cosine of {n.batch_cosine:.2f}")
    )
    return told(
        f"--batch-size is {size}{alike}",
        "The critic compares the two distributions by a few points of each, and the generator "
        "follows the noise of that.",
        "--batch-size 64 or more; on small networks that costs almost nothing",
        0.9 if size <= 4 else 0.65,
    )
