"""Weight clipping, the constraint of Algorithm 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from wgan.constraints.base import Constraint
from wgan.errors import UnknownNameError


@dataclass(frozen=True)
class WeightClipping(Constraint):
    """After each critic update every weight is clipped to ``[-bound, bound]``.

    Every parameter is clipped: biases too, and the gains and shifts of batch norm, as in the
    released code. This keeps the critic in a compact set and so K-Lipschitz for some unknown K. The
    record's ``clip_share`` is the share of weights at the ends of the box, in [0, 1].

    Args:
        bound: Half the side of the box, > 0, in weight units (the paper: 0.01).
        part: Name of the submodule whose weights are clipped (MMD GAN: the encoder); empty: all.

    Raises:
        UserError: `bound` is not > 0, or the critic has no such part.

    Source: Arjovsky, Chintala, Bottou 2017, Algorithm 1, line 7. The released code clips before
    the forward pass instead, so its generator sees a critic one update outside the box.
    """

    bound: float = 0.01
    part: str = ""

    name: ClassVar[str] = "weight-clipping"

    def __post_init__(self) -> None:
        self.require("bound", above=0)

    def prepare(self, critic: nn.Module) -> nn.Module:
        parts = [name for name, _ in critic.named_children()]
        if self.part and self.part not in parts:
            raise UnknownNameError("part of the critic", self.part, parts)
        return super().prepare(critic)

    @torch.no_grad()
    def project(self, critic: nn.Module) -> None:
        parameters = self._clipped(critic)
        torch._foreach_clamp_min_(parameters, -self.bound)
        torch._foreach_clamp_max_(parameters, self.bound)

    @torch.no_grad()
    def measure(self, critic: nn.Module) -> Mapping[str, Tensor]:
        parameters = self._clipped(critic)
        at_bound = torch.stack([(p.abs() >= self.bound).sum() for p in parameters]).sum()
        return {"clip_share": at_bound / sum(p.numel() for p in parameters)}

    def _clipped(self, critic: nn.Module) -> list[Tensor]:
        return list(critic.get_submodule(self.part).parameters())
