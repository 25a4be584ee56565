"""Optimizers and learning-rate schedules: torch's own, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from wgan.errors import UnknownNameError, UserError

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class OptimizerSpec:
    """One player's optimizer.

    Attributes:
        name: adam, adamw, rmsprop or sgd.
        lr: Learning rate, > 0.
        beta1, beta2: Adam's and AdamW's averaging factors, in [0, 1); `beta1` is SGD's momentum.
        alpha: RMSProp's averaging factor, in [0, 1).
        schedule: How the rate moves over the run: constant, or to 0 linearly or by a cosine.
    """

    name: str = "adam"
    lr: float = 1e-4
    beta1: float = 0.0
    beta2: float = 0.9
    alpha: float = 0.99
    schedule: str = "constant"

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UnknownNameError("optimizer", self.name, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise UnknownNameError("schedule", self.schedule, SCHEDULES)
        if not 0 < self.lr < math.inf:
            raise UserError(f"`lr` must be > 0 and finite, got {self.lr}")
        for field in ("beta1", "beta2", "alpha"):
            if not 0 <= (value := getattr(self, field)) < 1:
                raise UserError(f"`{field}` must be in [0, 1), got {value}")

    def build(self, parameters: Iterable[Tensor]) -> Optimizer:
        """The optimizer over these parameters, fused into one pass where torch can."""
        betas = (self.beta1, self.beta2)
        if self.name == "adam":
            return torch.optim.Adam(parameters, self.lr, betas, fused=True)
        if self.name == "adamw":
            return torch.optim.AdamW(parameters, self.lr, betas, fused=True)
        if self.name == "rmsprop":
            return torch.optim.RMSprop(parameters, self.lr, self.alpha, foreach=True)
        return torch.optim.SGD(parameters, self.lr, self.beta1, fused=True)

    def rate(self, step: int, steps: int | None) -> float:
        """The learning rate at a step (from 1) of a run of `steps` steps.

        A function of the step alone, so that there is no scheduler to save.
        """
        if self.schedule == "constant":
            return self.lr
        if steps is None:
            raise UserError(f"schedule {self.schedule!r} needs the number of steps: give --steps")
        done = min((step - 1) / steps, 1.0)
        if self.schedule == "linear":
            return self.lr * (1 - done)
        return self.lr * (1 + math.cos(math.pi * done)) / 2
