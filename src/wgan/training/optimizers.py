"""Optimizers and their schedules: torch's own by name, and optimistic Adam."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from wgan.errors import UnknownNameError, UserError

OPTIMIZERS = ("adam", "adamw", "optimistic-adam", "rmsprop", "sgd")
SCHEDULES = ("constant", "linear", "cosine")


class OptimisticAdam(torch.optim.Adam):
    """Adam that expects its next update to be like this one.

    With Adam's update ``d_t`` it moves ``w_{t+1} = w_t + 2 d_t - d_{t-1}``, where ``d_0 = 0``. Two
    players who do so converge where plain gradient steps spiral outwards, as in min_x max_y x y.

    Arguments are those of `torch.optim.Adam`. The previous update is in the state, so that a
    checkpoint holds it; one copy of the weights beyond Adam's own memory.

    Source: Daskalakis, Ilyas, Syrgkanis, Zeng 2018, algorithm 1. Where the rate moves, each update
    keeps the rate it was made with.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update by the gradients that are set; parameters without one stay."""
        if closure is not None:
            raise UserError("optimistic Adam takes no closure: set the gradients, then step")
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [p.clone() for p in moved]
        super().step()
        for parameter, origin in zip(moved, before, strict=True):
            update, slots = parameter - origin, self.state[parameter]
            parameter += update - slots.get("previous_update", 0)
            slots["previous_update"] = update


@dataclass(frozen=True)
class OptimizerSpec:
    """One player's optimizer.

    Attributes:
        name: adam, adamw, optimistic-adam, rmsprop or sgd.
        lr: Learning rate, > 0.
        beta1, beta2: The Adams' averaging factors, in [0, 1); `beta1` is SGD's momentum.
        alpha: RMSProp's averaging factor, in [0, 1).
        schedule: How the rate moves over the run: constant, linear or cosine.
        final_lr_share: The rate at the end as a share of `lr`, in [0, 1].
        final_beta2: Where `beta2` has moved at the end, along the same curve; None: it stays.
    """

    name: str = "adam"
    lr: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.9
    alpha: float = 0.99
    schedule: str = "constant"
    final_lr_share: float = 0.0
    final_beta2: float | None = None

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UnknownNameError("optimizer", self.name, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        if not 0 < self.lr < math.inf:
            raise UserError(f"`lr` must be > 0 and finite, got {self.lr}")
        for field in ("beta1", "beta2", "alpha", "final_beta2"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < 1:
                raise UserError(f"`{field}` must be in [0, 1), got {value}")
        if not 0 <= self.final_lr_share <= 1:
            raise UserError(f"`final_lr_share` must be in [0, 1], got {self.final_lr_share}")

    def build(self, parameters: Iterable[Tensor]) -> Optimizer:
        """The optimizer over these parameters, fused into one pass where torch can."""
        betas = (self.beta1, self.beta2)
        if self.name == "adam":
            return torch.optim.Adam(parameters, self.lr, betas, fused=True)
        if self.name == "adamw":
            return torch.optim.AdamW(parameters, self.lr, betas, fused=True)
        if self.name == "optimistic-adam":
            return OptimisticAdam(parameters, self.lr, betas, fused=True)
        if self.name == "rmsprop":
            return torch.optim.RMSprop(parameters, self.lr, self.alpha, foreach=True)
        return torch.optim.SGD(parameters, self.lr, self.beta1, fused=True)

    def at(self, progress: float) -> dict[str, Any]:
        """What the schedule sets when a share `progress` of the run is over.

        ``lr`` goes from `lr` to ``final_lr_share lr`` and ``betas`` from `beta2` to `final_beta2`,
        in proportion to ``1 - t`` (linear) or ``(1 + cos(pi t)) / 2`` (cosine), t = `progress` in
        [0, 1]. There is no scheduler to save.
        """
        if self.schedule == "constant":
            return {}
        left = self.left(progress)
        found: dict[str, Any] = {
            "lr": self.lr * (self.final_lr_share + (1 - self.final_lr_share) * left)
        }
        if self.final_beta2 is not None:
            found["betas"] = (self.beta1, self.final_beta2 + (self.beta2 - self.final_beta2) * left)
        return found

    def left(self, progress: float) -> float:
        """How much of the way the schedule has still to go, from 1 down to 0."""
        if self.schedule == "constant":
            return 1.0
        return 1 - progress if self.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
