"""Residual networks of any depth, for series, pictures and volumes of any size."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from wgan.networks.base import CriticNetwork, Generator, NetworkSpec, Shapes, chain
from wgan.networks.dcgan import CONVOLUTIONS, Crop, halvings, norm_layer

_POOLS: dict[int, type[nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


class Residual(nn.Module):
    """``v + share * branch(v)``."""

    def __init__(self, branch: nn.Module, share: float) -> None:
        super().__init__()
        self.branch = branch
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = values + self.share * self.branch(values)
        return out


class _Mean(nn.Module):
    """The mean over space, ``[batch, c, *space]`` to ``[batch, c]``."""

    def forward(self, values: Tensor) -> Tensor:
        return values.flatten(2).mean(2)


def _block(spec: NetworkSpec, dims: int) -> nn.Module:
    """A bottleneck with norm and ReLU before each convolution: 1, 3 and 1 wide."""
    width, inner = spec.width, max(1, spec.width // 2)
    layers: list[nn.Module] = []
    for inputs, outputs, kernel in ((width, inner, 1), (inner, inner, 3), (inner, width, 1)):
        layers += [
            norm_layer(spec.norm, inputs, dims),
            nn.ReLU(),
            CONVOLUTIONS[dims](inputs, outputs, kernel, padding=kernel // 2),
        ]
    return Residual(chain(layers), spec.depth**-0.5)


def _blocks(spec: NetworkSpec, dims: int, halvings: int, between: nn.Module) -> list[nn.Module]:
    """All blocks, spread evenly over the grids; `between` goes from a grid to the next."""
    layers: list[nn.Module] = []
    for k, part in enumerate(np.array_split(np.arange(spec.depth), halvings + 1)):
        if k:
            layers.append(between)
        layers += [_block(spec, dims) for _ in part]
    return layers


def _he_(module: nn.Module) -> None:
    """Initialise linear layers and convolutions as He et al. 2015, biases 0."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, *CONVOLUTIONS.values())):
            weight, bias = layer.weight, layer.bias
            assert isinstance(weight, Tensor)
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            if isinstance(bias, Tensor):
                nn.init.zeros_(bias)


def resnet_generator(spec: NetworkSpec, shapes: Shapes) -> nn.Module:
    """A linear layer to the smallest grid, `depth` residual blocks with doublings between them.

    Each block has three convolutions, so that ``3 depth + 2`` layers have weights: 33 blocks make
    the 101 of Gulrajani et al. All have `width` channels, half of them inside a block. A doubling
    repeats each entry. A block adds ``depth^(-1/2)`` of its branch, so that at the start neither
    values nor gradients grow with the depth, whatever the norm; the paper adds a fixed share.

    Source: Gulrajani et al. 2017, section 5.1; blocks as He et al. 2016, identity mappings.
    """
    stages, dims = halvings("resnet", shapes), len(shapes.shape) - 1
    grid = tuple(math.ceil(side / 2**stages) for side in shapes.shape[1:])
    body = chain(
        [
            nn.Linear(shapes.latent + shapes.condition, spec.width * math.prod(grid)),
            nn.Unflatten(1, (spec.width, *grid)),
            *_blocks(spec, dims, stages, nn.Upsample(scale_factor=2)),
            norm_layer(spec.norm, spec.width, dims),
            nn.ReLU(),
            CONVOLUTIONS[dims](spec.width, shapes.shape[0], 3, padding=1),
            Crop(shapes.shape[1:]),
        ]
    )
    _he_(body)
    return Generator(body, shapes)


def resnet_critic(spec: NetworkSpec, shapes: Shapes, features: int | None = None) -> nn.Module:
    """A convolution, `depth` residual blocks with averages of 2 between them, the mean, one score.

    ``3 depth + 2`` layers, see :func:`resnet_generator`. Without a norm its slope can be certified.
    """
    stages, dims = halvings("resnet", shapes), len(shapes.shape) - 1
    body = chain(
        [
            CONVOLUTIONS[dims](shapes.shape[0] + shapes.condition, spec.width, 3, padding=1),
            *_blocks(spec, dims, stages, _POOLS[dims](2)),
            norm_layer(spec.norm, spec.width, dims),
            nn.ReLU(),
            _Mean(),
        ]
    )
    critic = CriticNetwork(body, spec.width, shapes, features)
    _he_(critic)
    return critic
