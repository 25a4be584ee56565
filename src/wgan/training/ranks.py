"""Training with several processes: who they are, and how they come to the same decisions.

`torchrun` starts the processes (*ranks*), tells each by its environment which one it is, and brings
them together; torch's own backends carry the numbers, gloo for tensors on a CPU and NCCL for those
on GPUs. Every rank holds the same weights, optimizers and random state. Rank 0 decides, writes and
speaks; the others follow at the boundary of a step, so that no one waits for who has gone.

With one process nothing is set up and nothing sent.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from wgan.errors import RankLostError, RunFailedError, UserError
from wgan.shares import Share, reaching
from wgan.training.state import TrainState

Result = TypeVar("Result")

STEP_TIMEOUT = timedelta(minutes=10)
"""For what is exchanged within a step."""

WAITING_TIMEOUT = timedelta(hours=3)
"""For what rank 0 does while the others wait: audits, checkpoints, reading of data."""

GO, STOP, FINISH, TAKE = 0, 1, 2, 3
"""What a rank wants at a step's boundary; the largest counts. TAKE: rank 0's changed state."""

_waiting: Any = None
_silent = False  # rank 0 says why the run ends


def rank() -> int:
    """This process's number; 0 decides, writes and speaks."""
    return distributed.get_rank() if _waiting is not None else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _waiting is not None else 1


def join() -> None:
    """Meet the processes that `torchrun` started together with this one, if it did; once.

    Raises:
        UserError: There are fewer GPUs here than processes; torchrun could not start them again.
        RankLostError: The others cannot be reached.
    """
    global _waiting
    if _waiting is not None or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    if restarts() and int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1 and _shares_store():
        raise UserError(
            "torchrun --max-restarts on several machines would wait forever for processes that "
            "have gone (pytorch issue 135712); start it with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 "
            "in its environment, on each machine"
        )
    backend = "gloo"
    if torch.cuda.is_available():
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(
                f"process {local + 1} of this machine finds {torch.cuda.device_count()} GPUs; "
                "start one process for each: torchrun --nproc-per-node gpu"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    with reaching():
        if not distributed.is_initialized():
            store, number, count = next(rendezvous("env://", timeout=STEP_TIMEOUT))
            # torchrun's store keeps the addresses of those who have gone (pytorch issue 135712)
            store = PrefixStore(f"start {_starts()}", store)
            distributed.init_process_group(
                backend, store=store, rank=number, world_size=count, timeout=STEP_TIMEOUT
            )
        _waiting = distributed.new_group(backend="gloo", timeout=WAITING_TIMEOUT)


def leave() -> None:
    """Part from the others; whoever waits for this process is told that it has gone."""
    global _waiting
    if _waiting is not None:
        _waiting = None
        distributed.destroy_process_group()


def share() -> Share:
    """This process's share of every batch."""
    return Share(rank(), world(), world())


def describe() -> dict[str, Any]:
    """How many processes there are and how they speak, for the card."""
    found: dict[str, Any] = {"count": world()}
    if world() > 1:
        found |= {"backend": distributed.get_backend(), "batch_norm": "synchronised"}
    if "TORCHELASTIC_RUN_ID" in os.environ:
        found["launch"] = launch()
    return found


# -- deciding together -----------------------------------------------------------------------------


def agree(wish: int) -> int:
    """The largest of what the processes want: `GO`, `STOP` or `FINISH`."""
    if world() == 1:
        return wish
    wishes = torch.tensor(wish)
    with reaching():
        distributed.all_reduce(wishes, distributed.ReduceOp.MAX, group=_waiting)
    return int(wishes)


def decided(function: Callable[[], Result]) -> Result:
    """What a function gives on rank 0, which alone calls it; plain data.

    Raises:
        RunFailedError: It failed there; what it raised is raised there.
    """
    if world() == 1:
        return function()
    found: list[Any] = [None]
    if rank() == 0:
        try:
            found = [function()]
        except BaseException:
            _broadcast(b"")
            raise
        _broadcast(json.dumps(found).encode())
        return found[0]  # type: ignore[no-any-return]
    said = _broadcast(None)
    if not said:
        raise RankLostError("rank 0 failed")
    return json.loads(said)[0]  # type: ignore[no-any-return]


def together(function: Callable[[], Result], *, in_turn: bool = False) -> Result:
    """What a function gives on this rank, if it works on all of them.

    Args:
        function: Called on every rank; it exchanges nothing with the others.
        in_turn: Whether the first process of each machine has done it before the others begin, who
            then find its caches.

    Raises:
        UserError: It failed on some rank; rank 0 says which and why.
    """
    if world() == 1:
        return function()
    global _silent
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    found: Result | None = None
    failed: BaseException | None = None
    for turn in (True, False) if in_turn else (first,):
        if turn == first:
            try:
                found = function()
            except (UserError, RunFailedError, OSError) as error:
                failed = error
        said = _gathered("" if failed is None else str(failed))
        _silent = rank() > 0 and any(said)
        if failed is not None:
            raise failed
        if any(said):
            other = next(i for i, line in enumerate(said) if line)
            raise UserError(f"rank {other}: {said[other]}")
    return found  # type: ignore[return-value]


def require_same(what: str, value: str) -> None:
    """Raise `UserError` on every rank unless all have the same text."""
    if world() == 1:
        return
    found = _gathered(value)
    for other, text in enumerate(found):
        if text != found[0]:
            raise UserError(
                f"{what} of rank {other} is not that of rank 0 ({_apart(text, found[0])}); give "
                "every process the same command and the same files"
            )


def _apart(one: str, other: str) -> str:
    """Where two texts begin to differ."""
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    at = max(0, at - 20)
    return f"...{one[at : at + 60]}... and ...{other[at : at + 60]}..."


def equalise(state: TrainState) -> None:
    """Give every rank the state that rank 0 has, to the bit."""
    if world() == 1:
        return
    leads = rank() == 0
    own = {name: t.detach().cpu().contiguous() for name, t in state.tensors().items()}
    header: dict[str, Any] = decided(
        lambda: {
            "plain": state.plain(),
            "n_critic": state.method.n_critic,
            "kinds": [[n, str(t.dtype)[6:], list(t.shape)] for n, t in own.items()],
        }
    )
    tensors: dict[str, Tensor] = {}
    for name, kind, shape in header["kinds"]:
        dtype = getattr(torch, kind)
        tensor = own[name] if leads else torch.empty(shape, dtype=dtype)
        with reaching():
            distributed.broadcast(tensor, 0, group=_waiting)
        tensors[name] = tensor
    if not leads:
        state.load(tensors, header["plain"])
        state.set_n_critic(header["n_critic"])


def add(values: Tensor) -> None:
    """Add up a tensor over the processes, in place."""
    with reaching():
        distributed.all_reduce(values)


def _broadcast(content: bytes | None) -> bytes:
    """What rank 0 has."""
    size = torch.tensor(0 if content is None else len(content))
    with reaching():
        distributed.broadcast(size, 0, group=_waiting)
        if content is None:
            buffer = torch.empty(int(size), dtype=torch.uint8)
        else:
            buffer = torch.tensor(list(content), dtype=torch.uint8)
        if len(buffer):
            distributed.broadcast(buffer, 0, group=_waiting)
    return bytes(buffer.tolist())


def _gathered(text: str) -> list[str]:
    """What every rank has."""
    content = text.encode()
    sizes = [torch.tensor(0) for _ in range(world())]
    with reaching():
        distributed.all_gather(sizes, torch.tensor(len(content)), group=_waiting)
        longest = max(1, *map(int, sizes))
        padded = torch.tensor(list(content.ljust(longest, b" ")), dtype=torch.uint8)
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded, group=_waiting)
    return [bytes(p[: int(n)].tolist()).decode() for p, n in zip(parts, sizes, strict=True)]


# -- torchrun's side -------------------------------------------------------------------------------


def restarted() -> bool:
    """Whether `torchrun` started these processes again after one of them failed."""
    return agree(int(_starts() > 0)) > 0


def _starts() -> int:
    """How often this machine's `torchrun` started its processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _shares_store() -> bool:
    """Whether all of a `torchrun`'s starts meet in one store."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def restarts() -> bool:
    """Whether `torchrun` would do so."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def launch() -> str:
    """A name of the `torchrun` command that this process belongs to, the same after a restart."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return name if name != "none" else f"{socket.gethostname()} {os.getppid()}"


def speaks() -> bool:
    """Whether this process says why the run ends: the first one that comes to it does."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return True
    if _silent:
        return False
    if not distributed.is_initialized():
        return os.environ.get("RANK", "0") == "0"
    try:
        store = distributed.distributed_c10d._get_default_store()
        return bool(store.add("wgan/said", 1) == 1)
    except RuntimeError:  # the store went with rank 0's machine
        return True
