"""Networks built from the data's shape, by name.

`dcgan` has batch norm in its published form; `dcgan-constant` is the same with one number of
filters throughout and, as published, no batch norm. `autoencoder` (mean absolute error) and
`autoencoder-l2` (mean squared error) are critics that score by reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import nn

from wgan.errors import UnknownNameError
from wgan.networks.autoencoder import autoencoder_critic
from wgan.networks.base import NORMS, CriticNetwork, Generator, NetworkSpec, Shapes
from wgan.networks.dcgan import dcgan_critic, dcgan_generator
from wgan.networks.mlp import mlp_critic, mlp_generator


class CriticBuilder(Protocol):
    """Builds a critic for the data's shape."""

    def __call__(
        self, spec: NetworkSpec, shapes: Shapes, features: int | None = None
    ) -> nn.Module: ...


GENERATORS: dict[str, Callable[[NetworkSpec, Shapes], nn.Module]] = {
    "mlp": mlp_generator,
    "dcgan": dcgan_generator,
    "dcgan-constant": partial(dcgan_generator, constant=True),
}
CRITICS: dict[str, CriticBuilder] = {
    "mlp": mlp_critic,
    "dcgan": dcgan_critic,
    "dcgan-constant": partial(dcgan_critic, constant=True),
    "autoencoder": autoencoder_critic,
    "autoencoder-l2": partial(autoencoder_critic, power=2),
}


def make_generator(name: str, spec: NetworkSpec, shapes: Shapes, seed: int) -> nn.Module:
    """A freshly initialised generator; the same seed gives the same weights.

    Raises:
        UnknownNameError: No such network.
        UserError: The network cannot fit the shape.
    """
    if name not in GENERATORS:
        raise UnknownNameError("network", name, GENERATORS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GENERATORS[name](spec, shapes)


def make_critic(
    name: str, spec: NetworkSpec, shapes: Shapes, seed: int, features: int | None = None
) -> nn.Module:
    """A freshly initialised critic; the same seed gives the same weights. Raises as above."""
    if name not in CRITICS:
        raise UnknownNameError("network", name, CRITICS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CRITICS[name](spec, shapes, features)


__all__ = [
    "CRITICS",
    "GENERATORS",
    "NORMS",
    "CriticBuilder",
    "CriticNetwork",
    "Generator",
    "NetworkSpec",
    "Shapes",
    "make_critic",
    "make_generator",
]
