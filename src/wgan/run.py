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

A checkpoint is written beside its place, flushed to the disk and renamed, so that a directory that
has its name is complete. Nothing here is ever unpickled or executed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
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
from wgan.types import Record

FORMAT = 1
_STEP_DIGITS = 8


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
        keep: Newest checkpoints kept beside the best and the first.
    """

    path: Path
    config: dict[str, Any]
    card: dict[str, Any]
    keep: int = 3
    _log: IO[str] | None = field(default=None, repr=False)
    _lock: IO[str] | None = field(default=None, repr=False)

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], card: Mapping[str, Any]) -> Run:
        """A new run directory, locked for this process.

        Raises:
            UserError: The directory exists, or cannot be written.
        """
        refuse_existing(path)
        try:
            path.mkdir(parents=True)
            for part in ("checkpoints", "samples"):
                (path / part).mkdir()
        except OSError as error:
            raise UserError(f"cannot create the run directory {path}: {error.strerror}") from None
        run = cls(path, dict(config), {"format": FORMAT, **card})
        run.lock()
        with _no_space(path):
            run.write_config()
            run.write_card()
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
        try:
            config = yaml.safe_load((path / "config.yaml").read_bytes())
            card = json.loads((path / "card.json").read_bytes())
        except (yaml.YAMLError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise DamagedError(f"{path} is damaged: config.yaml or card.json: {first}") from None
        if not isinstance(config, dict) or not isinstance(card, dict):
            raise DamagedError(f"{path} is damaged: config.yaml or card.json is not a mapping")
        check_format(card.get("format"), path)
        return cls(path, config, card)

    def lock(self) -> None:
        """Take the run for writing; the operating system frees it when this process ends.

        Raises:
            UserError: Another process trains in it.
        """
        handle = (self.path / ".lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise UserError(f"another process is training in {self.path}") from None
        self._lock = handle

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
        text = yaml.safe_dump(self.config, sort_keys=False)
        _write(self.path / "config.yaml", text.encode())

    def write_card(self) -> None:
        """Save the card as it stands now."""
        _write(self.path / "card.json", (json.dumps(self.card, indent=2) + "\n").encode())

    def log(self, record: Record) -> None:
        """Append a record; it is on the disk after :meth:`save` or :meth:`flush`."""
        if self._log is None:
            self._log = (self.path / "records.jsonl").open("a")
        with _no_space(self.path):
            self._log.write(json.dumps(record) + "\n")

    def flush(self) -> None:
        """Hand what was logged to the operating system."""
        if self._log is not None:
            with _no_space(self.path):
                self._log.flush()

    def save_json(self, name: str, plain: Mapping[str, Any]) -> None:
        """Write plain data beside the card, whole or not at all."""
        with _no_space(self.path):
            _write(self.path / name, (json.dumps(plain, indent=2) + "\n").encode())

    def load_json(self, name: str) -> dict[str, Any] | None:
        """Plain data beside the card, or None where there is none."""
        try:
            plain = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            raise DamagedError(f"{self.path / name} is damaged: it is not JSON") from None
        return plain if isinstance(plain, dict) else None

    def save_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write arrays beside the card, whole or not at all."""
        with _no_space(self.path):
            _write(self.path / name, save_arrays(dict(arrays)))

    def load_arrays(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Arrays beside the card, or None where there are none."""
        try:
            return load_arrays((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except SafetensorError as error:
            raise DamagedError(f"{self.path / name} is damaged: {error}") from None

    def records(self) -> list[Record]:
        """All records; a last line that was cut short by a kill is left out.

        Raises:
            DamagedError: A line before the last is not a record.
        """
        path = self.path / "records.jsonl"
        if not path.exists():
            return []
        found: list[Record] = []
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                    raise ValueError("not a record")
            except ValueError:
                if number == len(lines):
                    break
                raise DamagedError(f"{path}, line {number}: not a record") from None
            found.append(record)
        return found

    def cut_records(self, step: int) -> None:
        """Drop the records after a step: a resumed run writes them again."""
        kept = [r for r in self.records() if isinstance(r["step"], int) and r["step"] <= step]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        _write(self.path / "records.jsonl", lines.encode())

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
        place = folder / f"{checkpoint.step:0{_STEP_DIGITS}d}"
        beside = folder / f".{place.name}.{os.getpid()}"
        files = {
            "tensors.safetensors": save_tensors(
                {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
            ),
            "state.json": json.dumps(
                {"format": FORMAT, "step": checkpoint.step, **checkpoint.plain}, indent=1
            ).encode(),
        }
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        with _no_space(self.path):
            self.flush()
            if self._log is not None:
                os.fsync(self._log.fileno())
            try:
                beside.mkdir(exist_ok=True)
                for name, content in files.items():
                    _write(beside / name, content)
                _write(beside / "checksums.json", json.dumps(sums, indent=1).encode())
            except OSError:
                shutil.rmtree(beside, ignore_errors=True)
                raise
            if place.exists():  # the same step again, after a resume: the old one may be damaged
                shutil.rmtree(place)
            beside.rename(place)
            _sync(folder)
            if best:
                _write(folder / "best.json", json.dumps({"step": checkpoint.step}).encode())
        self._prune()
        return place

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        folder = self.path / "checkpoints"
        return sorted(int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit())

    def best_step(self) -> int | None:
        """The step marked best, if any."""
        try:
            step = json.loads((self.path / "checkpoints" / "best.json").read_bytes())["step"]
        except (OSError, ValueError, KeyError):
            return None
        return int(step)

    def load(self, step: int) -> Checkpoint:
        """Read and verify one checkpoint.

        Raises:
            DamagedError: A file is missing, cut short or altered.
            UserError: It was written by a newer version.
        """
        place = self.path / "checkpoints" / f"{step:0{_STEP_DIGITS}d}"
        try:
            sums = json.loads((place / "checksums.json").read_bytes())
            content = {n: (place / n).read_bytes() for n in ("tensors.safetensors", "state.json")}
        except (OSError, ValueError) as error:
            raise DamagedError(f"checkpoint {place} is damaged: {error}") from None
        for name, data in content.items():
            if not isinstance(sums, dict) or hashlib.sha256(data).hexdigest() != sums.get(name):
                raise DamagedError(f"checkpoint {place} is damaged: {name} fails its checksum")
        plain = json.loads(content["state.json"])
        check_format(plain.pop("format", None), place)
        try:
            tensors = load_tensors(content["tensors.safetensors"])
        except SafetensorError as error:
            raise DamagedError(f"checkpoint {place} is damaged: {error}") from None
        return Checkpoint(plain["step"], tensors, plain)

    def latest(self) -> tuple[Checkpoint, list[str]]:
        """The newest good checkpoint, and one line for each newer one that is damaged.

        Raises:
            DamagedError: There is no good one.
        """
        said: list[str] = []
        for step in reversed(self.steps()):
            try:
                return self.load(step), said
            except DamagedError as error:
                said.append(str(error))
        if said:
            raise DamagedError(f"{self.path} has no checkpoint that can be read: {said[0]}")
        raise DamagedError(f"{self.path} has no checkpoint: the run was stopped before its first")

    def drop_after(self, step: int) -> None:
        """Remove checkpoints after a step, damaged ones and what a kill left half-written too."""
        for half in (self.path / "checkpoints").glob(".[0-9]*"):
            shutil.rmtree(half, ignore_errors=True)
        for later in (s for s in self.steps() if s > step):
            shutil.rmtree(self.path / "checkpoints" / f"{later:0{_STEP_DIGITS}d}")

    def _prune(self) -> None:
        steps = self.steps()
        kept = {*steps[-self.keep :], self.best_step()}
        for step in steps:
            if step not in kept:
                shutil.rmtree(
                    self.path / "checkpoints" / f"{step:0{_STEP_DIGITS}d}", ignore_errors=True
                )


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
    with beside.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    beside.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Flush a directory's own entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _no_space(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFailedError(
            f"cannot write to {path}: {error.strerror}; make room, then `wgan resume {path}`"
        ) from None
