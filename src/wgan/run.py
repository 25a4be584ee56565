"""The run directory: the only place that writes or reads one.

::

    config.yaml        the resolved configuration; `wgan train --config` on it repeats the run
    card.json          versions, machine, data fingerprint, departures, resumptions
    records.jsonl      one line per step, appended
    checkpoints/STEP/  tensors.safetensors, state.json, checksums.json
    samples/STEP.png   from the same latents throughout
    tensorboard/       event files
    plane.safetensors  data in the plane: samples and the critic's level lines
    evaluation.json    the last judgement
    report.html        the report; samples.png is the last sheet

A run, a checkpoint and every file but the records is written beside its place, flushed to the disk
and renamed, so that what has its name is complete; what is removed loses its name first. A kill at
any instant leaves at most hidden leftovers, which the next `resume` clears. The records are
appended, on the disk before the checkpoint that follows them, and cut back to it on resume. Nothing
here is ever unpickled or executed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from wgan.errors import RunFailedError, UserError
from wgan.files import parse_json, parse_yaml, read_whole
from wgan.types import Record

FORMAT = 1
_STEP_DIGITS = 8
_STEP_NAME = re.compile(rf"[0-9]{{{_STEP_DIGITS},18}}")
_LEFTOVER = re.compile(r"\..+\.[0-9]+(\.old)?")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedError(UserError):
    """A file of a run is missing, cut short or altered."""


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds.

    Attributes:
        step: Generator updates made.
        tensors: By name.
        plain: Everything that is not a tensor, the step among it.
    """

    step: int
    tensors: dict[str, Tensor]
    plain: dict[str, Any]


@dataclass
class Run:
    """One run directory.

    Attributes:
        path: The directory.
        config: The resolved configuration, plain data.
        card: What the run is and was, plain data.
        keep: Newest regular checkpoints kept, beside the best and the very last.
    """

    path: Path
    config: dict[str, Any]
    card: dict[str, Any]
    keep: int = 3
    _log: IO[bytes] | None = field(default=None, repr=False)
    _lock: IO[bytes] | None = field(default=None, repr=False)
    _logged: _Logged | None = field(default=None, repr=False)

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], card: Mapping[str, Any]) -> Run:
        """A new run directory, locked for this process.

        Raises:
            UserError: The directory exists, or cannot be written.
        """
        refuse_existing(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        run = cls(beside, dict(config), {"format": FORMAT, **card})
        try:
            _clear_unborn(path)
            shutil.rmtree(beside, ignore_errors=True)  # of an earlier process of this number
            beside.mkdir(parents=True)
            run.lock()
            for part in ("checkpoints", "samples"):
                (beside / part).mkdir()
            _write(beside / "config.yaml", run._config_bytes())
            _write(beside / "card.json", run._card_bytes())
            beside.rename(path)
            _sync(path.parent)
        except BaseException as error:
            run.close()
            shutil.rmtree(beside, ignore_errors=True)
            if isinstance(error, OSError):
                raise UserError(
                    f"cannot create the run directory {path}: {error.strerror}"
                ) from None
            raise
        run.path = path
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """An existing run directory, for reading.

        Raises:
            UserError: There is none, it is not a run, it is damaged, or of a newer format.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"no run directory at {path}")
        missing = [n for n in ("config.yaml", "card.json") if not (path / n).is_file()]
        if missing:
            raise UserError(f"{path} is not a run directory: it has no {' and no '.join(missing)}")
        return cls(path, *_read_head(path))

    def lock(self) -> None:
        """Take the run for writing; the operating system frees it when this process ends.

        Configuration and card are read again: who had the run until now may have changed them.

        Raises:
            UserError: Another process trains in it, or it cannot be written.
        """
        try:
            handle = (self.path / ".lock").open("ab")
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path}: {error.strerror}; to go on elsewhere, copy the run"
            ) from None
        try:
            _flock(handle, fcntl.LOCK_EX, self.path)
            if (self.path / "card.json").is_file():
                self.config, self.card = _read_head(self.path)
        except BaseException:
            handle.close()
            raise
        self._lock = handle

    @property
    def locked(self) -> bool:
        """Whether this process has the run for writing."""
        return self._lock is not None

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """A context in which no process trains in the run; several may look at it at once.

        Raises:
            UserError: One does.
        """
        try:
            handle = (self.path / ".lock").open("rb")
        except OSError:  # a copy of a run, or one that never was trained in
            yield
            return
        with handle:
            _flock(handle, fcntl.LOCK_SH, self.path)
            yield

    def close(self) -> None:
        """Close the log and free the run."""
        for handle in (self._log, self._lock):
            if handle is not None:
                with suppress(OSError):  # a full disk: what is lost comes after the last checkpoint
                    handle.close()
        self._log = self._lock = None

    # -- card and records ------------------------------------------------------------------------

    def write_config(self) -> None:
        """Save the configuration as it stands now."""
        with self.writing():
            _write(self.path / "config.yaml", self._config_bytes())

    def write_card(self) -> None:
        """Save the card as it stands now."""
        with self.writing():
            _write(self.path / "card.json", self._card_bytes())

    def _config_bytes(self) -> bytes:
        return yaml.safe_dump(self.config, sort_keys=False).encode()

    def _card_bytes(self) -> bytes:
        return (json.dumps(self.card, indent=2) + "\n").encode()

    def log(self, record: Record) -> None:
        """Append a record; it is on the disk after :meth:`save`."""
        line = (json.dumps(record) + "\n").encode()
        with self.writing():
            logged = self._so_far()
            if self._log is None:
                self._log = (self.path / "records.jsonl").open("ab")
                _sync(self.path)
            self._log.write(line)
        logged.add(line)

    def flush(self) -> None:
        """Hand what was logged to the operating system."""
        if self._log is not None:
            with self.writing():
                self._log.flush()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context whose `OSError` becomes the one line that says how to go on."""
        try:
            yield
        except OSError as error:
            mend = "make room" if error.errno in _FULL else "mend that"
            raise RunFailedError(
                f"cannot write to {self.path}: {error.strerror or error}; {mend}, then "
                f"`wgan resume {self.path}`"
            ) from None

    def _so_far(self) -> _Logged:
        if self._logged is None:
            path = self.path / "records.jsonl"
            self._logged = _Logged()
            self._logged.add(read_whole(path) if path.exists() else b"")
        return self._logged

    def save_json(self, name: str, plain: Mapping[str, Any]) -> None:
        """Write plain data beside the card, whole or not at all."""
        with self.writing():
            _write(self.path / name, (json.dumps(plain, indent=2) + "\n").encode())

    def load_json(self, name: str) -> dict[str, Any] | None:
        """Plain data beside the card, or None where there is none."""
        try:
            plain = parse_json(read_whole(self.path / name))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DamagedError(f"{self.path / name} is damaged: {error}") from None
        return plain if isinstance(plain, dict) else None

    def save_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write arrays beside the card, whole or not at all."""
        with self.writing():
            _write(self.path / name, save_arrays(dict(arrays)))

    def load_arrays(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Arrays beside the card, or None where there are none."""
        try:
            return load_arrays(read_whole(self.path / name))
        except FileNotFoundError:
            return None
        except (SafetensorError, *_UNSAFE) as error:
            raise DamagedError(f"{self.path / name} is damaged: {error}") from None

    def records(self) -> list[Record]:
        """All records; a last line that was cut short by a kill is left out.

        Raises:
            DamagedError: A line before the last is not a record.
        """
        found = []
        for number, _, record in self._lines():
            if record is None:
                raise DamagedError(f"{self.path / 'records.jsonl'}, line {number}: not a record")
            found.append(record)
        return found

    def cut_records(self, step: int) -> list[str]:
        """Drop the records after a step: a resumed run writes them again.

        Returns:
            A line for the user, where there is not one good record for each step up to this one.
        """
        kept, last, gaps = bytearray(), 0, False
        for _, line, record in self._lines():
            if last == step:
                break  # what comes after, good or not, is written again
            if record is None:
                gaps = True
                continue
            number = record["step"]
            assert isinstance(number, int)
            if number > step:
                break
            gaps |= number != last + 1
            kept += line
            last = number
        if self._log is not None:
            with suppress(OSError):
                self._log.close()
            self._log = None
        path = self.path / "records.jsonl"
        with self.writing():
            _write(path, bytes(kept))
        self._logged = None
        if not gaps and last == step:
            return []
        return [f"{path} lacks some of the records up to step {step}; the run goes on without them"]

    def checked_records(self, step: int) -> str | None:
        """What is wrong with the records up to a checkpoint, by its own checksum, if anything."""
        place = self._place(step)
        try:
            sums = parse_json(read_whole(place / "checksums.json"))
            size, digest = sums["records.jsonl"]
            path = self.path / "records.jsonl"
            content = read_whole(path)[:size] if path.exists() else b""
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"the records up to step {step} cannot be checked: {error!r}"
        if len(content) < size:
            return f"records.jsonl is cut short: step {step} was saved with {size:,} bytes of it"
        if hashlib.sha256(content).hexdigest() != digest:
            return f"records.jsonl fails the checksum that step {step} was saved with"
        return None

    def _lines(self) -> Iterator[tuple[int, bytes, Record | None]]:
        """Number, content and record of every line but a last one that was cut short."""
        path = self.path / "records.jsonl"
        if not path.exists():
            return
        try:
            lines = read_whole(path).splitlines(keepends=True)
        except ValueError as error:
            raise DamagedError(f"{path} is damaged: {error}") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            record = _record(line)
            if record is None and number == len(lines) and not line.endswith(b"\n"):
                return
            yield number, line if line.endswith(b"\n") else line + b"\n", record

    # -- checkpoints -----------------------------------------------------------------------------

    def save(self, checkpoint: Checkpoint, *, best: bool = False) -> Path:
        """Write a checkpoint whole or not at all, and drop those no longer kept.

        Args:
            checkpoint: What to write.
            best: Whether it is the best so far; the best is kept.

        Raises:
            RunFailedError: The disk is full or not writable; older checkpoints stay.
        """
        folder = self.path / "checkpoints"
        place = self._place(checkpoint.step)
        beside = folder / f".{place.name}.{os.getpid()}"
        files = {
            "tensors.safetensors": save_tensors(
                {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
            ),
            "state.json": json.dumps(
                {"format": FORMAT, "step": checkpoint.step, **checkpoint.plain}, indent=1
            ).encode(),
        }
        sums: dict[str, Any] = {n: hashlib.sha256(part).hexdigest() for n, part in files.items()}
        with self.writing():
            self.flush()
            if self._log is not None:
                os.fsync(self._log.fileno())
            sums["records.jsonl"] = self._so_far().plain()
            try:
                beside.mkdir(exist_ok=True)
                for name, content in files.items():
                    _write(beside / name, content)
                _write(beside / "checksums.json", json.dumps(sums, indent=1).encode())
            except OSError:
                shutil.rmtree(beside, ignore_errors=True)
                raise
            if place.exists():  # the same step again: after a rollback
                with _aside(place):
                    beside.rename(place)
            else:
                beside.rename(place)
            _sync(folder)
        if best:
            self.mark_best(checkpoint.step)
        self._prune()
        return place

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        folder = self.path / "checkpoints"
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(int(p.name) for p in found if _STEP_NAME.fullmatch(p.name) and p.is_dir())

    def best_step(self) -> int | None:
        """The step marked best, if any."""
        try:
            step = parse_json(read_whole(self.path / "checkpoints" / "best.json"))["step"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return step if isinstance(step, int) else None

    def mark_best(self, step: int | None) -> None:
        """Say which checkpoint is the best so far; None: none is."""
        path = self.path / "checkpoints" / "best.json"
        if step == self.best_step() and (step is not None or not path.exists()):
            return
        with self.writing():
            if step is None:
                path.unlink(missing_ok=True)
            else:
                _write(path, json.dumps({"step": step}).encode())

    def load(self, step: int) -> Checkpoint:
        """Read and verify one checkpoint.

        Raises:
            DamagedError: A file is missing, cut short or altered.
            UserError: It was written by a newer version.
        """
        place = self._place(step)
        try:
            sums = parse_json(read_whole(place / "checksums.json"))
            content = {n: read_whole(place / n) for n in ("tensors.safetensors", "state.json")}
        except (OSError, ValueError) as error:
            raise DamagedError(f"checkpoint {place} is damaged: {error}") from None
        for name, data in content.items():
            if not isinstance(sums, dict) or hashlib.sha256(data).hexdigest() != sums.get(name):
                raise DamagedError(f"checkpoint {place} is damaged: {name} fails its checksum")
        try:
            plain = parse_json(content["state.json"])
            if not isinstance(plain, dict) or plain.get("step") != step:
                raise ValueError(f"state.json is not of step {step}")
            tensors = load_tensors(content["tensors.safetensors"])
        except (SafetensorError, *_UNSAFE) as error:
            raise DamagedError(f"checkpoint {place} is damaged: {error}") from None
        check_format(plain.pop("format", None), place)
        return Checkpoint(step, tensors, plain)

    def regular_steps(self) -> list[int]:
        """Those of :meth:`steps` that every run like this one has: a stop may save between them."""
        every = self.config.get("checkpoint_every")
        every = every if isinstance(every, int) and every > 0 else 1
        return [step for step in self.steps() if step % every == 0]

    def latest(self, among: Sequence[int] | None = None) -> tuple[Checkpoint, list[str]]:
        """The newest good checkpoint, and a line for each newer one that is damaged.

        Args:
            among: Steps to choose from; None: all.

        Raises:
            DamagedError: There is no good one.
        """
        said: list[str] = []
        for step in reversed(self.steps() if among is None else among):
            try:
                found = self.load(step)
            except DamagedError as error:
                said.append(str(error))
                continue
            if said:
                before = "" if step else ", from before the first step,"
                said[-1] += f"; that of step {step:,}{before} is used instead"
            return found, said
        if said:
            raise DamagedError(f"{self.path} has no checkpoint that can be read: {said[0]}")
        raise DamagedError(
            f"{self.path} has no checkpoint: the run was stopped before its first; to begin it "
            f"again: wgan resume {self.path}"
        )

    def drop_after(self, step: int) -> None:
        """Remove checkpoints after a step, damaged ones and what a kill left half-written too."""
        with self.writing():
            for folder in (self.path, self.path / "checkpoints", self.path / "samples"):
                folder.mkdir(exist_ok=True)
                for left in folder.iterdir():
                    if _LEFTOVER.fullmatch(left.name):
                        shutil.rmtree(left) if left.is_dir() else left.unlink()
            for later in (s for s in self.steps() if s > step):
                self._remove(later)

    def _prune(self) -> None:
        steps = self.steps()
        kept = {*self.regular_steps()[-self.keep :], steps[-1], self.best_step()}
        for step in steps:
            if step not in kept:
                with suppress(OSError):  # it will be tried again
                    self._remove(step)

    def _remove(self, step: int) -> None:
        with _aside(self._place(step)):
            pass

    def _place(self, step: int) -> Path:
        return self.path / "checkpoints" / f"{step:0{_STEP_DIGITS}d}"


class _Logged:
    """Size and hash of the records so far."""

    def __init__(self) -> None:
        self._bytes = 0
        self._hash = hashlib.sha256()

    def add(self, line: bytes) -> None:
        self._bytes += len(line)
        self._hash.update(line)

    def plain(self) -> list[int | str]:
        return [self._bytes, self._hash.hexdigest()]


_UNSAFE = (OSError, ValueError, KeyError, TypeError, RuntimeError)
"""What parsers raise at content that nobody wrote on purpose, `SafetensorError` aside."""


def _read_head(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and card of a run."""
    found: list[dict[str, Any]] = []
    for name, parse in (("config.yaml", parse_yaml), ("card.json", parse_json)):
        try:
            plain = parse(read_whole(path / name))
            if not isinstance(plain, dict):
                raise ValueError("it is not a mapping")
        except (OSError, ValueError) as error:
            raise DamagedError(f"{path} is damaged: {name}: {error}") from None
        found.append(plain)
    config, card = found
    check_format(card.get("format"), path)
    return config, card


def _record(line: bytes) -> Record | None:
    """The record of a line, or None where it is none."""
    try:
        plain = parse_json(line)
    except ValueError:
        return None
    if not isinstance(plain, dict) or type(plain.get("step")) is not int:
        return None
    if not all(
        name.isprintable() and (value is None or isinstance(value, (int, float, str)))
        for name, value in plain.items()
    ):
        return None
    return plain


def _flock(handle: IO[bytes], kind: int, path: Path) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"another process is training in {path}, or looking at it") from None
    except OSError as error:
        raise UserError(f"cannot lock {path}: {error.strerror}") from None


def _clear_unborn(path: Path) -> None:
    """Remove what processes left that were killed while they created this run."""
    if not path.parent.is_dir():
        return
    for left in path.parent.iterdir():
        if left.name.startswith(f".{path.name}.") and _LEFTOVER.fullmatch(left.name):
            with suppress(OSError):
                if (left / ".lock").exists():
                    with (left / ".lock").open("rb") as handle:
                        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                elif Path(f"/proc/{left.suffix[1:]}").exists():
                    continue  # it is about to lock it
                shutil.rmtree(left)


def check_format(found: object, place: Path) -> None:
    """Raise unless a format number is one that this version reads."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise DamagedError(f"{place} is damaged: it states no format")
    if found > FORMAT:
        raise UserError(
            f"{place} was written by a newer version of wgan (format {found}, this one reads up to "
            f"{FORMAT}); upgrade with: pip install -U wgan"
        )


def refuse_existing(path: Path) -> None:
    """Raise `UserError` if there is something where a new run should go."""
    if (path / "card.json").is_file():
        raise UserError(f"{path} exists; choose another --out, or go on: wgan resume {path}")
    if path.exists():
        raise UserError(f"{path} exists and is not a run; choose another --out")


def next_path(root: Path, title: str) -> Path:
    """The next numbered run directory, ``root/0007-title``."""
    taken = [
        int(p.name.split("-", 1)[0])
        for p in (root.iterdir() if root.is_dir() else ())
        if p.name.split("-", 1)[0].isdigit()
    ]
    return root / f"{max(taken, default=0) + 1:04d}-{title}"


def _write(path: Path, content: bytes) -> None:
    """Write a file whole: beside, flushed to the disk, renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        beside.replace(path)
    except BaseException:  # half a file on a full disk keeps others from being written
        with suppress(OSError):
            beside.unlink()
        raise
    _sync(path.parent)


@contextmanager
def _aside(place: Path) -> Iterator[None]:
    """A directory without its name within, and gone afterwards: no kill leaves half of one."""
    aside = place.with_name(f".{place.name}.{os.getpid()}.old")
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    yield
    _sync(place.parent)
    shutil.rmtree(aside)


def _sync(folder: Path) -> None:
    """Flush a directory's own entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
