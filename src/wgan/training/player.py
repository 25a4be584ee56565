"""One of the two players: a network, what moves it, and how both become tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wgan.training.chain import Chain
from wgan.training.optimizers import OptimizerSpec


@dataclass
class Player:
    """A network and the optimizer that moves it.

    Attributes:
        module: The network.
        optimizer: Over `parameters`.
        spec: What the optimizer was built from.
        slow: The slow weights of lookahead, one for each of `parameters`; None without it.
        parameters: The weights that training moves.
        chain: The network as a chain, where it is one.
    """

    module: nn.Module
    optimizer: Optimizer
    spec: OptimizerSpec
    slow: list[Tensor] | None = None
    parameters: list[Tensor] = field(init=False)
    chain: Chain | None = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.chain = Chain.of(self.module)

    @classmethod
    def of(cls, module: nn.Module, spec: OptimizerSpec, *, lookahead: bool = False) -> Player:
        """A player with a fresh optimizer, its slow weights where it stands."""
        moved = [p for p in module.parameters() if p.requires_grad]
        slow = [p.detach().clone() for p in moved] if lookahead else None
        return cls(module, spec.build(moved), spec, slow)

    def move(self, progress: float) -> None:
        """One update by the gradients that are set, as the schedule has it at this point."""
        scheduled = self.spec.at(progress)
        for group in self.optimizer.param_groups:
            group.update(scheduled)
        self.optimizer.step()

    @torch.no_grad()
    def look_back(self, share: float) -> None:
        """Move the slow weights by `share` of the way to the fast ones, which go back to them."""
        assert self.slow is not None
        torch._foreach_lerp_(self.slow, self.parameters, share)
        torch._foreach_copy_(self.parameters, self.slow)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the player by name."""
        found = prefixed("module", self.module.state_dict())
        for index, slots in self.optimizer.state_dict()["state"].items():
            found |= prefixed(f"optimizer.{index}", slots)
        return found | {f"slow.{i}": tensor for i, tensor in enumerate(self.slow or ())}

    def plain(self) -> list[dict[str, Any]]:
        """The options of the optimizer's groups, as plain data."""
        groups = self.optimizer.param_groups
        return [{k: v for k, v in group.items() if k != "params"} for group in groups]

    def load(self, tensors: Mapping[str, Tensor], plain: list[dict[str, Any]]) -> None:
        """Continue from what :meth:`tensors` and :meth:`plain` gave, to the bit."""
        self.module.load_state_dict(under(tensors, "module"))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in under(tensors, "optimizer").items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = tensor
        self._check(slots)
        for number, own in slots.items():
            for name, moment in own.items():
                if moment.ndim:  # laid out like its parameter: fused updates go by memory's order
                    own[name] = torch.empty_like(self.parameters[number]).copy_(moment)
        current = self.optimizer.state_dict()
        for group, saved in zip(current["param_groups"], plain, strict=True):
            for name, value in saved.items():
                new = tuple(value) if isinstance(value, list) else value
                if name not in group or not _alike(new, group[name]):
                    raise ValueError(f"optimizer option `{name}` is {value!r}")
                group[name] = new
        self.optimizer.load_state_dict({**current, "state": slots})
        for i, tensor in enumerate(self.slow or ()):
            tensor.copy_(tensors[f"slow.{i}"])

    def _check(self, slots: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Raise `ValueError` for an optimizer's memory that is not of these parameters."""
        one = torch.zeros(1, requires_grad=True)
        one.grad = torch.zeros(1)
        like = self.spec.build([one])
        like.step()
        names = {name for name, slot in like.state[one].items() if isinstance(slot, Tensor)}
        for index, own in slots.items():
            shape = self.parameters[index].shape
            if own.keys() != names or any(t.ndim and t.shape != shape for t in own.values()):
                raise ValueError(f"the optimizer's memory of parameter {index} is not of its shape")


def _alike(new: object, old: object) -> bool:
    """Whether two options of an optimizer are of one kind."""
    if isinstance(old, tuple):
        return isinstance(new, tuple) and len(new) == len(old) and all(map(_alike, new, old))
    if isinstance(old, (int, float)) and not isinstance(old, bool):
        return isinstance(new, (int, float)) and not isinstance(new, bool) and math.isfinite(new)
    return new is None if old is None else isinstance(new, type(old))


def prefixed(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors among the values, under ``prefix.name``."""
    return {f"{prefix}.{name}": t for name, t in tensors.items() if isinstance(t, Tensor)}


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The inverse of :func:`prefixed`: what lies under a prefix, without it."""
    prefix += "."
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}
