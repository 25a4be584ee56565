"""One run from its first step to its last: the loop, the checkpoints, the pictures, the finish.

The command line, :func:`wgan.train` and :func:`wgan.iterate` all consume :meth:`Session.records`.
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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.auto import Departure
from wgan.build import build_state
from wgan.card import differences, make_card, now, peak_bytes, versions
from wgan.config import Config
from wgan.data.base import Source
from wgan.diagnostics import Audit, Stopping
from wgan.diagnostics.stopping import EXCESS
from wgan.errors import NonFiniteError, RunFailedError, UserError
from wgan.planning import make_audit, make_stopping, plan_audits, worth_compiling
from wgan.reports.report import Plane, ReportInput, write_report
from wgan.reports.sheet import sample_sheet
from wgan.run import Checkpoint, DamagedError, Run
from wgan.training import TrainState, bind_critic, synthesize, train
from wgan.training.player import prefixed, under
from wgan.types import Record

_SHEET = 64  # samples on a sheet
_DRAWN = 1000  # samples of a sheet of rows, and of the plane
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
    tell: Callable[[str], None] = field(default=lambda line: None, repr=False)
    _audit_seconds: float = 0.0
    _stopping: Stopping = field(default_factory=lambda: Stopping(None, None))
    _best: float = float("inf")
    _best_step: int | None = None
    _whole: bool = True  # the state stands between two steps
    _fixed: tuple[Tensor, Tensor | None] | None = None

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
    ) -> Session:
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
            config = dataclasses.replace(
                config, compile=worth_compiling(config, training, generator, critic)
            )
        state = build_state(config, training, generator, critic)
        stopping = make_stopping(config, audit, training, generator, critic)
        own = {
            role: type(module).__qualname__
            for role, module in (("generator", generator), ("critic", critic))
            if module is not None
        }
        run = Run.create(
            path, config.plain(), make_card(config, departures, source, training, heldout, own)
        )
        with contextlib.ExitStack() as unless_it_works:
            unless_it_works.callback(run.close)
            if audit is not None:
                run.card["audit"] = {"every": config.audit_every, **audit.describe()}
                run.write_card()
            session = cls(run, config, state, training, heldout, audit=audit, _stopping=stopping)
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
    ) -> Session:
        """A run as it stood at its newest good checkpoint, or before its first step.

        Raises:
            UserError: The data, the versions that matter or the settings differ from the run's, and
                `allow` is false; another process trains in it.
        """
        with contextlib.ExitStack() as unless_it_works:
            run.lock()
            unless_it_works.callback(run.close)
            changed = differences(run, config, source)
            if changed and not allow:
                raise UserError(
                    f"{run.path} cannot be resumed exactly: {'; '.join(changed)}. "
                    "Use --allow to go on all the same"
                )
            torch.set_num_threads(run.card["machine"]["threads"])
            checkpoint, said = (None, []) if not run.steps() else run.latest()
            training, heldout = source.split(config.holdout, config.split_seed)
            state = build_state(config, training, generator, critic)
            if checkpoint is not None:
                state.load(checkpoint.tensors, checkpoint.plain)
            run.drop_after(state.step)
            said += run.cut_records(state.step)
            run.config = config.plain()
            run.card["resumptions"].append(
                {
                    "step": state.step,
                    "time": now(),
                    "versions": versions(),
                    "allowed": changed,
                    "extended": run.card.get("status") == "finished",
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
            if late or self._stopping.reason or (steps is not None and state.step >= steps):
                self.status = "finished"
                return True
            self._whole = stop()  # if not, a step begins
            return self._whole

        self.status = "interrupted"  # unless the loop comes to its own end
        at = state.step
        self.run.card["status"] = "running"  # what an earlier end left there holds no longer
        self.run.write_card()
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
                    self.picture()
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
            if isinstance(error, OSError):
                raise RunFailedError(
                    f"{error}; the run is saved up to its last checkpoint: "
                    f"wgan resume {self.run.path}"
                ) from None
            raise
        finally:
            with contextlib.suppress(RunFailedError, OSError):
                if board is not None:
                    board.close()
                self.run.flush()

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
                    yield self.complete(record)
                return
            except NonFiniteError as error:
                self._roll_back(error)

    def complete(self, record: Record) -> Record:
        """A record of the state's step with what the session adds to it."""
        if self.state.rollbacks:
            record |= {"rollbacks": self.state.rollbacks, "lr_scale": self.state.lr_scale}
        every = self.config.audit_every
        if self.audit is not None and every and self.state.step % every == 0:
            audited = self.audit(self.state)
            self._audit_seconds = max(self._audit_seconds, float(str(audited["audit_seconds"])))
            record |= audited
        return record

    def _roll_back(self, error: NonFiniteError) -> None:
        """Return to the last good checkpoint, with a new draw and half the learning rates.

        The checkpoint is written again as it now stands: who resumes from it repeats what follows.
        A rollback that came to no new checkpoint is followed by one to the checkpoint before: what
        was saved while the run blew up is whole, but no good.

        Raises:
            NonFiniteError: It may not, or not again.
        """
        state, config, run = self.state, self.config, self.run
        if config.on_divergence == "stop":
            raise error
        if state.rollbacks >= config.max_rollbacks:
            raise NonFiniteError(error.term, error.step, state.rollbacks) from error
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
            {"term": error.term, "at": error.step, "to": state.step, "time": now()}
        )
        run.write_card()
        for line in said:
            self.tell(line)
        self.tell(
            f"`{error.term}` is not finite at step {error.step}; back to step {state.step} with a "
            f"new draw and {state.lr_scale:g} of the learning rates (rollback {rollbacks} of "
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
            self.picture(last=True)
            self.draw_plane()
        if self.status != "failed":
            self.run.card.pop("reason", None)
        self.run.card |= {"step": self.state.step, "status": self.status}
        self.run.card["peak_memory_bytes"] = peak_bytes(self.config.device)
        if self._stopping.reason:
            self.run.card["stopped_by"] = self._stopping.reason
        if self.audit is not None:
            self.run.card["audit"] |= self._reported(self.audit)
        self.run.write_card()

    def close(self) -> None:
        """Free the run directory for others."""
        self.run.close()

    # -- looking at it ---------------------------------------------------------------------------

    def fixed(self) -> tuple[Tensor, Tensor | None]:
        """The latents and conditions of every sheet: the same throughout the run."""
        if self._fixed is None:
            rng = torch.Generator().manual_seed(self.config.seed + 1)
            latent = torch.randn(_DRAWN, self.config.hyper.latent, generator=rng)
            rows = (
                torch.arange(_DRAWN)
                if self.source.size is None
                else _spread(self.source.size, _DRAWN)
            )
            condition = self.source.batch(rows).condition
            self._fixed = (latent, condition)
        return self._fixed

    @property
    def stopped_by(self) -> str | None:
        """Why a rule ended the run, in words; None where none did."""
        return self._stopping.reason

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

    def picture(self, *, last: bool = False) -> None:
        """Write the sheet of this step; the last one also as `samples.png`."""
        latent, condition = self.fixed()
        count = _SHEET if self.source.codec.kind != "rows" else _DRAWN
        fake = synthesize(
            self.state.average,
            latent[:count],
            None if condition is None else condition[:count],
            self.state.like,
        )
        own = self.source.codec.decode(fake)
        pictures = self.source.codec.kind == "image" and self.source.codec.low is not None
        real = None if pictures else self._real(count)  # the sheet's frame or colour scale
        place = self.run.path / "samples" / f"{self.state.step:08d}.png"
        sample_sheet(own, self.source.codec, path=place, real=real)
        if last:
            sample_sheet(own, self.source.codec, path=self.run.path / "samples.png", real=real)

    def draw_plane(self) -> None:
        """Save samples, data and the critic's level lines, for unconditional data in the plane."""
        codec = self.source.codec
        if codec.shape != (2,) or codec.condition or self.state.critic is None:
            return
        latent, _ = self.fixed()
        fake = codec.decode(synthesize(self.state.average, latent, None, self.state.like))
        real = self._real(_DRAWN)
        both = np.concatenate([real, fake])
        low, high = np.quantile(both, [0.01, 0.99], axis=0)
        margin = 0.25 * (high - low) + 1e-9
        x, y = (np.linspace(low[j] - margin[j], high[j] + margin[j], 100) for j in range(2))
        grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        module = self.state.critic.module.eval()
        with torch.no_grad():
            score = bind_critic(module, None)(codec.encode(grid).to(self.state.like)).score
        module.train()
        level = score.double().cpu().numpy().reshape(len(y), len(x))
        self.run.save_arrays(
            "plane.safetensors", {"real": real, "fake": fake, "x": x, "y": y, "score": level}
        )

    # -- within ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Checkpoint 0 and the first pictures."""
        if not self.run.steps():
            self._save()
        with self.run.writing():
            self._picture_real()
            self.picture()

    def _remember(self, checkpoint: Checkpoint) -> None:
        """Take up what a checkpoint says of those before it, and what the records say."""
        self._best = checkpoint.plain.get("best", float("inf"))
        self._best_step = checkpoint.plain.get("best_step")
        self.run.mark_best(self._best_step if self._best_step in self.run.steps() else None)
        if self.audit is not None:
            self.audit.load(under(checkpoint.tensors, "audit"))
        self._stopping = Stopping(self._stopping.rule, self._stopping.patience)
        extended = [r["step"] for r in self.run.card["resumptions"] if r.get("extended")]
        for record in self.run.records():
            self._stopping.see(record)
            if record["step"] in extended:
                self._stopping.renew()

    def _save(self, excess: float | None = None) -> None:
        best = excess is not None and excess < self._best
        if excess is not None and best:
            self._best, self._best_step = excess, self.state.step
        plain = {**self.state.plain(), "best": self._best, "best_step": self._best_step}
        tensors = self.state.tensors()
        if self.audit is not None:
            tensors |= prefixed("audit", self.audit.tensors())
        _, condition = self.fixed()
        if condition is not None:  # so that samples can be drawn under them without the data
            tensors["conditions"] = condition
        self.run.save(Checkpoint(self.state.step, tensors, plain), best=best)

    def _real(self, count: int) -> NDArray[Any]:
        size = self.source.size
        rows = torch.arange(count) if size is None else _spread(size, count)
        return self.source.codec.decode(self.source.batch(rows).values)

    def _picture_real(self) -> None:
        count = _SHEET if self.source.codec.kind != "rows" else _DRAWN
        path = self.run.path / "samples" / "real.png"
        real = self._real(count)
        sample_sheet(real, self.source.codec, path=path, real=real)


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


def _spread(size: int, count: int) -> Tensor:
    """`count` row numbers spread evenly over `size` rows, repeating where there are fewer."""
    if count > size:
        return torch.arange(count) % size
    return torch.arange(count) * size // count


def _to_board(board: Any, record: Record, step: int) -> None:
    for name, value in record.items():
        if name != "step" and isinstance(value, (int, float)):
            board.add_scalar(name, value, step)
