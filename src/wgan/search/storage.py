"""What the processes of a sweep share: a journal of trials, and locks that die with who holds them.

::

    sweep.json      the plan: what is searched, and how long a trial is
    journal.log     every trial, appended to (Optuna's journal)
    trials/NNNN/    one ordinary run each
    .locks/         held while something is written, and as long as a trial is trained
    report.html     the page; best.yaml: the winner's configuration

The locks are the operating system's: a process that is killed holds none. A trial that runs
according to the journal while nobody holds its lock was left by a process that died.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wgan.errors import MissingExtraError, UnknownNameError, UserError
from wgan.files import parse_json, read_whole
from wgan.reports.style import write_whole

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study

FORMAT = 1
PRUNERS = ("median", "hyperband", "none")
_STUDY = "sweep"
_STARTUP = 4  # trials that run to their end before the median prunes any
_RANDOM = 8  # trials that are drawn at random before the sampler learns from them


@dataclass(frozen=True)
class Plan:
    """What is the same for all trials, settled before the first.

    Attributes:
        data: What the data was called.
        fingerprint: Of its content.
        given: The settings that are not searched.
        search: The values of those that are, as text.
        steps: Generator updates of a trial that is not pruned.
        audit_every: Steps between audits; after each the trial may be pruned.
        seed: Of the sampler; the runs have theirs in `given`.
        pruner: median, hyperband or none.
        trials: How many; it may grow.
        reason: How `steps` came about, in words.
    """

    data: str
    fingerprint: str
    given: Mapping[str, Any]
    search: Mapping[str, str]
    steps: int
    audit_every: int
    seed: int
    pruner: str
    trials: int
    reason: str

    @classmethod
    def read(cls, place: Path) -> Plan | None:
        """The plan of a sweep, or None where there is none.

        Raises:
            UserError: It is damaged, or of a newer version.
        """
        path = place / "sweep.json"
        try:
            plain = parse_json(read_whole(path))
            if plain.pop("format") > FORMAT:
                raise UserError(f"{path} was written by a newer version of wgan")
            return cls(**plain)
        except FileNotFoundError:
            return None
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged: {error}") from None

    def write(self, place: Path) -> None:
        """Save it."""
        content = json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"
        write_whole(place / "sweep.json", content.encode())


class Lock:
    """A file that one process holds at a time; a context manager.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: IO[bytes] | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take it; whether it was to be had."""
        try:
            handle = self._path.open("ab")
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            handle.close()
            return False
        except OSError as error:
            handle.close()
            raise UserError(f"cannot lock {self._path}: {error.strerror}") from None
        self._handle = handle
        return True

    def release(self) -> None:
        """Give it back."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class JournalLock(Lock):
    """The lock of appending to the journal.

    Optuna's own locks outlive a process that is killed, and half a line that it left would make
    the journal unreadable: here the system frees the lock, and the half line is cut off.
    """

    def __init__(self, journal: Path, lock: Path) -> None:
        super().__init__(lock)
        self._journal = journal

    def acquire(self, *, wait: bool = True) -> bool:
        """Take it, and mend the journal."""
        held = super().acquire(wait=wait)
        with suppress(FileNotFoundError):
            _cut_half_line(self._journal)
        return held


def _cut_half_line(path: Path) -> None:
    with path.open("r+b") as handle:
        end = handle.seek(0, os.SEEK_END)
        if end == 0:
            return
        handle.seek(end - 1)
        if handle.read(1) == b"\n":
            return
        back = min(end, 2**20)
        handle.seek(end - back)
        whole = handle.read(back).rfind(b"\n") + 1
        handle.truncate(end - back + whole)


def require_optuna() -> None:
    """Raise `MissingExtraError` where Optuna is not installed."""
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("`wgan sweep`", "sweep") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what happens is told by the sweep


def make_folders(place: Path) -> None:
    """The folders of a sweep."""
    try:
        for folder in (place / "trials", place / ".locks"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {place}: {error.strerror}") from None


def sweep_lock(place: Path) -> Lock:
    """Held while a trial is begun or taken up, or the plan or the page is written."""
    return Lock(place / ".locks" / "sweep")


def trial_lock(place: Path, number: int) -> Lock:
    """Held by who trains a trial."""
    return Lock(place / ".locks" / f"{number:04d}")


def open_study(place: Path, plan: Plan) -> Study:
    """The trials of a sweep so far.

    Raises:
        UserError: The journal cannot be read.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal = place / "journal.log"
    lock = JournalLock(journal, place / ".locks" / "journal")
    with lock:  # a half line is cut off before anything is read
        pass
    try:
        storage = JournalStorage(JournalFileBackend(str(journal), lock))  # type: ignore[arg-type]
        return optuna.create_study(
            storage=storage,
            study_name=_STUDY,
            direction="minimize",
            pruner=_pruner(plan),
            sampler=sampler(plan, 0),
            load_if_exists=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{journal} cannot be read: {error}") from None


def sampler(plan: Plan, number: int) -> BaseSampler:
    """The sampler of one trial.

    Its seed is the sweep's and the trial's: a process that goes on where another stopped, or
    beside it, does not draw again what was drawn.
    """
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=_RANDOM, seed=(plan.seed * 1_000_003 + number) % 2**32)


def _pruner(plan: Plan) -> BasePruner:
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    if plan.pruner == "median":
        return MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=2 * plan.audit_every)
    if plan.pruner == "hyperband":
        return HyperbandPruner(min_resource=2 * plan.audit_every, max_resource=plan.steps)
    if plan.pruner == "none":
        return NopPruner()
    raise UnknownNameError("pruner", plan.pruner, PRUNERS)
