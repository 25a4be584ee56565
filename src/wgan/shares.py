"""Which rows of a batch are this pass's own: a step is shared out among processes and parts.

Processes (*ranks*) work at the same time, the parts of ``accumulate`` one after another. Either
way what is random is drawn for the whole batch and everyone takes its own rows, and the gradient is
the mean of the gradients of the shares. A loss that is a mean over samples needs nothing more. What
compares samples with one another, or is no linear function of a mean, asks for :func:`whole`.

With one process and one part every function here gives back what it got.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from wgan.errors import RankLostError, UserError


@dataclass(frozen=True)
class Share:
    """One of equal, adjacent shares of a batch.

    Attributes:
        index: Which one, from 0.
        of: How many there are.
        ranks: How many processes they are spread over; each has ``of / ranks``, in turn.
    """

    index: int = 0
    of: int = 1
    ranks: int = 1

    def part(self, index: int, of: int) -> Share:
        """A part of this share."""
        return Share(self.index * of + index, self.of * of, self.ranks)

    def rows(self, count: int) -> slice:
        """The share's rows of a batch of `count` rows."""
        size = count // self.of
        return slice(self.index * size, (self.index + 1) * size)

    def whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the whole batch, from that of the share."""
        return (shape[0] * self.of, *shape[1:])


_shares = [Share()]


def current() -> Share:
    """The share that passes work on now; outside of a training step: all."""
    return _shares[-1]


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """A context whose passes see a share of the batch."""
    _shares.append(share)
    try:
        yield
    finally:
        _shares.pop()


def whole(rows: Tensor, name: str) -> Tensor:
    """The rows ``[n, ...]`` of every share, in the order of the batch; differentiable twice.

    Args:
        rows: This share's.
        name: What needs them all, for the message.

    Raises:
        UserError: The shares come one after another, so that there are no others yet.
    """
    share = current()
    if share.of == 1:
        return rows
    if share.of != share.ranks:
        raise UserError(
            f"`accumulate` trains on a part of a batch at a time, and `{name}` looks at all of it "
            "at once; leave `accumulate` out, or take a smaller batch"
        )
    _refuse_tracing()
    found: Tensor = _Whole.apply(rows)  # type: ignore[no-untyped-call]
    return found


def summed(values: Tensor) -> Tensor:
    """The sum of a tensor over the processes; differentiable."""
    if current().ranks == 1:
        return values
    _refuse_tracing()
    found: Tensor = _Summed.apply(values)  # type: ignore[no-untyped-call]
    return found


@contextmanager
def reaching() -> Iterator[None]:
    """A context in which a process that has gone becomes one line."""
    try:
        yield
    except RuntimeError as error:
        raise RankLostError(str(error)) from error


def _refuse_tracing() -> None:
    if torch.compiler.is_compiling():
        raise RuntimeError("it exchanges numbers with other processes")


# The processes' losses add up, so a gradient here is one of the sum of them all: what reaches a
# tensor that everyone has is what reaches its owner, summed.


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(current().ranks)]
        with reaching():
            distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        found: Tensor = _Own.apply(gradient)  # type: ignore[no-untyped-call]
        return found


class _Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.clone(memory_format=torch.contiguous_format)
        with reaching():
            distributed.all_reduce(rows)
        return rows[current().rows(len(rows))].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        found: Tensor = _Whole.apply(gradient)  # type: ignore[no-untyped-call]
        return found


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone(memory_format=torch.contiguous_format)
        with reaching():
            distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        found: Tensor = _Summed.apply(gradient)  # type: ignore[no-untyped-call]
        return found
