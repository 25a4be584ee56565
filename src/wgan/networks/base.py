"""What every network here shares: its specification, its conditions, its critic's head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wgan.errors import UnknownNameError, UserError
from wgan.types import Scores

NORMS = ("none", "layer", "batch")

_DEEPEST = 10_000


@dataclass(frozen=True)
class Shapes:
    """What a network must fit: the data's side of it.

    Attributes:
        shape: One sample in training units.
        latent: Length of a latent vector.
        condition: Length of a condition vector; 0 for none.
        bounded: Whether samples lie in [-1, 1], so that the generator ends in tanh.
    """

    shape: tuple[int, ...]
    latent: int = 64
    condition: int = 0
    bounded: bool = False

    @property
    def numbers(self) -> int:
        """Numbers in one sample."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class NetworkSpec:
    """A network's own hyperparameters.

    Attributes:
        width: Units of a hidden layer (mlp), filters of the layer next to the picture (dcgan), or
            filters between blocks (resnet).
        depth: Hidden layers (mlp) or residual blocks of three (resnet); the dcgan's depth follows
            from the picture's size.
        norm: Normalisation of hidden layers: none, layer or batch.
        dropout: Share of hidden units that a critic drops in every pass, in [0, 1).
    """

    width: int = 512
    depth: int = 3
    norm: str = "none"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError(f"`width` must be >= 1, got {self.width}")
        if self.depth < 1:
            raise UserError(f"`depth` must be >= 1, got {self.depth}")
        if self.depth > _DEEPEST:
            raise UserError(f"`depth` must be <= {_DEEPEST:,}, got {self.depth}")
        if self.norm not in NORMS:
            raise UnknownNameError("norm", self.norm, NORMS)
        if not 0 <= self.dropout < 1:
            raise UserError(f"`dropout` must be in [0, 1), got {self.dropout}")


class Generator(nn.Module):
    """Latents ``[batch, latent]``, and conditions ``[batch, k]``, to ``[batch, *shape]``."""

    def __init__(self, body: nn.Module, shapes: Shapes) -> None:
        super().__init__()
        self.body = body
        self.shapes = shapes

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        if condition is not None:
            latent = torch.cat([latent, condition], 1)
        return self.shaped(self.body(latent))

    def shaped(self, out: Tensor) -> Tensor:
        """Samples in training units from what the body gives."""
        out = out.reshape(len(out), *self.shapes.shape)
        return out.tanh() if self.shapes.bounded else out


class CriticNetwork(nn.Module):
    """Samples ``[batch, *shape]`` (and conditions) to scores and last hidden features.

    Args:
        body: ``[batch, c, *space]`` to ``[batch, hidden]``. A condition enters as further numbers
            of a flat sample or as further constant channels of a picture.
        hidden: Length of the body's output.
        shapes: The data's side.
        features: If given, a linear layer to this many features stands before the score.
    """

    def __init__(
        self, body: nn.Module, hidden: int, shapes: Shapes, features: int | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.features = nn.Linear(hidden, features) if features else nn.Identity()
        self.score = nn.Linear(features or hidden, 1)

    def forward(self, values: Tensor, condition: Tensor | None = None) -> Scores:
        if condition is not None:
            values = self.joined(values, condition)
        features = self.features(self.body(values))
        return Scores(self.score(features).squeeze(1), features)

    @staticmethod
    def joined(values: Tensor, condition: Tensor) -> Tensor:
        """Values with their condition as further numbers, or constant channels, behind them."""
        planes = condition.view(*condition.shape, *[1] * (values.dim() - 2))
        return torch.cat([values, planes.expand(-1, -1, *values.shape[2:])], 1)


def he_(module: nn.Module) -> None:
    """Initialise linear layers as He et al. 2015: N(0, 2 / fan_in), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def chain(layers: Sequence[nn.Module]) -> nn.Sequential:
    """The layers in order, without the identities."""
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
