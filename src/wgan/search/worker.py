"""One process's part of a sweep: take a trial, train it, say what became of it; again."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wgan.config import resolve
from wgan.data.base import Source
from wgan.diagnostics.stopping import EXCESS
from wgan.errors import NonFiniteError, OutOfMemoryError, UserError
from wgan.memory import refuse_what_does_not_fit
from wgan.run import Run
from wgan.search.results import shown
from wgan.search.space import Space, Value, applies, settings_at
from wgan.search.storage import Lock, Plan, open_study, sampler, sweep_lock, trial_lock
from wgan.session import Session
from wgan.trained import config_of
from wgan.types import Record

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

_DEATHS = 3  # of processes on one trial, after which it counts as failed


@dataclass
class Worker:
    """Works through the trials of a sweep, beside others that do.

    Attributes:
        place: The sweep's directory.
        plan: What all trials share.
        space: What is searched.
        source: The data.
        deadline: `time.monotonic` value at which nothing more is begun, and training stops.
        stop: Asked before every step; true ends the work resumably.
        tell: Called with a line for the user.
    """

    place: Path
    plan: Plan
    space: Space
    source: Source
    deadline: float = math.inf
    stop: Callable[[], bool] = lambda: False
    tell: Callable[[str], None] = field(default=lambda line: None, repr=False)
    _study: Study = field(init=False, repr=False)

    def __call__(self) -> None:
        """Train until no trial is left, the time is over, or it is stopped."""
        self._study = open_study(self.place, self.plan)
        while not self._over():
            with sweep_lock(self.place):
                taken = self._take()
            if taken is None:
                return
            trial, lock = taken
            try:
                self._train(trial)
            finally:
                lock.release()

    def _over(self) -> bool:
        return self.stop() or time.monotonic() > self.deadline

    # -- which trial -----------------------------------------------------------------------------

    def _take(self) -> tuple[Trial, Lock] | None:
        """A trial that a process left, or a new one, with its lock; under the sweep's lock."""
        from optuna.trial import Trial, TrialState

        trials = self._study.get_trials(deepcopy=False)
        for frozen in trials:
            if frozen.state != TrialState.RUNNING:
                continue
            lock = trial_lock(self.place, frozen.number)
            if not lock.acquire(wait=False):
                continue  # another process trains it
            if self._left(frozen):
                return Trial(self._study, frozen._trial_id), lock
            lock.release()
        begun = [frozen for frozen in trials if frozen.state != TrialState.WAITING]
        if len(begun) >= self.plan.trials:
            return None
        self._study.sampler = sampler(self.plan, len(begun))
        trial = self._study.ask()
        lock = trial_lock(self.place, trial.number)
        lock.acquire()
        return trial, lock

    def _left(self, frozen: FrozenTrial) -> bool:
        """Whether to go on with a trial that nobody trains; else it is marked as failed."""
        from optuna.trial import TrialState

        number, attrs = frozen.number, frozen.user_attrs
        storage, trial_id = self._study._storage, frozen._trial_id
        if attrs.get("paused"):
            storage.set_trial_user_attr(trial_id, "paused", False)
            self.tell(f"trial {number}: going on where it was stopped")
            return True
        deaths = int(attrs.get("deaths", 0)) + 1
        storage.set_trial_user_attr(trial_id, "deaths", deaths)
        if deaths >= _DEATHS:
            reason = f"{deaths} processes died while they trained it"
            storage.set_trial_user_attr(trial_id, "reason", reason)
            self._study.tell(number, state=TrialState.FAIL)
            self.tell(f"trial {number}: failed, {reason}")
            return False
        self.tell(f"trial {number}: taken up again, the process that trained it is dead")
        return True

    # -- one trial -------------------------------------------------------------------------------

    def _point(self, trial: Trial) -> dict[str, Value]:
        point: dict[str, Value] = {}
        for name, dimension in self.space.items():
            if applies(name, self.plan.given, point, self.source):
                point[name] = dimension.suggest(trial, name)
        return point

    def _train(self, trial: Trial) -> None:
        began = time.monotonic()
        point = self._point(trial)
        said = ", ".join(f"{name} {shown(value)}" for name, value in point.items())
        self.tell(f"trial {trial.number}: {said}")
        spent = float(trial.user_attrs.get("seconds", 0.0))

        def note(**found: Any) -> None:
            for name, value in {"seconds": spent + time.monotonic() - began, **found}.items():
                trial.set_user_attr(name, value)

        try:
            session = self._session(trial.number, point)
        except _RefusedError as error:
            note(reason=str(error))
            self._end(trial, "failed", str(error))
            return
        session.tell = lambda line: self.tell(f"trial {trial.number}: {line}")
        pruned = ""

        def judge(step: int) -> None:
            nonlocal pruned
            pruned = pruned or self._pruned(trial, step)
            if pruned:
                # If this process dies before the run has ended, Hyperband will not say it again.
                note(pruned=pruned)
                session.end(f"pruned: {pruned}")

        with contextlib.closing(session):
            # An earlier process may have died after an audit and before the journal had it, or
            # while it brought the run of a pruned trial to its end.
            pruned = str(trial.user_attrs.get("pruned", ""))
            for record in session.run.records():
                if self._journal(trial, record):
                    judge(int(str(record["step"])))
            if pruned:
                session.end(f"pruned: {pruned}")
            try:
                for record in session.records(self._over):
                    self._journal(trial, record)
                    if EXCESS in record:
                        judge(session.state.step)
            except NonFiniteError as error:
                note(reason=str(error), steps=session.state.step)
                self._end(trial, "failed", f"`{error.term}` is not finite at step {error.step}")
                return
            except OutOfMemoryError as error:
                note(reason=str(error), steps=session.state.step)
                self._end(trial, "failed", str(error))
                return
            session.finish()
        step = session.state.step
        if session.status != "finished":
            note(paused=True, steps=step)
            self.tell(f"trial {trial.number}: stopped at step {step:,}, saved")
            return
        card = session.run.card.get("audit") or {}
        note(
            reason=pruned,
            steps=step,
            reported=card.get("best") or card.get("last"),
            unit=card.get("unit"),
            space=card.get("space"),
            samples=card.get("samples"),
        )
        self._end(trial, "pruned" if pruned else "complete", pruned)

    def _session(self, number: int, point: Mapping[str, Value]) -> Session:
        """The run of a trial, begun or gone on with.

        Raises:
            _RefusedError: Its settings do not go together, or it cannot be gone on with.
        """
        path = self.place / "trials" / f"{number:04d}"
        if (path / "card.json").is_file():
            try:
                run = Run.open(path)
                resumed = Session.resume(run, config_of(run, self.source), self.source)
            except UserError as error:
                raise _RefusedError(str(error)) from None
            assert isinstance(resumed, Session)  # a trial has one process
            return resumed
        plan = self.plan
        settings = settings_at(plan.given, point)
        lengths = {
            "checkpoint_every": plan.audit_every,
            "sample_every": plan.steps,
            **settings,
            "steps": plan.steps,
            "audit_every": plan.audit_every,
        }
        try:
            config, departures = resolve(lengths, self.source, plan.data)
            refuse_what_does_not_fit(config, self.source)
        except UserError as error:
            raise _RefusedError(str(error)) from None
        session = Session.create(path, config, departures, self.source)
        assert isinstance(session, Session)
        session.run.card["sweep"] = {"trial": number, **point}
        session.run.write_card()
        return session

    def _journal(self, trial: Trial, record: Record) -> bool:
        """Write an audit into the journal; whether it was one that the journal did not have.

        A run that has gone back to a checkpoint audits the same steps again, with other numbers.
        """
        step, excess = record["step"], record.get(EXCESS)
        assert isinstance(step, int)
        values = self._values(trial)
        if not isinstance(excess, float) or values.get(step) == excess:
            return False
        if step in values:  # `report` would keep the first number
            self._study._storage.set_trial_intermediate_value(trial._trial_id, step, excess)
        else:
            trial.report(excess, step)
        return True

    def _pruned(self, trial: Trial, step: int) -> str:
        """Why the trial ends at the audit of this step, in words, or nothing."""
        values = self._values(trial)
        behind = step < max(values)  # after a rollback; pruners look at the last step alone
        if step >= self.plan.steps or behind or not trial.should_prune():
            return ""
        if self.plan.pruner == "median":
            others = [
                t.intermediate_values[step]
                for t in self._study.get_trials(deepcopy=False)
                if t.state.name == "COMPLETE" and step in t.intermediate_values
            ]
            middle = statistics.median(others) if others else math.nan
            ran = f"{len(others)} trial{'s' * (len(others) != 1)} that ran on"
            return (
                f"its smallest excess up to step {step:,} is {min(values.values()):.4g}, and the "
                f"median of the {ran} was {middle:.4g} there"
            )
        return (
            f"its excess at step {step:,} is {values[step]:.4g}, which is not in the best third of "
            "its Hyperband bracket so far"
        )

    def _values(self, trial: Trial) -> Mapping[int, float]:
        return self._study._storage.get_trial(trial._trial_id).intermediate_values

    def _end(self, trial: Trial, state: str, reason: str) -> None:
        from optuna.trial import TrialState

        values = self._values(trial)
        if state == "complete":
            best = min(values.values())
            step = min(step for step, value in values.items() if value == best)
            self._study.tell(trial, best)
            self.tell(f"trial {trial.number}: excess {best:.4g}, at step {step:,}")
            return
        self._study.tell(trial, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)
        self.tell(f"trial {trial.number}: {state}, {reason}")


class _RefusedError(Exception):
    """A trial that cannot be trained, whose sweep goes on."""
