"""Networks built from the data's shape, by name.

`dcgan` has batch norm in its published form; `dcgan-constant` is the same with one number of
filters throughout and, as published, no batch norm. `resnet` has as many residual blocks as its
depth says. `autoencoder` (mean absolute error) and
`autoencoder-l2` (mean squared error) are critics that score by reconstruction.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from wgan.errors import UnknownNameError, UserError
from wgan.files import memory_bytes
from wgan.networks.autoencoder import autoencoder_critic
from wgan.networks.base import NORMS, CriticNetwork, Generator, NetworkSpec, Shapes
from wgan.networks.dcgan import dcgan_critic, dcgan_generator
from wgan.networks.mlp import mlp_critic, mlp_generator
from wgan.networks.resnet import resnet_critic, resnet_generator


class CriticBuilder(Protocol):
    """Builds a critic for the data's shape."""

    def __call__(
        self, spec: NetworkSpec, shapes: Shapes, features: int | None = None
    ) -> nn.Module: ...


GENERATORS: dict[str, Callable[[NetworkSpec, Shapes], nn.Module]] = {
    "mlp": mlp_generator,
    "dcgan": dcgan_generator,
    "dcgan-constant": partial(dcgan_generator, constant=True),
    "resnet": resnet_generator,
}
CRITICS: dict[str, CriticBuilder] = {
    "mlp": mlp_critic,
    "dcgan": dcgan_critic,
    "dcgan-constant": partial(dcgan_critic, constant=True),
    "resnet": resnet_critic,
    "autoencoder": autoencoder_critic,
    "autoencoder-l2": partial(autoencoder_critic, power=2),
}
_OWN = {*GENERATORS, *CRITICS}
_COPIES = 5  # weights, gradients, two moments, a running average


def make_generator(name: str, spec: NetworkSpec, shapes: Shapes, seed: int) -> nn.Module:
    """A freshly initialised generator; the same seed gives the same weights.

    Raises:
        UnknownNameError: No such network.
        UserError: The network cannot fit the shape.
    """
    if name not in GENERATORS:
        raise UnknownNameError("network", name, GENERATORS)
    return _made(name, lambda: GENERATORS[name](spec, shapes), seed)


def make_critic(
    name: str, spec: NetworkSpec, shapes: Shapes, seed: int, features: int | None = None
) -> nn.Module:
    """A freshly initialised critic; the same seed gives the same weights. Raises as above."""
    if name not in CRITICS:
        raise UnknownNameError("network", name, CRITICS)
    return _made(name, lambda: CRITICS[name](spec, shapes, features), seed)


class _Unfilled(TorchFunctionMode):
    """Leaves out random initialisation, which has no meaning for shapes alone and takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _made(name: str, build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network, once it is known to fit into memory if it is one of our own."""
    with torch.random.fork_rng(devices=[]):
        if name in _OWN:
            try:
                with torch.device("meta"), _Unfilled():
                    size = sum(p.numel() * p.element_size() for p in build().parameters())
            except (RuntimeError, OverflowError, TypeError):  # more than torch can count
                size = sys.maxsize
            if _COPIES * size > memory_bytes():
                raise UserError(
                    f"network `{name}` is too large to train: with its gradients, averages and "
                    f"moments it takes {_COPIES * size / 2**30:.3g} GiB, and this machine has "
                    f"{memory_bytes() / 2**30:.3g}; use a smaller width or latent"
                )
        torch.manual_seed(seed)
        return build()


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
