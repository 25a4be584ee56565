"""Dropout whose masks come from a generator that a checkpoint can hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wgan.errors import UserError
from wgan.shares import current


class Dropout(nn.Module):
    """``x m / (1 - p)`` in training, ``m ~ Bernoulli(1 - p)`` elementwise; the identity in eval.

    Every pass in training draws a new mask, so that two passes over one batch differ, as WGAN-CT
    asks (Wei et al. 2018, section 3). The masks come from `rng` and never from the global
    generator: a resumed run draws the masks that the uninterrupted one would have drawn. They are
    drawn on the generator's device, so that a seed means the same masks on every device.

    Args:
        p: The share dropped, in [0, 1).

    Attributes:
        rng: Set by :func:`bind_rng`. A deep copy of the layer draws from its own copy.

    Raises:
        UserError: A pass in training before `rng` is bound.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise UserError(f"Dropout: `p` must be in [0, 1), got {p}")
        self.p = p
        self.rng: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return values
        if self.rng is None:
            raise UserError(
                "Dropout has no random generator; call `bind_rng(module, rng)` before training"
            )
        share = current()
        shape = share.whole(tuple(values.shape))
        uniform = torch.rand(shape, generator=self.rng, device=self.rng.device)
        uniform = uniform[share.rows(shape[0])]
        mask = (uniform >= self.p).to(values)
        return values * mask / (1 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def bind_rng(module: nn.Module, rng: torch.Generator) -> None:
    """Let every :class:`Dropout` of `module` draw its masks from `rng`, in the order of the passes.

    Call it again after a deep copy that should go on drawing from the same generator.
    """
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.rng = rng
