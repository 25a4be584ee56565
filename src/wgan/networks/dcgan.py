"""Convolutional networks after DCGAN, for series, pictures and volumes of any size."""

from __future__ import annotations

import math

from torch import Tensor, nn

from wgan.errors import UserError
from wgan.layers.dropout import Dropout
from wgan.layers.thin import ThinConvTranspose2d
from wgan.networks.base import CriticNetwork, Generator, NetworkSpec, Shapes, chain

CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_BATCH_NORM: dict[int, type[nn.Module]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
_SMALLEST = 4  # the side at which halving stops, as in the paper


class Crop(nn.Module):
    """Cut the middle of the given size out of the last axes."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size

    def forward(self, values: Tensor) -> Tensor:
        for axis, size in enumerate(self.size, start=2):
            values = values.narrow(axis, (values.shape[axis] - size) // 2, size)
        return values


def norm_layer(name: str, channels: int, dims: int) -> nn.Module:
    """The normalisation called `name` for a grid of so many axes; none is the identity."""
    if name == "batch":
        return _BATCH_NORM[dims](channels)
    if name == "layer":  # over channels and space of one sample; the affine part per channel
        return nn.GroupNorm(1, channels)
    return nn.Identity()


def halvings(network: str, shapes: Shapes) -> int:
    """How often the smallest side is halved: 64 -> 4 four times, 28 -> 7 twice, 8 -> 4 once."""
    if len(shapes.shape) not in (2, 3, 4):
        raise UserError(
            f"network `{network}` needs a series, pictures or volumes, and the data's samples have "
            f"shape {shapes.shape}; use --network mlp"
        )
    smallest = min(shapes.shape[1:])
    if smallest < _SMALLEST:
        raise UserError(
            f"network `{network}` needs sides of at least {_SMALLEST}, got {shapes.shape[1:]}; "
            "use --network mlp"
        )
    return max(1, int(math.log2(smallest / _SMALLEST) + 1e-9))


def _normal_(module: nn.Module) -> None:
    """Initialise as Radford et al. 2015: weights N(0, .02), norms' gains N(1, .02), biases 0."""
    for layer in module.modules():
        if isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.Linear, *CONVOLUTIONS.values(), *_TRANSPOSED.values())):
            weight, bias = layer.weight, layer.bias
            assert isinstance(weight, Tensor)
            nn.init.normal_(weight, 0.0, 0.02)
            if isinstance(bias, Tensor):
                nn.init.zeros_(bias)


def _widths(spec: NetworkSpec, stages: int, constant: bool) -> list[int]:
    """Channels from the picture inwards."""
    return [spec.width * (1 if constant else 2**stage) for stage in range(stages)]


def dcgan_generator(spec: NetworkSpec, shapes: Shapes, *, constant: bool = False) -> nn.Module:
    """A linear layer to the smallest grid, then 4-wide transposed convolutions that double it.

    Channels halve from ``width * 2^(stages - 1)`` to `width` (`constant`: stay `width`). A size
    that is not the smallest grid times a power of two is cut out of the middle of a larger one.

    Source: Radford et al. 2015; `constant`: Arjovsky et al. 2017, figure 6.
    """
    stages, dims = halvings("dcgan", shapes), len(shapes.shape) - 1
    widths = _widths(spec, stages, constant)
    grid = tuple(math.ceil(side / 2**stages) for side in shapes.shape[1:])
    biased = spec.norm == "none"  # a norm's own shift makes the bias before it idle
    layers: list[nn.Module] = [
        nn.Linear(shapes.latent + shapes.condition, widths[-1] * math.prod(grid), bias=biased),
        nn.Unflatten(1, (widths[-1], *grid)),
        norm_layer(spec.norm, widths[-1], dims),
        nn.ReLU(),
    ]
    for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):
        layers += [
            _TRANSPOSED[dims](wide, narrow, 4, 2, 1, bias=biased),
            norm_layer(spec.norm, narrow, dims),
            nn.ReLU(inplace=True),
        ]
    last = ThinConvTranspose2d if dims == 2 else _TRANSPOSED[dims]
    layers += [last(widths[0], shapes.shape[0], 4, 2, 1), Crop(shapes.shape[1:])]
    body = chain(layers)
    _normal_(body)
    return Generator(body, shapes)


def dcgan_critic(
    spec: NetworkSpec,
    shapes: Shapes,
    features: int | None = None,
    *,
    constant: bool = False,
) -> nn.Module:
    """4-wide convolutions of stride 2 with leaky ReLU (.2) down to the smallest grid, one score.

    The first layer has no norm and no dropout. Source: as :func:`dcgan_generator`.
    """
    stages, dims = halvings("dcgan", shapes), len(shapes.shape) - 1
    widths = _widths(spec, stages, constant)
    layers: list[nn.Module] = []
    inputs = shapes.shape[0] + shapes.condition
    for stage, width in enumerate(widths):
        norm = spec.norm if stage else "none"
        layers += [
            CONVOLUTIONS[dims](inputs, width, 4, 2, 1, bias=norm == "none"),
            norm_layer(norm, width, dims),
            nn.LeakyReLU(0.2, inplace=True),
        ]
        if spec.dropout and stage:
            layers.append(Dropout(spec.dropout))
        inputs = width
    body = chain([*layers, nn.Flatten()])
    hidden = inputs * math.prod(side >> stages for side in shapes.shape[1:])  # halved by each stage
    critic = CriticNetwork(body, hidden, shapes, features)
    _normal_(critic)
    return critic
