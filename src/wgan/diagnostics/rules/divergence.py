"""The run broke, or is about to."""

from __future__ import annotations

import math

import numpy as np

from wgan.diagnostics.examination import Examination
from wgan.diagnostics.rules.base import (
    Told,
    number,
    rule,
    sure,
    told,
)
from wgan.diagnostics.signs import blocks, growth


@rule(
    "diverged",
    "A loss or a gradient became infinite or not a number.",
    "The run's card says at which step and in which term.",
)
def _diverged(x: Examination) -> Told | None:
    if "not finite" not in x.reason:
        return None
    norms = x.series("critic_gradient_norm")
    grew = f"; the critic's gradient ended at {number(norms[-1])}" if len(norms) else ""
    return told(
        f"{x.reason}{grew}",
        "The weights grew until a number overflowed: steps too long for this loss.",
        "lower --lr (a third is a good first try), or --on-divergence rollback, which goes back "
        "and halves it",
        0.99,
    )


@rule(
    "divergence-ahead",
    "Losses or gradients grow without end.",
    "The critic's gradient norm doubled at least five times in the last third, along a straight "
    "line on a logarithmic scale (the critic's loss three times, where another tool kept nothing "
    "else).",
    live="always",
)
def _diverging(x: Examination) -> Told | None:
    if x.reason:
        return None
    key, what, least = "critic_gradient_norm", "critic's gradient norm", (5.0, 0.7)
    if key not in x.curves and not x.config:  # the losses of another tool
        key, what, least = "critic_loss", "critic's loss", (3.0, 0.9)
    steps, values = x.curves.get(key, (np.empty(0), np.empty(0)))
    _, medians = blocks(steps, np.abs(values))
    doublings, straight = growth(medians)
    if doublings < least[0] or straight < least[1]:
        return None
    left = (math.log2(1e38) - math.log2(max(float(medians[-1]), 1e-300))) / doublings
    return told(
        f"the {what} doubled {doublings:.1f} times in the last third of the run "
        f"and is now {number(float(medians[-1]))}",
        "Growth that keeps its pace ends in an overflow, here after about "
        f"{left * x.steps / 3:,.0f} more steps.",
        "lower --lr, or hold the critic: --constraint gradient-penalty; --on-divergence rollback "
        "keeps the run alive",
        sure(doublings, least[0], low=0.9),
    )
