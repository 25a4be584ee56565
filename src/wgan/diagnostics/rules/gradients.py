"""What of the gradient reaches the networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wgan.diagnostics.examination import PROBED, Examination, Layer
from wgan.diagnostics.rules.base import (
    LOG2,
    Told,
    far,
    number,
    rule,
    sure,
    told,
)


@rule(
    "vanishing-gradient",
    "Gradients die on the way through a network.",
    "The gradient of the first weights is under a thousandth of that of the last, or what reaches "
    "the generator is below 1e-4 in the first ten steps or at the end, with no clipping to blame; "
    "and the samples are far from the data.",
    live="stuck",
)
def _vanishing(x: Examination) -> Told | None:
    if x.constraint("weight-clipping") is not None or not far(x):
        return None
    ratio = 1.0 if x.networks is None else _depth_ratio(x.networks.critic)
    norms = x.series("generator_gradient_norm")
    norm, first = x.late("generator_gradient_norm"), math.inf
    if len(norms) and x.curves["generator_gradient_norm"][0][0] == 1:
        first = float(np.median(norms[:_BEGINNING]))
    if not (ratio < 1e-3 or norm < 1e-4 or first < 1e-4) or x.late("js_estimate") > 0.85 * LOG2:
        return None
    said = []
    if ratio < 1e-3:
        said.append(
            f"from the critic's last layer to its first the gradient falls to {number(ratio)} of "
            "what it was"
        )
    if first < 1e-4:
        said.append(
            f"in the first {_BEGINNING} steps a gradient of norm {number(first)} reached the "
            "generator"
        )
    return told(
        "; ".join([*said, f"at the end it has a norm of {number(norm)}"]),
        "Each layer passes on less than it gets: saturating activations, or weights that are too "
        "small for their number.",
        "ReLU or leaky ReLU in place of tanh, He initialisation, fewer layers, or residual ones",
        0.9 if first < 1e-4 or (ratio < 1e-3 and norm < 1e-2) else 0.7,
    )


_BEGINNING = 10  # steps


@rule(
    "generator-stands-still",
    "No gradient reaches the generator.",
    "The norm of its gradient is below 1e-12 over the last quarter of the run.",
    live="always",
)
def _still(x: Examination) -> Told | None:
    norm = x.late("generator_gradient_norm")
    if not norm < 1e-12:
        return None
    return told(
        f"the generator's gradient has had a norm of {number(norm)} for a quarter of the run",
        "Every unit on its way is dead, in the critic or in the generator: after too long a step "
        "most often. It does not come back.",
        "begin anew with a tenth of --lr; if that does not help, leaky ReLU in both networks",
        0.95,
    )


@rule(
    "exploding-gradient",
    "Gradients grow on the way through a network.",
    "The critic's gradient norm is over 1e4 at the end, with no clipping box to blame.",
    live="always",
)
def _exploding(x: Examination) -> Told | None:
    norm = x.late("critic_gradient_norm")
    if not norm > 1e4 or x.constraint("weight-clipping") is not None:
        return None
    return told(
        f"the critic's gradient has a norm of {number(norm)}",
        "Each layer passes on more than it gets, or the critic's scale rises without a constraint.",
        "--clip-norm 10 bounds the step; --constraint gradient-penalty holds the scale",
        sure(norm, 1e4, low=0.6, high=0.9),
    )


def _depth_ratio(layers: Sequence[Layer]) -> float:
    if len(layers) < 3 or not layers[-1].gradient > 0:
        return 1.0
    return min(layer.gradient for layer in layers[:-1]) / layers[-1].gradient


@rule(
    "dead-units",
    "Much of the generator never fires.",
    "Over half of its hidden units say the same for every latent.",
)
def _dead(x: Examination) -> Told | None:
    if x.networks is None or x.networks.dead < 0.5:
        return None
    return told(
        f"{x.networks.dead:.0%} of the generator's hidden units are constant over {PROBED} latents",
        "Rectifiers whose input is always negative have no gradient and stay so; after too long "
        "steps, or from a bad start.",
        "leaky rectifiers, a lower --generator-lr, or train anew from another --seed",
        sure(x.networks.dead, 0.5, low=0.7),
    )
