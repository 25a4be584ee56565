"""Weight clipping, the constraint of Algorithm 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from wgan.constraints.base import Constraint
from wgan.errors import UserError


@dataclass(frozen=True)
class WeightClipping(Constraint):
    """After each critic update every weight is clipped to ``[-bound, bound]``.

    This keeps the critic in a compact set and so K-Lipschitz for some unknown K. The record's
    ``clip_share`` is the share of weights at the ends of the box, in [0, 1].

    Args:
        bound: Half the side of the box, > 0, in weight units (the paper: 0.01).

    Source: Arjovsky, Chintala, Bottou 2017, Algorithm 1, line 7. The released code clips before
    the forward pass instead, so its generator sees a critic one update outside the box.
    """

    bound: float = 0.01

    name: ClassVar[str] = "weight-clipping"

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise UserError(f"weight-clipping: `bound` must be > 0, got {self.bound}")

    @torch.no_grad()
    def project(self, critic: nn.Module) -> None:
        parameters: list[Tensor] = list(critic.parameters())
        torch._foreach_clamp_min_(parameters, -self.bound)
        torch._foreach_clamp_max_(parameters, self.bound)

    @torch.no_grad()
    def measure(self, critic: nn.Module) -> Mapping[str, Tensor]:
        parameters = list(critic.parameters())
        at_bound = torch.stack([(p.abs() >= self.bound).sum() for p in parameters]).sum()
        return {"clip_share": at_bound / sum(p.numel() for p in parameters)}
