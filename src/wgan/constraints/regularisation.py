"""A soft pull of every layer's filters towards orthogonality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from wgan.constraints.base import Constraint
from wgan.types import Loss

_KINDS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(frozen=True)
class OrthogonalRegularisation(Constraint):
    """``weight sum_layers |W W' o (1 - I)|_F^2``, W a layer's weight reshaped to ``[out, -1]``.

    Different filters of a layer are asked to be orthogonal; their lengths are free. Over Linear,
    Conv and ConvTranspose layers; embeddings are left out, as published.

    Args:
        weight: beta, >= 0 (the paper: 1e-4).

    Source: Brock, Donahue, Simonyan 2019, equation 3. The released code adds half this gradient.
    """

    weight: float = 1e-4

    name: ClassVar[str] = "orthogonal-regularisation"

    def __post_init__(self) -> None:
        self.require("weight", at_least=0)

    def weight_penalty(self, critic: nn.Module, step: int) -> Loss | None:
        """Of any network: a generator's as well."""
        parts = [
            self._overlap(layer)
            for layer in critic.modules()
            if isinstance(layer, _KINDS) and layer.weight.requires_grad
        ]
        if not parts:
            return None
        penalty = self.weight * torch.stack(parts).sum()
        return Loss(penalty, {"orthogonal_penalty": penalty.detach()})

    def _overlap(self, layer: nn.Module) -> Tensor:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        transposed = isinstance(layer, _KINDS[4:])
        filters = (weight.transpose(0, 1) if transposed else weight).flatten(1)
        gram = filters @ filters.mT
        return (gram - torch.diag(gram.diagonal())).square().sum()
