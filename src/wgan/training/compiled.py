"""Losses as compiled functions, where torch can compile them.

A loss is compiled with its penalties, whose slopes come from `torch.func.grad` inside the function,
so that one backward is left to differentiate; torch compiles that too. Everything random is an
argument. Who cannot be compiled runs eagerly, and says why.

Where the critic's gradient is written out by hand (:mod:`wgan.training.chain`), that is compiled in
the place of its loss.
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from wgan.constraints import SpectralNormalisation
from wgan.constraints.slopes import SlopePenalty
from wgan.training.method import Method

Result = TypeVar("Result")

COMPILING_SECONDS = 60.0  # both losses on a busy pair of cores; half of it on idle ones


# Runs in one process would otherwise count as one function that is compiled again and again.
_ALONE: dict[str, Any] = (
    {"isolate_recompiles": True}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters
    else {}
)

_SPECTRAL = "spectral norms iterate within it"


class Compiled:
    """The compiled losses of one run.

    Args:
        method: Of the run.
        backend: Of `torch.compile`; "aot_eager" traces as "inductor" does and generates no code.

    Attributes:
        refused: Why a player's loss is not compiled, by player; known after its first update.
        by_hand: Whether what is compiled of the critic is its gradient as written out by hand; None
            until its first update.
    """

    def __init__(self, method: Method, backend: str = "inductor") -> None:
        self.backend = backend
        self.refused: dict[str, str] = {}
        self.by_hand: bool | None = None
        self._functions: dict[str, Callable[..., Any]] = {}
        for constraint in method.constraints:
            if isinstance(constraint, SlopePenalty) and constraint.interval > 1:
                self.refused["critic"] = f"`{constraint.name}` is not in every step"
            if isinstance(constraint, SpectralNormalisation):
                self.refused["critic"] = _SPECTRAL
        if any(isinstance(c, SpectralNormalisation) for c in method.generator_constraints):
            self.refused["generator"] = _SPECTRAL
        if backend == "inductor" and not has_compiler():
            why = "there is no C++ compiler"
            self.refused = {"critic": why, "generator": why}

    def __call__(self, player: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """What a function gives: compiled from its first call on, or else as it is.

        Args:
            player: Whose loss it is; the same function in every call.
            function: Of tensors alone, but for what it closes over.
            arguments: Its own.
        """
        if player in self.refused:
            return function(*arguments)
        if player in self._functions:
            found: Result = self._functions[player](*arguments)
            return found
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException  # slow

        compiled = torch.compile(
            function, backend=self.backend, fullgraph=True, dynamic=False, **_ALONE
        )
        try:
            found = compiled(*arguments)
        # Of the tracer, of what a backend's compiler says, or of many runs in one process.
        except (FailOnRecompileLimitHit, TorchDynamoException) as error:
            self.refused[player] = _reason(error)
            return function(*arguments)
        self._functions[player] = compiled
        return found

    def describe(self) -> dict[str, str]:
        """What is compiled, and what is not and why, for the card."""
        players = {**dict.fromkeys(self._functions, "compiled"), **self.refused}
        return {player: players[player] for player in sorted(players)}


def has_compiler() -> bool:
    """Whether the C++ compiler that torch would call is here."""
    return any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++"))))


def _reason(error: Exception) -> str:
    """The line of an error that says most: the second where the first names its backend."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith("raised:"):
        return lines[1]
    return lines[0] if lines else type(error).__name__
