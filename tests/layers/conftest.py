from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Explicit = Callable[[nn.Module, tuple[int, ...]], Tensor]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def explicit() -> Explicit:
    """The matrix of an affine layer, its float32 weight as it stands, applied in float64."""

    def matrix(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
        plain = deepcopy(layer).eval()
        if parametrize.is_parametrized(plain):
            weight = plain.weight
            assert isinstance(weight, Tensor)
            # Not `remove_parametrizations`: it would spoil the class that the original shares.
            plain.__class__ = type(plain).__bases__[0]
            del plain._modules["parametrizations"]
            plain.weight = nn.Parameter(weight.detach())
        plain.double()
        size = torch.Size(shape).numel()
        unit = torch.eye(size, dtype=torch.float64).view(size, *shape)
        with torch.no_grad():
            columns: Tensor = plain(unit) - plain(torch.zeros_like(unit[:1]))
        return columns.flatten(1).mT

    return matrix
