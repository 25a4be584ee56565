"""Penalties on the critic's slope: what they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from wgan.constraints.base import Constraint, input_gradient, refuse_once_differentiable
from wgan.errors import UserError
from wgan.layers import Dropout, paused_iterations
from wgan.types import Critic, Draw, Loss

Norm = Literal[1, 2, "inf"]
Method = Literal["exact", "finite-difference"]

_EPSILON = 1e-12  # inside the root: its derivative at a zero gradient is finite, not NaN
_REACH = 1e-2  # of a finite difference; in float32 its rounding error is about 1e-5 of the score


@dataclass(frozen=True, kw_only=True)
class SlopePenalty(Constraint):
    """``E price(|grad D(h)|_*)`` at points h: the base of gradient penalties, R1, R2 and DRAGAN.

    ``|.|_*`` is the dual of the data's norm over all axes of one sample. A function is 1-Lipschitz
    for the data's norm exactly where its gradient's dual norm is at most 1: Euclidean for 2, the
    largest absolute entry for 1, their sum for inf.

    `finite-difference` needs no second derivative. With the unit step n along which the critic
    rises fastest, found by one plain gradient, ``(D(h + r n) - D(h - r n)) / 2r``, r = 0.01, is the
    slope, and (n being a maximiser) its derivative in the weights is that of the slope too, both up
    to O(r^2) in a smooth critic. It costs one pass over a double batch in place of a second
    derivative, and needs a critic without dropout, whose passes differ.

    Args:
        norm: Norm of the data space: 1, 2 or 'inf'.
        interval: The penalty is taken in steps 1, 1 + interval, ..., times `interval`, and in no
            other (Karras et al. 2019, appendix B).
        method: 'exact', or 'finite-difference' for a critic without a second derivative.
    """

    norm: Norm = 2
    interval: int = 1
    method: Method = "exact"

    per_sample: ClassVar[bool] = True
    term: ClassVar[str]
    slope_term: ClassVar[str]

    def __post_init__(self) -> None:
        self.require_choice("norm", get_args(Norm))
        self.require_choice("method", get_args(Method))
        self.require("interval", at_least=1)

    def prepare(self, critic: nn.Module) -> nn.Module:
        critic = super().prepare(critic)
        for name, layer in critic.named_modules():
            if self.method == "finite-difference" and isinstance(layer, (Dropout, nn.Dropout)):
                raise UserError(
                    f"{self.name}: method=finite-difference compares two passes, and the critic's "
                    f"dropout `{name}` makes them differ; use method=exact"
                )
            exact_rnn = self.method == "exact" and isinstance(layer, nn.RNNBase)
            if exact_rnn and _without_cudnn not in layer._forward_pre_hooks.values():
                layer.register_forward_pre_hook(_without_cudnn)
                layer.register_forward_hook(_with_cudnn_again, always_call=True)
        return critic

    def points(self, real: Tensor, fake: Tensor, draw: Draw) -> Tensor:
        """Where the slope is penalised, ``[points, *shape]``."""
        raise NotImplementedError

    def price(self, slope: Tensor) -> Tensor:
        """What each slope costs, weight included, elementwise."""
        raise NotImplementedError

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, draw: Draw, step: int
    ) -> Loss | None:
        if not self.due(step):
            return None
        points = self.points(real, fake, draw)
        if self.method == "exact":
            gradient = input_gradient(critic, points)
            if step == 1 and not torch.compiler.is_compiling():
                refuse_once_differentiable(gradient, self.name)
            return self.priced(dual_norm(gradient, self.norm))
        return self.priced(finite_difference_slope(critic, points, self.norm))

    def due(self, step: int) -> bool:
        """Whether this step, from 1, has the penalty."""
        return (step - 1) % self.interval == 0

    def priced(self, slope: Tensor) -> Loss:
        """The penalty for slopes ``[points]``."""
        penalty = self.interval * self.price(slope).mean()
        terms: Mapping[str, Tensor] = {
            self.term: penalty.detach(),
            self.slope_term: slope.detach().mean(),
        }
        return Loss(penalty, terms)


def dual_norm(gradient: Tensor, norm: Norm) -> Tensor:
    """Of each gradient ``[batch, *shape]`` the norm dual to a norm of the data, ``[batch]``.

    Its derivative is finite at a zero gradient, where the Euclidean one is 1e-6 and not 0.
    """
    flat = gradient.flatten(1)
    if norm == 1:
        return flat.abs().amax(1)
    if norm == "inf":
        return flat.abs().sum(1)
    return (flat.square().sum(1) + _EPSILON).sqrt()


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The step of unit length in the data's norm along which a linear function rises fastest.

    Zero where the gradient is.
    """
    flat = gradient.flatten(1)
    if norm == 1:
        largest = flat.abs().argmax(1, keepdim=True)
        step = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())
    elif norm == "inf":
        step = flat.sign()
    else:
        step = flat / flat.norm(dim=1, keepdim=True).clamp_min(_EPSILON)
    return step.view_as(gradient)


def finite_difference_slope(critic: Critic, points: Tensor, norm: Norm) -> Tensor:
    """The slope at each point, ``[batch]``, as :class:`SlopePenalty` says."""
    step = _REACH * steepest(input_gradient(critic, points).detach(), norm)
    points = points.detach().to(step)
    with torch.autocast(points.device.type, enabled=False), paused_iterations():
        # One pass, so that a critic that changes from pass to pass is one function.
        ahead, behind = critic(torch.cat([points + step, points - step])).score.chunk(2)
    return (ahead - behind) / (2 * _REACH)


def _without_cudnn(layer: nn.Module, inputs: Any) -> None:
    """Forward pre-hook: cuDNN's recurrence has no second derivative, torch's own has one."""
    layer.__dict__["_cudnn_was"] = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False


def _with_cudnn_again(layer: nn.Module, inputs: Any, outputs: Any) -> None:
    """Forward hook, called after an exception too."""
    torch.backends.cudnn.enabled = layer.__dict__.pop("_cudnn_was", True)
