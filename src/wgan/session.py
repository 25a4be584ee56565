"""One run from its first step to its last: the loop, the checkpoints, the pictures, the finish.

The command line, :func:`wgan.train` and :func:`wgan.iterate` all consume :meth:`Session.records`.
Of several processes the first has the session, and the others a :class:`Follower`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wgan.auto import Departure
from wgan.build import build_state
from wgan.card import differences, make_card, now, peak_bytes, processes_at, versions
from wgan.config import Config
from wgan.data.base import Source
from wgan.diagnostics import Audit, Said, Stopping, Watch, data_facts
from wgan.diagnostics.stopping import EXCESS
from wgan.errors import (
    NonFiniteError,
    OutOfMemoryError,
    RankLostError,
    RunFailedError,
    UserError,
)
from wgan.follower import Follower, saved
from wgan.memory import ran_out
from wgan.pictures import Pictures
from wgan.planning import make_audit, make_stopping, plan_audits, worth_compiling
from wgan.reports.report import Plane, ReportInput, write_report
from wgan.run import Checkpoint, DamagedError, Run
from wgan.training import TrainState, ranks, train
from wgan.training.agreement import require_agreement
from wgan.training.player import prefixed, under
from wgan.types import Record

_TENSORBOARD_EVERY = 10  # steps


@dataclass
class Session:
    """A run in memory.

    Attributes:
        run: Its directory.
        config: What it is.
        state: Where it stands.
        source: What it trains on.
        heldout: What it never trains on.
        said: Lines for the user: damaged checkpoints, differences that were allowed.
        deadline: `time.monotonic` value by which the command should be over, or None.
        started: `time.monotonic` value when the command began.
        status: running, interrupted, failed or finished.
        audit: What judges it on the way; None where it has no audits.
        pictures: What it draws on its way.
        watch: The doctor's rules, which look at the records as they come.
        said_now: What they said of the newest record.
        departures: Where the configuration departs from the published one; of a new run.
        tell: Called with a line for the user, of what happens while the run goes on.
    """

    run: Run
    config: Config
    state: TrainState
    source: Source
    heldout: Source
    said: list[str] = field(default_factory=list)
    deadline: float | None = None
    started: float = field(default_factory=time.monotonic)
    status: str = "running"
    audit: Audit | None = None
    departures: tuple[Departure, ...] = ()
    tell: Callable[[str], None] = field(default=lambda line: None, repr=False)
    watch: Watch = field(init=False, repr=False)
    pictures: Pictures = field(init=False, repr=False)
    said_now: Said = field(default_factory=Said, repr=False)
    _audit_seconds: float = 0.0
    _stopping: Stopping = field(default_factory=lambda: Stopping(None, None))
    _best: float = float("inf")
    _best_step: int | None = None
    _whole: bool = True  # the state stands between two steps

    def __post_init__(self) -> None:
        self.pictures = Pictures(self.run, self.source, self.config.hyper.latent, self.config.seed)
        self.recall([])

    # -- beginnings ------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: Path,
        config: Config,
        departures: tuple[Departure, ...],
        source: Source,
        *,
        generator: nn.Module | None = None,
        critic: nn.Module | None = None,
    ) -> Session | Follower:
        """A new run: its directory, its card, checkpoint 0 and the first pictures.

        Args:
            path: The run directory, which must not exist.
            config: The resolved configuration.
            departures: Where it departs from the published one.
            source: All the data; split here.
            generator, critic: The user's own networks in place of the recipe's.
        """
        training, heldout = source.split(config.holdout, config.split_seed)
        audit = None
        if config.audit_every is None:
            audit, every = plan_audits(config, training, heldout, generator, critic)
            config = dataclasses.replace(config, audit_every=every)
        if audit is None and config.audit_every:
            audit = make_audit(config, training, heldout)
        if config.compile == "auto":
            choice, why = worth_compiling(config, training, generator, critic)
            config = dataclasses.replace(config, compile=choice)
            departures += (Departure("compile", "auto", choice, why),)
        if ranks.rank():
            return Follower.of(path, config, training, heldout, generator, critic, departures)
        state = build_state(config, training, generator, critic)
        ranks.equalise(state)
        require_agreement(state, training)
        stopping = make_stopping(config, audit, training, generator, critic)
        own = {
            role: type(module).__qualname__
            for role, module in (("generator", generator), ("critic", critic))
            if module is not None
        }
        card = make_card(config, departures, source, training, heldout, own)
        if audit is not None:  # from the first write on: a kill may follow it
            card["audit"] = {"every": config.audit_every, **audit.describe()}
        run = Run.create(path, config.plain(), card)
        with contextlib.ExitStack() as unless_it_works:
            unless_it_works.callback(run.close)
            session = cls(
                *(run, config, state, training, heldout),
                audit=audit,
                departures=departures,
                _stopping=stopping,
            )
            session._begin()
            unless_it_works.pop_all()
        return session

    @classmethod
    def resume(
        cls,
        run: Run,
        config: Config,
        source: Source,
        *,
        allow: bool = False,
        generator: nn.Module | None = None,
        critic: nn.Module | None = None,
    ) -> Session | Follower:
        """A run as it stood at its newest good checkpoint, or before its first step.

        Raises:
            UserError: The data, the versions that matter or the settings differ from the run's, and
                `allow` is false; another process trains in it.
        """
        if ranks.rank():
            _restore_threads(run)
            training, heldout = source.split(config.holdout, config.split_seed)
            return Follower.of(run.path, config, training, heldout, generator, critic)
        with contextlib.ExitStack() as unless_it_works:
            run.lock()
            unless_it_works.callback(run.close)
            changed = differences(run, config, source)
            if changed and not allow:
                raise UserError(
                    f"{run.path} cannot be resumed exactly: {'; '.join(changed)}. "
                    "Use --allow to go on all the same"
                )
            _restore_threads(run)
            checkpoint, said = (None, []) if not run.steps() else run.latest()
            training, heldout = source.split(config.holdout, config.split_seed)
            state = build_state(config, training, generator, critic)
            if checkpoint is not None:
                state.load(checkpoint.tensors, checkpoint.plain)
            extended = run.card.get("status") == "finished"
            if state.planned and (extended or state.step in _extended(run)):
                state.bend, state.planned = (0, 0.0), 2 * state.step
            ranks.equalise(state)
            require_agreement(state, training)
            run.drop_after(state.step)
            said += run.cut_records(state.step)
            run.config = config.plain()
            run.card["resumptions"].append(
                {
                    "step": state.step,
                    "time": now(),
                    "versions": versions(),
                    "processes": ranks.describe(),
                    "allowed": changed,
                    "extended": extended,
                }
            )
            run.write_config()
            run.write_card()
            audit = make_audit(config, training, heldout)
            session = cls(
                run,
                config,
                state,
                training,
                heldout,
                said=said + changed,
                audit=audit,
                _stopping=make_stopping(config, audit, training, generator, critic),
            )
            if checkpoint is not None:
                session._remember(checkpoint)
            if state.step == 0:  # it may have been killed before it got this far
                session._begin()
            unless_it_works.pop_all()
        return session

    # -- the loop --------------------------------------------------------------------------------

    def records(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """Train to the end of the budget, and yield every record once it is logged.

        Checkpoints and sheets fall on fixed step numbers, so that a resumed run repeats them.

        Args:
            stop: Asked before every step; true ends the run early and resumably.

        Raises:
            RunFailedError: Something was not finite, or the disk is full. The last good checkpoint
                is in place.
        """
        from torch.utils.tensorboard import SummaryWriter

        config, state = self.config, self.state
        steps = config.steps

        def done(state: TrainState) -> bool:
            late = self.deadline is not None and (time.monotonic() > self.deadline - self.reserve())
            ended = late or self._stopping.reason or (steps is not None and state.step >= steps)
            wish = ranks.agree(ranks.FINISH if ended else ranks.STOP if stop() else ranks.GO)
            if wish == ranks.FINISH:
                self.status = "finished"
                return True
            self._whole = wish == ranks.STOP  # if not, a step begins
            return self._whole

        self.status = "interrupted"  # unless the loop comes to its own end
        at = state.step
        self.run.card["status"] = "running"  # what an earlier end left there holds no longer
        self.run.write_card()
        began, first = time.monotonic(), state.step
        board = None
        try:
            board = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=state.step + 1)
            for record in self._train(done):
                step = state.step
                if step <= at:  # after a rollback
                    board.close()
                    board = SummaryWriter(str(self.run.path / "tensorboard"), purge_step=step)
                at = step
                self.run.log(record)
                self._stopping.see(record)
                if step % _TENSORBOARD_EVERY == 0 or EXCESS in record:
                    _to_board(board, record, step)
                if step % config.sample_every == 0:
                    self.pictures.sheet(self.state)
                if step % config.checkpoint_every == 0:
                    self._plan(began, first)
                excess = record.get(EXCESS)
                better = isinstance(excess, float) and excess < self._best
                if better or step % config.checkpoint_every == 0:
                    self._save(excess if isinstance(excess, float) else None)
                self._whole = True
                self._note_compiling()
                yield record
        except (RunFailedError, OSError) as error:
            self.status = "failed"
            self.run.card |= {"status": self.status, "step": state.step, "reason": str(error)}
            with contextlib.suppress(RunFailedError):  # the disk may be what failed
                self.run.write_card()
            if isinstance(error, (OSError, RankLostError)):
                raise saved(error, self.run.path) from None
            raise
        finally:
            with contextlib.suppress(RunFailedError, OSError):
                if board is not None:
                    board.close()
                self.run.flush()

    def _plan(self, began: float, first: int) -> None:
        """Expect the end of a run that is bounded by seconds alone, from its pace since `first`.

        Where a schedule moves. What is expected goes into the checkpoint of this step: a run that
        is resumed from it has the same rates.
        """
        if self.config.hyper.schedule == "constant" or self.config.steps or not self.deadline:
            return
        now, state = time.monotonic(), self.state
        if state.step > first:
            pace = (now - began) / (state.step - first)
            state.plan(state.step + round((self.deadline - self.reserve() - now) / pace))
            self.run.card["planned"] = {"step": state.step, "steps": state.planned}
            self._hand_on()

    def _note_compiling(self) -> None:
        """Write on the card, once, what was compiled and what was not and why."""
        compiled = self.state.compiled
        if compiled is None or self.run.card.get("compile") == compiled.describe():
            return
        self.run.card["compile"] = compiled.describe()
        self.run.write_card()
        for player, reason in compiled.refused.items():
            self.tell(f"the {player}'s loss runs eagerly: {reason}")

    def _train(self, done: Callable[[TrainState], bool]) -> Iterator[Record]:
        """The records as they are logged, from before and after every rollback."""
        while True:
            try:
                for record in train(self.state, self.source, until=done):
                    completed = self.complete(record)
                    if self.said_now.findings and self._act():
                        break
                    yield completed
                else:
                    return
            except NonFiniteError as error:
                self._may_roll_back(error)
                self._roll_back(error.term, error.step, f"`{error.term}` is not finite")
                ranks.equalise(self.state)
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
                raise OutOfMemoryError(
                    f"memory ran out at step {self.state.step + 1:,}; what is saved is good: "
                    "resume when other programs have ended, or train with a smaller --batch-size "
                    "or --width, or with --accumulate"
                ) from error

    def complete(self, record: Record) -> Record:
        """A record of the state's step with what the session adds to it."""
        if self.state.rollbacks:
            record |= {"rollbacks": self.state.rollbacks, "lr_scale": self.state.lr_scale}
        every = self.config.audit_every
        if self.audit is not None and every and self.state.step % every == 0:
            audited = self.audit(self.state)
            self._audit_seconds = max(self._audit_seconds, float(str(audited["audit_seconds"])))
            record |= audited
        self.said_now = self.watch.see(record, rollbacks=self.state.rollbacks)
        record |= self.said_now.record()
        if self.watch.n_critic is not None:
            self.state.set_n_critic(self.watch.n_critic)
            record["n_critic"] = self.watch.n_critic
        return record

    def recall(self, records: Sequence[Record]) -> None:
        """Have seen these records, and none after them."""
        config = self.config
        self.watch = Watch(
            config.plain(),
            config.objective.estimate,
            lambda: data_facts(self.source),
            None if self.audit is None else self.audit.describe()["floor"],
        )
        for record in records:
            self.watch.recall(record)
        self.state.set_n_critic(self.watch.n_critic or config.method().n_critic)

    def _act(self) -> bool:
        """Note on the card what was said of a step, and go back where `heed` asks for it.

        Returns:
            Whether the run went back, and the step's record is void.
        """
        said, step = self.said_now, self.state.step
        for finding in said.findings:
            self.run.card.setdefault("warnings", []).append(
                {"step": step, **dataclasses.asdict(finding), "done": said.done(finding)}
            )
        self.run.write_card()
        if said.act == "roll back":
            self._roll_back(said.on, step, f"{said.on} ({said.evidence})")
        elif said.act is not None:
            self.tell(f"step {step:,}: {said.on}; --heed: {said.done()}")
        if said.act in ("roll back", "n_critic"):
            self._hand_on()
        return said.act == "roll back"

    def _hand_on(self) -> None:
        """Give the other processes the state as it is now, between two steps."""
        ranks.agree(ranks.TAKE)
        ranks.equalise(self.state)

    def _may_roll_back(self, error: NonFiniteError) -> None:
        """Raise the error unless the run may go back, and once more."""
        if self.config.on_divergence == "stop":
            raise error
        if self.state.rollbacks >= self.config.max_rollbacks:
            raise NonFiniteError(error.term, error.step, self.state.rollbacks) from error

    def _roll_back(self, term: str, at: int, why: str) -> None:
        """Return to the last good checkpoint, with a new draw and half the learning rates.

        The checkpoint is written again as it now stands: who resumes from it repeats what follows.
        A rollback that came to no new checkpoint is followed by one to the checkpoint before: what
        was saved while the run blew up is whole, but no good.

        Args:
            term: What makes it go back, for the card.
            at: The step that was reached.
            why: In words.
        """
        state, config, run = self.state, self.config, self.run
        rollbacks = state.rollbacks + 1
        steps = run.regular_steps()  # where a run that never stopped would go back to
        checkpoint, said = run.latest(steps)
        older = [step for step in steps if step < checkpoint.step]
        if checkpoint.step == state.rollback_step and older:
            checkpoint, more = run.latest(older)
            said += more
        run.drop_after(checkpoint.step)
        said += run.cut_records(checkpoint.step)
        state.load(checkpoint.tensors, checkpoint.plain)
        self._remember(checkpoint)
        state.roll_back(rollbacks)
        self._save()
        run.card.setdefault("rollbacks", []).append(
            {"term": term, "at": at, "to": state.step, "time": now()}
        )
        run.write_card()
        for line in said:
            self.tell(line)
        self.tell(
            f"{why} at step {at}; back to step {state.step} with a new draw and "
            f"{state.lr_scale:g} of the learning rates (rollback {rollbacks} of "
            f"{config.max_rollbacks})"
        )

    def reserve(self) -> float:
        """Seconds of a bounded command that are kept for pictures, judgement and report."""
        if self.deadline is None:
            return 0.0
        return min(0.25 * (self.deadline - self.started), 15.0 + self._audit_seconds)

    def finish(self) -> None:
        """The last checkpoint and the last pictures; :func:`report` comes after it.

        A state that an error or an interrupt left within a step is not saved: the run goes on from
        the checkpoint before.
        """
        if self._whole and self.state.step not in self.run.steps():
            self._save()
        with self.run.writing():
            self.pictures.sheet(self.state, last=True)
            self.pictures.plane(self.state)
        if self.status != "failed":
            self.run.card.pop("reason", None)
        self.run.card |= {"step": self.state.step, "status": self.status}
        self.run.card["peak_memory_bytes"] = peak_bytes(self.config.device)
        if self._stopping.reason:
            self.run.card["stopped_by"] = self._stopping.reason
        if self.audit is not None:
            self.run.card["audit"] |= self._reported(self.audit)
        self.run.write_card()

    @property
    def stopped_by(self) -> str | None:
        """Why a rule ended the run, in words; None where none did."""
        return self._stopping.reason

    def end(self, reason: str) -> None:
        """Let the run end after the step it is at, as if a rule of its own had said so."""
        self._stopping.reason = reason

    def close(self) -> None:
        """Free the run directory for others."""
        self.run.close()

    # -- within ----------------------------------------------------------------------------------

    def _reported(self, audit: Audit) -> dict[str, Any]:
        """The last state and the best checkpoint, on held-out data that no audit has seen."""
        found: dict[str, Any] = {"last": {"step": self.state.step}}
        states = {"last": self.state.average}
        best = self.run.best_step()
        if best is not None and best != self.state.step:
            with contextlib.suppress(DamagedError):
                checkpoint = self.run.load(best)
                states["best"] = deepcopy(self.state.average)
                role = "average" if self.state.method.average else "generator.module"
                states["best"].load_state_dict(under(checkpoint.tensors, role))
                found["best"] = {"step": best}
        for name, module in states.items():
            excess = audit.report(module, self.state.like)
            if excess is not None:
                found[name] |= {
                    "excess": excess.value,
                    "low": excess.low,
                    "high": excess.high,
                    "floor": excess.floor,
                    "size": excess.size,
                }
        return found

    def _begin(self) -> None:
        """Checkpoint 0 and the first pictures."""
        if not self.run.steps():
            self._save()
        with self.run.writing():
            self.pictures.real()
            self.pictures.sheet(self.state)

    def _remember(self, checkpoint: Checkpoint) -> None:
        """Take up what a checkpoint says of those before it, and what the records say."""
        self._best = checkpoint.plain.get("best", float("inf"))
        self._best_step = checkpoint.plain.get("best_step")
        self.run.mark_best(self._best_step if self._best_step in self.run.steps() else None)
        if self.audit is not None:
            self.audit.load(under(checkpoint.tensors, "audit"))
        self._stopping = Stopping(self._stopping.rule, self._stopping.patience)
        records = self.run.records()
        self.recall(records)
        self._forget_after(checkpoint.step)
        extended = _extended(self.run)
        for record in records:
            self._stopping.see(record)
            if record["step"] in extended:
                self._stopping.renew()

    def _forget_after(self, step: int) -> None:
        """Take the warnings of later steps off the card: they will be said again.

        Those that made the run go back stay: it does not come to them again.
        """
        if "warnings" in self.run.card:
            self.run.card["warnings"] = [
                said
                for said in self.run.card["warnings"]
                if said["step"] <= step or str(said["done"]).startswith("rolled back")
            ]
            self.run.write_card()

    def _save(self, excess: float | None = None) -> None:
        best = excess is not None and excess < self._best
        if excess is not None and best:
            self._best, self._best_step = excess, self.state.step
        plain = {**self.state.plain(), "best": self._best, "best_step": self._best_step}
        tensors = self.state.tensors()
        if self.audit is not None:
            tensors |= prefixed("audit", self.audit.tensors())
        _, condition = self.pictures.fixed
        if condition is not None:  # so that samples can be drawn under them without the data
            tensors["conditions"] = condition
        self.run.save(Checkpoint(self.state.step, tensors, plain), best=best)


def _restore_threads(run: Run) -> None:
    """As many threads as the run began with: the last bits of a sum depend on them.

    Among other numbers of processes they would be too many or too few, and the bits differ anyway.
    """
    if processes_at(run, 1) == ranks.world():
        torch.set_num_threads(run.card["machine"]["threads"])


def report(runs: Sequence[Run], place: Path | None = None) -> Path:
    """Write the report of one run, or of several on the same data; where it was written.

    Raises:
        UserError: The runs are on different data.
    """
    inputs = []
    own = runs[0] if len(runs) == 1 and place is None else None
    for run in runs:
        run.flush()
        plane = run.load_arrays("plane.safetensors")
        inputs.append(
            ReportInput(
                run,
                run.records(),
                Plane(**plane) if plane else None,
                run.load_json("evaluation.json"),
            )
        )
    if place is None:
        place = runs[0].path / "report.html" if len(runs) == 1 else Path("report.html")
    write_report(place, inputs)
    if own is not None and own.locked and "step" in own.card:
        own.card["reported"] = own.card["step"]  # the last thing that a whole run comes to
        own.write_card()
    return place


def _extended(run: Run) -> list[int]:
    """The steps at which the run was over and then went on."""
    return [r["step"] for r in run.card["resumptions"] if r.get("extended")]


def _to_board(board: Any, record: Record, step: int) -> None:
    for name, value in record.items():
        if name != "step" and isinstance(value, (int, float)):
            board.add_scalar(name, value, step)
