"""Whether a run is whole: `wgan verify`."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.build import build_state
from wgan.card import differences, processes_at
from wgan.config import data_options
from wgan.data import open_source
from wgan.data.base import Source
from wgan.errors import RunFailedError, UserError
from wgan.planning import make_audit
from wgan.plugins import looked_up, recorded_plugins
from wgan.run import Checkpoint, DamagedError, Run
from wgan.session import Session
from wgan.trained import Data, Trained, config_of
from wgan.training import train
from wgan.training.player import under
from wgan.types import Record, Value


@dataclass(frozen=True)
class Verification:
    """What :func:`verify` found.

    Attributes:
        run: The run directory.
        findings: What is wrong, a line each; empty where all is good.
        checked: What was checked, a line each.
        skipped: What could not be checked, and why.
    """

    run: str
    findings: tuple[str, ...]
    checked: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "run": self.run,
            "good": self.good,
            "findings": list(self.findings),
            "checked": list(self.checked),
            "skipped": list(self.skipped),
        }


def verify(
    run: str | os.PathLike[str],
    *,
    data: Data | None = None,
    condition: NDArray[Any] | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    seconds: float = 60.0,
) -> Verification:
    """Check a run: complete, unaltered, and still giving the numbers that it recorded.

    Configuration and card can be read; every checkpoint has the content that its checksums state
    and fits the networks; there is one record for each step, and they are those that each
    checkpoint was saved with. Then the last checkpoint that has a record after it is loaded and
    trained on: the records must come out as they are, to the bit, fields ending in ``_seconds``
    excepted, and so must the next checkpoint if it is reached. Nothing in the run is changed.

    Args:
        run: The run directory.
        data, condition: The data again, where it was in memory or lies elsewhere now.
        generator, critic: The modules again, where they were your own (freshly built).
        seconds: Bound on the training, which makes one step at least; > 0.

    Raises:
        UserError: There is no run, or a process is training in it.
    """
    if not seconds > 0:
        raise UserError(f"`seconds` must be > 0, got {seconds}")
    found = _Found()
    try:
        directory = Run.open(run)
    except DamagedError as error:
        return Verification(os.fspath(run), (str(error),), (), ())
    with directory.quiet():
        good = _check_checkpoints(directory, found)
        records = _check_records(directory, good, found)
        _check_rest(directory, found)
        own = directory.card.get("own_networks") or {}
        given = {"generator": generator, "critic": critic}
        if not good:
            found.skipped.append("nothing is trained: there is no checkpoint to begin at")
        elif missing := [role for role in own if given.get(role) is None]:
            found.skipped.append(f"nothing is trained: the run has its own {missing[0]}; give it")
        else:
            _check_loading(directory, generator, critic, found)
            _replay(directory, good, records, found, data, condition, generator, critic, seconds)
    return Verification(
        os.fspath(run), tuple(found.findings), tuple(found.checked), tuple(found.skipped)
    )


class _Found:
    """Lines, as they come."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.checked: list[str] = []
        self.skipped: list[str] = []


def _check_checkpoints(run: Run, found: _Found) -> list[int]:
    """The steps whose checkpoints are as they were written."""
    steps, good = run.steps(), []
    for step in steps:
        try:
            run.load(step)
            good.append(step)
        except UserError as error:
            found.findings.append(str(error))
    if not steps:
        found.findings.append(
            f"there is no checkpoint; to begin the run again: wgan resume {run.path}"
        )
    else:
        found.checked.append(f"checkpoints of {len(good)} steps: {', '.join(map(str, good))}")
    best = run.best_step()
    if best is not None and best not in steps:
        found.findings.append(f"the best checkpoint, of step {best}, is not there")
    return good


def _check_records(run: Run, good: list[int], found: _Found) -> list[Record]:
    try:
        records = run.records()
    except DamagedError as error:
        found.findings.append(str(error))
        return []
    steps = [record["step"] for record in records]
    wanted = list(range(1, max(len(records), *good, 0) + 1))
    if steps != wanted:
        at = next(
            (n for n, (a, b) in enumerate(zip(steps, wanted, strict=False)) if a != b), len(steps)
        )
        there = f"has step {steps[at]}" if at < len(steps) else "ends"
        found.findings.append(f"records.jsonl {there} where step {at + 1} should be")
    altered = [line for step in good if (line := run.checked_records(step)) is not None]
    found.findings += altered[:1]  # later checkpoints say the same of it
    found.checked.append(f"records of {len(records)} steps")
    return records


def _check_rest(run: Run, found: _Found) -> None:
    """What lies beside: the judgement, the plane, the pictures."""
    for check in (
        lambda: run.load_json("evaluation.json"),
        lambda: run.load_arrays("plane.safetensors"),
    ):
        try:
            check()
        except DamagedError as error:
            found.findings.append(str(error))
    if run.card.get("status") == "finished":
        for name in ("samples.png", "report.html"):
            if not (run.path / name).is_file():
                found.findings.append(f"{name} is not there; to make it: wgan resume {run.path}")


def _check_loading(
    run: Run, generator: nn.Module | None, critic: nn.Module | None, found: _Found
) -> None:
    """That samples can be drawn, without the data."""
    try:
        trained = Trained(run, generator, critic)
        finite = bool(torch.isfinite(trained.sample_training_units(2)).all())
    except UserError as error:
        found.findings.append(str(error))
        return
    if not finite:
        found.findings.append(f"the generator of step {trained.step} gives samples not finite")
    found.checked.append(f"the checkpoint of step {trained.step} loads and gives samples")


def _replay(
    run: Run,
    good: list[int],
    records: list[Record],
    found: _Found,
    data: Data | None,
    condition: NDArray[Any] | None,
    generator: nn.Module | None,
    critic: nn.Module | None,
    seconds: float,
) -> None:
    """Train on from a checkpoint, and compare with what is there."""
    recorded = {record["step"]: record for record in records}
    starts = [step for step in good if step + 1 in recorded]
    if not starts:
        found.skipped.append("nothing is trained: no checkpoint has a record after it")
        return
    start = starts[-1]
    end = start
    goal = next((step for step in good if step > start), len(records))
    while end < goal and end + 1 in recorded:
        end += 1
    try:
        source = _source(run, data, condition)
        config = config_of(run, source)
    except UserError as error:
        found.skipped.append(f"nothing is trained: {error}")
        return
    changed = differences(run, config, source)
    if changed:
        found.skipped.append(f"nothing is trained: {'; '.join(changed)}")
        return
    training, heldout = source.split(config.holdout, config.split_seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(run.card["machine"]["threads"])
    try:
        state = build_state(config, training, generator, critic)
        checkpoint = run.load(start)
        state.load(checkpoint.tensors, checkpoint.plain)
        audit = make_audit(config, training, heldout)
        if audit is not None:
            audit.load(under(checkpoint.tensors, "audit"))
        session = Session(run, config, state, training, heldout, audit=audit)
        # several processes add up in another order
        alone = processes_at(run, start + 1) == 1
        end = end if alone else start + 1
        session.recall([record for record in records if int(str(record["step"])) <= start])
        until, step = time.monotonic() + seconds, start
        for record in train(state, training, until=end):
            step = state.step
            differing = _differing(recorded[step], session.complete(record), exact=alone)
            if differing:
                found.findings.append(
                    f"step {step}, made again from the checkpoint of step {start}, differs from "
                    f"its record in {', '.join(differing)}"
                )
                return
            if time.monotonic() > until:
                break
    except (UserError, RunFailedError) as error:
        found.findings.append(f"step {start} does not lead to the next: {error}")
        return
    finally:
        torch.set_num_threads(threads)
    last = " (the last one with a record after it)" if start != good[-1] else ""
    made = f"step {step}" if step == start + 1 else f"steps {start + 1} to {step}"
    found.checked.append(
        f"{made}, made again from the checkpoint of step {start}{last}: as recorded, "
        + ("to the bit" if alone else "up to rounding (several processes had made it)")
    )
    if step < end:
        found.skipped.append(f"steps {step + 1} to {end}: more than {seconds:g} s of training")
    elif step in good and alone:
        altered = _altered(state.tensors(), run.load(step))
        if altered:
            found.findings.append(
                f"step {step}, made again from the checkpoint of step {start}, differs from its "
                f"own checkpoint in {', '.join(altered[:3])}"
            )
        else:
            found.checked.append(f"the checkpoint of step {step}, made again: equal to the bit")


def _source(run: Run, data: Data | None, condition: NDArray[Any] | None) -> Source:
    if data is None:
        data = str(run.config.get("data"))
        if data == "array":
            raise UserError("the data was in memory; give it again")
    options = data_options(run.config)
    given = data
    return looked_up(
        lambda: open_source(given, options, condition=condition), recorded_plugins(run.config)
    )


def _differing(old: Record, new: Record, *, exact: bool = True) -> list[str]:
    """The names under which two records differ, times excepted; a NaN equals itself."""
    return sorted(
        name
        for name in old.keys() | new.keys()
        if not name.endswith("_seconds")
        and repr(old.get(name)) != repr(new.get(name))
        and (exact or not _near(old.get(name), new.get(name)))
    )


def _near(old: Value, new: Value) -> bool:
    """Whether two numbers are the same up to rounding, which a step of Adam makes larger."""
    return (
        isinstance(old, float)
        and isinstance(new, float)
        and math.isclose(old, new, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    )


_ROUNDING = 1e-2


def _altered(made: dict[str, Tensor], saved: Checkpoint) -> list[str]:
    """The names of tensors that differ."""
    # a checkpoint that was gone back to holds the next draw
    free = {"rng"} if saved.plain.get("rollback_step") == saved.step else set()
    return [
        name
        for name, tensor in made.items()
        if name not in free
        and (name not in saved.tensors or not torch.equal(tensor.cpu(), saved.tensors[name]))
    ]
