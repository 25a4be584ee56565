"""The multilayer perceptron, for data of any shape."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from wgan.layers.dropout import Dropout
from wgan.networks.base import CriticNetwork, Generator, NetworkSpec, Shapes, chain, he_

_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda width: nn.Identity(),
    "layer": nn.LayerNorm,
    "batch": nn.BatchNorm1d,
}


def _hidden(inputs: int, spec: NetworkSpec, dropout: float = 0.0) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(spec.depth):
        layers += [nn.Linear(inputs, spec.width), _NORMS[spec.norm](spec.width), nn.ReLU()]
        if dropout:
            layers.append(Dropout(dropout))
        inputs = spec.width
    return layers


def mlp_generator(spec: NetworkSpec, shapes: Shapes) -> nn.Module:
    """`depth` hidden ReLU layers of `width` units, then a linear layer; He initialisation.

    Source: Arjovsky et al. 2017, section 4 (4 layers, 512 hidden units); Gulrajani et al. 2017.
    """
    last = nn.Linear(spec.width, shapes.numbers)
    body = chain([*_hidden(shapes.latent + shapes.condition, spec), last])
    he_(body)
    if shapes.bounded:  # start inside tanh's linear range, so that no pixel is born saturated
        with torch.no_grad():
            last.weight.mul_(0.5)
    return Generator(body, shapes)


def mlp_critic(spec: NetworkSpec, shapes: Shapes, features: int | None = None) -> nn.Module:
    """`depth` hidden ReLU layers of `width` units on the flat sample, then one score."""
    flat_condition = shapes.condition
    if len(shapes.shape) > 1:  # a condition enters as constant planes, flattened with the rest
        flat_condition *= shapes.numbers // shapes.shape[0]
    body = chain([nn.Flatten(), *_hidden(shapes.numbers + flat_condition, spec, spec.dropout)])
    critic = CriticNetwork(body, spec.width, shapes, features)
    he_(critic)
    return critic
