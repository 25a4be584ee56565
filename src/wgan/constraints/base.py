"""How a critic is kept Lipschitz.

A constraint is a frozen dataclass with up to five hooks, each a no-op by default. To add one,
override what it needs, register it in `wgan.constraints.registry`, and write one closed-form test.
Its fields are plain values, so that `dataclasses.asdict` describes it and `make_constraint` builds
it again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from wgan.errors import UserError
from wgan.layers import paused_iterations
from wgan.types import Critic, Draw, Loss

_ONCE_DIFFERENTIABLE = ("torch::autograd::NotImplemented", "torch::autograd::Error")


class Constraint:
    """Hooks around a critic's update; subclasses are frozen dataclasses.

    Attributes:
        name: The name on the command line and in the configuration.
        per_sample: Whether the penalty is a function of one sample at a time, which batch
            normalisation would break.
    """

    name: ClassVar[str]
    per_sample: ClassVar[bool] = False

    def prepare(self, critic: nn.Module) -> nn.Module:
        """The critic to train, before its optimizer exists (parametrised, say)."""
        if self.per_sample:
            refuse_batch_norm(critic, self.name)
        return critic

    def draw(self, rng: torch.Generator, shape: tuple[int, ...]) -> Draw:
        """Random tensors for one penalty on a whole batch of this shape ``[batch, *shape]``."""
        return Draw()

    def penalty(
        self, critic: Critic, real: Tensor, fake: Tensor, draw: Draw, step: int
    ) -> Loss | None:
        """What is added to the critic's loss (weight included), or None for nothing.

        `step` counts from 1.
        """
        return None

    def weight_penalty(self, critic: nn.Module, step: int) -> Loss | None:
        """What is added to the loss for the weights themselves, or None for nothing."""
        return None

    def project(self, critic: nn.Module) -> None:
        """Move the weights back into the allowed set, after each critic update."""

    def measure(self, critic: nn.Module) -> Mapping[str, Tensor]:
        """Scalars for the record that tell whether the constraint binds."""
        return {}

    def require(
        self, field: str, *, at_least: float | None = None, above: float = -math.inf
    ) -> None:
        """Raise `UserError` unless a numeric field is finite and within its range."""
        value = getattr(self, field)
        if at_least is not None:
            allowed, fits = f">= {at_least:g}", value >= at_least
        else:
            allowed, fits = f"> {above:g}", value > above
        if not (fits and math.isfinite(value)):
            raise UserError(f"{self.name}: `{field}` must be {allowed}, got {value}")

    def require_choice(self, field: str, choices: tuple[Any, ...]) -> None:
        """Raise `UserError` unless a field is one of the choices."""
        value = getattr(self, field)
        if value not in choices:
            allowed = ", ".join(map(repr, choices))
            raise UserError(f"{self.name}: `{field}` must be one of {allowed}, got {value!r}")


def refuse_batch_norm(critic: nn.Module, constraint: str) -> None:
    """Raise `UserError` if the critic normalises over the batch.

    A per-sample penalty asks for the gradient of one score with respect to one sample; batch
    normalisation makes every score depend on every sample (Gulrajani et al. 2017, section 4).
    """
    for name, module in critic.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"constraint `{constraint}` penalises each sample by itself, and the critic's "
                f"layer `{name or type(module).__name__}` normalises over the batch; use "
                "critic_norm `none` or `layer`"
            )


def input_gradient(critic: Critic, points: Tensor) -> Tensor:
    """The gradient of each score with respect to its own sample, differentiable once more.

    In float32 or wider, with autocast off. Attention runs in its plain form, because the fused ones
    have no second derivative; spectral norms take no power iteration. Inside a compiled function
    `torch.func.grad` is used, which can be traced where `autograd.grad(create_graph=True)` cannot.

    Args:
        critic: The critic, with any condition bound.
        points: ``[batch, *shape]``; leaves the caller's graph.

    Returns:
        ``[batch, *shape]``, in the unit of a score per unit of data.
    """
    points = points.detach()
    if points.dtype not in (torch.float32, torch.float64):
        points = points.float()

    def total_score(at: Tensor) -> Tensor:
        return critic(at).score.sum()

    plain = torch.autocast(points.device.type, enabled=False)
    with plain, sdpa_kernel(SDPBackend.MATH), paused_iterations():
        if torch.compiler.is_compiling():
            gradient: Tensor = torch.func.grad(total_score)(points)
        else:
            points.requires_grad_(True)
            (gradient,) = torch.autograd.grad(total_score(points), points, create_graph=True)
    return gradient


def refuse_once_differentiable(gradient: Tensor, constraint: str) -> None:
    """Raise `UserError` if a gradient passed through an operation without a second derivative."""
    seen: set[Any] = set()
    stack = [gradient.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() in _ONCE_DIFFERENTIABLE:
            raise UserError(
                f"constraint `{constraint}` needs the second derivative of the critic, and one of "
                "its operations has only a first; replace it, or give the constraint "
                "method=finite-difference"
            )
        stack.extend(following for following, _ in node.next_functions)
