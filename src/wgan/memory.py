"""What a run will need of memory, found from dry steps of a few samples before it starts.

After every operation of such a step the bytes that are alive are written down, for three small
batches; as the operations are the same at any batch, each count is a polynomial of the batch, of
degree two where samples are compared in pairs. Its largest value at the run's own batch is the
peak, whichever operation it falls on. What libraries take beside it is allowed for by `ALLOWANCE`.
"""

from __future__ import annotations

import dataclasses
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wgan.build import build_state
from wgan.config import Config
from wgan.data.base import Source
from wgan.errors import NonFiniteError, UserError
from wgan.files import free_bytes
from wgan.training import TrainState, ranks, train
from wgan.transport.cost import as_for_larger

ALLOWANCE = 1.4
"""Measured on DCGANs and MLPs: what allocators and kernels take beside the tensors."""
PAIRS_ALLOWANCE = 1.15
"""The same of matrices over pairs of samples."""

_BESIDE = 64 << 20  # bytes that libraries take of their own
_MAPPED = 32 << 20  # bytes of a block from which on the C library gives it back when it is freed
_KEPT_SHARE, _KEPT_MOST = 1.5, 600 << 20
"""What it keeps of smaller ones, as a share of what was alive at most, and at most. Measured with
`cramer`, `mmd` and `energy` at batches of 256 to 4,096: this is 1.05 to 2.4 times what they took.
"""

_EXHAUSTED = ("DefaultCPUAllocator", "could not create a memory")
"""In the text of errors that have no type of their own."""

_SMALL = (4, 6, 8)
_TOGETHER = 10  # batches for the critic that are in memory at once
_SAFE = 0.25  # share of what is free up to which a bound is enough


class Need(NamedTuple):
    """What a run takes.

    Attributes:
        fixed: Bytes of networks and optimizers, and of a checkpoint while it is written.
        at: Peak bytes of a step, by the batch of the critic.
    """

    fixed: int
    at: Callable[[int], float]


def refuse_what_does_not_fit(
    config: Config,
    source: Source,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> None:
    """Raise `UserError` if the run needs more memory than is free.

    In a group of processes only the networks are considered: a step of one waits for the others.

    Args:
        config: The run.
        source: Its data, of which a few samples are read.
        generator, critic: The user's own networks; copies are trained.
    """
    free = free_on(config.device)
    need = needed(config, source, free, generator, critic)
    if need is None:
        return
    batch = part_of_batch(config)
    step = need.at(batch)
    if max(step, need.fixed) <= free:
        return
    said = f"and {_gib(free)} are free{' on the GPU' if config.device == 'cuda' else ''}"
    if need.fixed > free or need.at(_SMALL[0]) > free:
        raise UserError(
            f"the networks, their optimizers and averages need about "
            f"{_gib(max(need.fixed, need.at(_SMALL[0])))}, {said}; use a smaller --width"
        )
    low, high = _SMALL[0], batch
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if need.at(middle) <= free else (low, middle)
    raise UserError(
        f"a step needs about {_gib(step)} with `batch_size` {config.hyper.batch_size}, {said}; use "
        f"--batch-size {low * config.accumulate} or less, split it with --accumulate, or a smaller "
        "--width"
    )


def ran_out(error: BaseException) -> bool:
    """Whether an error of Python, torch or oneDNN says that there was no memory to be had."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _EXHAUSTED)


def free_on(device: str) -> int:
    """Bytes that may still be taken where the networks are trained."""
    return int(torch.cuda.mem_get_info()[0]) if device == "cuda" else free_bytes()


def part_of_batch(config: Config) -> int:
    """Samples of the critic's batch that are in memory at once."""
    return -(-config.hyper.batch_size // config.accumulate)


def needed(
    config: Config,
    source: Source,
    free: float,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> Need | None:
    """What the run needs; None where a rough bound is well below `free`, or a step fails.

    Args:
        config, source, generator, critic: As above.
        free: Bytes; less than that need not be found exactly.
    """
    whole = dataclasses.replace(config, compile="off", accumulate=1)
    state = build_state(whole, source, deepcopy(generator), deepcopy(critic))
    players = [state.generator] if state.critic is None else [state.generator, state.critic]
    weights = sum(_bytes(player.parameters) for player in players)
    fixed = _held(config) * weights
    nothing = Need(fixed, lambda batch: float(fixed))
    if fixed > free or ranks.world() > 1:
        return nothing
    batch = part_of_batch(config)
    sizes = _SMALL if batch > max(_SMALL) else (batch,)
    try:
        _traced(state, config, sizes[0], source)  # a first one makes what later ones have
        traces = [_traced(state, config, sizes[0], source, batch)]
        kept = float(min(traces[0]))
        most = kept + (max(traces[0]) - kept) * (batch / sizes[0]) ** 2
        if ALLOWANCE * max(most, fixed) < _SAFE * free:
            return None
        traces += [_traced(state, config, size, source, batch) for size in sizes[1:]]
    except NonFiniteError:
        return None  # the run itself will say so
    written = 0 if config.device == "cuda" else 2 * _bytes(state.tensors().values())
    fixed = int(max(fixed, kept + written))
    own = _peak(sizes, traces)

    @cache
    def at(other: int) -> float:
        if other == batch or len(sizes) == 1:
            return own(other)
        try:  # pairs are compared in another way at another batch
            return _peak(sizes, [_traced(state, config, s, source, other) for s in sizes])(other)
        except NonFiniteError:
            return math.inf

    return Need(fixed, at)


def _held(config: Config) -> int:
    """Copies of the weights that stay: themselves, gradients, moments, an average, slow ones."""
    hyper = config.hyper
    moments = {"sgd": 1, "rmsprop": 1}.get(hyper.optimizer, 2)
    return 2 + moments + bool(hyper.average) + (hyper.lookahead_every is not None)


def _traced(
    state: TrainState, config: Config, size: int, source: Source, batch: int | None = None
) -> list[int]:
    """Bytes alive after each operation of a step with a batch of `size`, done as one of `batch`."""
    hyper = config.hyper
    ratio = (hyper.generator_batch_size or hyper.batch_size) / hyper.batch_size
    state.method = dataclasses.replace(
        state.method,
        batch_size=size,
        generator_batch_size=max(2, round(size * ratio)),
        n_critic=min(_TOGETHER, _TOGETHER if hyper.warmup else state.method.n_critic),
        n_critic_max=None,
        warmup=False,
    )
    alive = _Alive()
    alive.add(state.tensors().values())
    with alive, as_for_larger((batch or size) / size):
        for _ in train(state, source, until=state.step + 1):
            pass
    return alive.trace


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are alive, after every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace: list[int] = []
        self._bytes = 0
        self._known: set[int] = set()

    def add(self, tensors: Iterable[object]) -> None:
        """Take in tensors that may be new."""
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self._known:
                self._known.add(key)
                self._bytes += size
                weakref.finalize(storage, self._drop, key, size).atexit = False

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._bytes -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.add(tree_leaves((args, kwargs)))
        out = func(*args, **kwargs)
        self.add(tree_leaves(out))
        self.trace.append(self._bytes)
        return out


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _gib(count: float) -> str:
    return f"{count / 2**30:.3g} GiB"


def _peak(sizes: Sequence[int], traces: Sequence[Sequence[int]]) -> Callable[[int], float]:
    """The peak by the batch, from the bytes alive after each operation at some batches."""
    if len({len(trace) for trace in traces}) > 1:  # other operations at other batches
        traces = [[max(trace)] for trace in traces]
    seen = np.array(traces, dtype=np.float64)
    if len(sizes) == 1:
        return lambda batch: ALLOWANCE * float(seen.max()) + _BESIDE
    a, b, c = sizes
    first, second = (seen[1] - seen[0]) / (b - a), (seen[2] - seen[1]) / (c - b)
    bend = np.maximum(0.0, (second - first) / (c - a))

    def at(batch: int) -> float:
        straight = seen[0] + first * (batch - a)
        pairs = bend * (batch - a) * (batch - b)
        alive = float((ALLOWANCE * straight + PAIRS_ALLOWANCE * pairs).max())
        blocks = batch**2 * torch.float32.itemsize
        kept = min(_KEPT_SHARE * float(pairs.max()), _KEPT_MOST) if blocks < _MAPPED else 0.0
        return alive + kept + _BESIDE

    return at
