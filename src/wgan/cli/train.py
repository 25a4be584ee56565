"""``wgan train``, and the part of it that `wgan resume` shares."""

from __future__ import annotations

import contextlib
import json as json_format
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from wgan.cli import STARTED
from wgan.cli.flags import (
    AuditFlags,
    DataFlags,
    MethodFlags,
    NetworkFlags,
    Plugins,
    load_plugins,
    settings_from,
)
from wgan.cli.progress import Progress
from wgan.cli.signals import Stopper

if TYPE_CHECKING:
    from wgan.follower import Follower
    from wgan.session import Session

_REPORT_SECONDS = 3.0
_BEFORE = 0.3  # of `--seconds`: so much before the first step is worth a word
_MORE = 100  # steps at least that are suggested
_TERMINATED = 128 + signal.SIGTERM  # where another process heard the signal

_DEFAULT_DATA = DataFlags()
_DEFAULT_METHOD = MethodFlags()
_DEFAULT_NETWORKS = NetworkFlags()
_DEFAULT_AUDIT = AuditFlags()


def train(
    data: str | None = None,
    /,
    *,
    recipe: str | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    out: Path | None = None,
    settings: str | None = None,
    device: str | None = None,
    config: Path | None = None,
    plugin: Plugins = None,
    checkpoint_every: int | None = None,
    sample_every: int | None = None,
    on_divergence: Literal["stop", "rollback"] | None = None,
    max_rollbacks: int | None = None,
    heed: bool | None = None,
    data_flags: DataFlags = _DEFAULT_DATA,
    method_flags: MethodFlags = _DEFAULT_METHOD,
    network_flags: NetworkFlags = _DEFAULT_NETWORKS,
    audit_flags: AuditFlags = _DEFAULT_AUDIT,
    judge: int | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Train a generator against a critic on DATA, and end with samples to look at.

    Example: `wgan train digits --recipe wgan-gp --seconds 60`

    Args:
        data: A name (`wgan data` lists them), a folder or zip of pictures, a folder of shards
            (.tar, .parquet), an array (.npy, .npz,
            HDF5, IDX) or a table (.csv, .parquet) [digits].
        recipe: A published method; `wgan recipes` lists them [wgan-gp].
        steps: Generator updates in all.
        seconds: Bound on the whole command, checks and pictures included.
        seed: Of everything random [0].
        out: The run directory [runs/NUMBER-DATA-RECIPE].
        settings: `published`: the paper's to the letter; `auto`: adapted to the data and the
            machine, each departure printed [auto].
        device: auto, cpu or cuda [auto].
        config: A YAML file of settings, such as a run's config.yaml; flags win.
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        checkpoint_every: Steps between checkpoints.
        sample_every: Steps between sample sheets.
        on_divergence: When a loss or gradient is not finite: stop, or rollback to the last good
            checkpoint with a new draw and half the learning rates [stop].
        max_rollbacks: How often at most [3].
        heed: Act on what the doctor finds on the way: roll back, train the critic more, or stop.
        judge: Samples judged against the data at the end; 0 for none [at most 2,000].
        quiet: Show nothing while training.
        json: Print the result as JSON.
    """
    flags = load_plugins(plugin)
    given = settings_from(
        data_flags,
        method_flags,
        network_flags,
        audit_flags,
        config=config,
        recipe=recipe,
        steps=steps,
        seconds=seconds,
        seed=seed,
        settings=settings,
        device=device,
        checkpoint_every=checkpoint_every,
        sample_every=sample_every,
        on_divergence=on_divergence,
        max_rollbacks=max_rollbacks,
        heed=heed,
    )
    name = data or given.pop("data", None) or "digits"
    given.pop("data", None)
    from wgan.api import start
    from wgan.session import Session
    from wgan.training import ranks

    quiet = quiet or json
    if (again := _begun(out, quiet)) is not None:
        return train_session(again, judge=judge, quiet=quiet, json=json, flags=flags)
    session, departures = start(
        name, given, out, started=STARTED, progress=None if quiet else _decoding
    )
    if not quiet and isinstance(session, Session):
        size = session.source.size
        count = "unlimited samples" if size is None else f"{size:,} samples"
        shape = "x".join(map(str, session.source.codec.own_shape))
        _say(
            f"{session.config.recipe} on {session.source.name}: {count} of {shape}, "
            f"run in {session.run.path}"
        )
        if ranks.world() > 1:
            batch = session.state.method.batch_size
            _say(f"  {ranks.world()} processes share out each batch of {batch} samples")
        for departure in departures:
            _say(f"  auto: {departure}")
    return train_session(session, judge=judge, quiet=quiet, json=json, flags=flags)


def _begun(out: Path | None, quiet: bool) -> Session | Follower | None:
    """The run that this command had begun before `torchrun` started its processes again, if any.

    Raises:
        UserError: The run's directory would be another one after a restart.
    """
    from wgan.api import open_run, reopen
    from wgan.errors import UserError
    from wgan.session import Session
    from wgan.training import ranks

    ranks.join()
    if out is None and ranks.restarts():
        raise UserError("to go on after a restart, torchrun --max-restarts needs --out DIRECTORY")
    if out is None or not ranks.restarted():
        return None
    if not ranks.decided(lambda: (out / "card.json").is_file()):
        return None
    launch = open_run(out).card.get("processes", {}).get("launch")
    ours = ranks.decided(lambda: launch == ranks.launch())
    if not ours:
        return None
    session = reopen(out, started=STARTED)
    if isinstance(session, Session):
        for line in session.said:
            _complain(line)
        if not quiet:
            _say(f"going on from step {session.state.step:,} of {out}, after a process failed")
    return session


def train_session(
    session: Session | Follower, *, judge: int | None, quiet: bool, json: bool, flags: str = ""
) -> int:
    """Train to the end of the budget, judge, report; the exit status.

    `flags` go into the commands that are suggested at the end.
    """
    from wgan.api import load
    from wgan.follower import Follower
    from wgan.session import report
    from wgan.training import ranks

    if isinstance(session, Follower):
        return _follow(session)
    config, first = session.config, session.state.step
    session.tell = _complain
    began = time.monotonic()
    with contextlib.closing(session), Stopper() as stopper:
        with Progress(
            config.objective.estimate,
            first=first,
            steps=config.steps,
            deadline=None if session.deadline is None else session.deadline - session.reserve(),
            quiet=quiet,
        ) as progress:
            for record in session.records(stopper):
                progress.show(record)
                for finding in session.said_now.findings:
                    progress.warn(session.state.step, finding)
        trained = time.monotonic() - began
        session.finish()
        path, step = session.run.path, session.state.step
        if stopper() or session.status == "interrupted":
            report([session.run])
            _say(f"stopped at step {step}, saved; go on with: wgan resume {path}{flags}")
            ranks.decided(lambda: None)  # torchrun ends everyone when the first one ends
            return stopper.status or _TERMINATED
        evaluation = None
        if judge != 0:
            left = session.deadline and session.deadline - time.monotonic() - _REPORT_SECONDS
            evaluation = load(path).evaluate(n=judge, seconds=left)
            session.run.save_json("evaluation.json", evaluation.to_json())
        report([session.run])
    if json:
        result = {
            "run": str(path),
            "step": step,
            "train_seconds": round(trained, 3),
            "seconds": round(time.monotonic() - STARTED, 3),
            "samples": str(path / "samples.png"),
            "report": str(path / "report.html"),
            "stopped_by": session.stopped_by,
            "audit": session.run.card.get("audit"),
            "evaluation": evaluation and evaluation.to_json(),
        }
        print(json_format.dumps(result))
        return 0
    if session.stopped_by:
        print(f"stopped early: {session.stopped_by}")
    example = "samples.csv" if session.source.codec.columns else "samples.npy"
    rate = (step - first) / max(trained, 1e-9)
    print(
        f"\n{config.recipe} on {session.source.name}: step {step:,}, {trained:.0f} s of training "
        f"({rate:.1f} steps/s)\n"
    )
    if config.seconds is not None and began - STARTED > _BEFORE * config.seconds:
        print(
            f"{began - STARTED:.0f} of the {config.seconds:.0f} s went by before the first step, "
            "into starting, reading the data and timing a step: give more --seconds\n"
        )
    if evaluation is not None:
        print(f"{evaluation.table()}\n")
    if (found := audited(session)) is not None:
        print(f"{found}\n")
    print(
        f"  look    {path / 'samples.png'}\n          {path / 'report.html'}"
        f"\n  go on   wgan resume {path}{flags} --steps {max(2 * step, _MORE)}"
        f"\n  sample  wgan sample {path}{flags} -n 1000 --out {example}"
        f"\n  judge   wgan evaluate {path}{flags}"
    )
    return 0


def _follow(session: Follower) -> int:
    """Take part in a run that another process leads; the exit status."""
    from wgan.training import ranks

    with Stopper() as stopper:
        session.follow(stopper)
        if session.status == "finished":
            return 0
        ranks.decided(lambda: None)  # until it is saved
        return stopper.status or _TERMINATED


def audited(session: Session) -> str | None:
    """What the audits found, in lines for a terminal; None where there was none."""
    card = session.run.card.get("audit")
    if card is None:
        return None
    lines = [
        f"audited every {card['every']:,} steps against {card['samples']:,} held-out samples; "
        f"excess in {card['space']}, {card['unit']}"
    ]
    for name, title in (("last", "last step"), ("best", "best step")):
        found = card.get(name)
        if found is not None and "excess" in found:
            span = f"{found['low']:.4g} to {found['high']:.4g}"
            lines.append(
                f"{title} {found['step']:,}: excess {found['excess']:.4g} ({span}) over a floor "
                f"of {found['floor']:.4g}, on {2 * found['size']:,} more that chose nothing"
            )
    return "\n  ".join(lines)


def _complain(line: str) -> None:
    _say(f"wgan: {line}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _decoding(done: int, total: int) -> None:
    """Show how far the first reading of pictures or rows has come."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r  reading {done:,}/{total:,}", end=end, file=sys.stderr, flush=True)
    elif done == total:
        _say(f"  read {total:,} samples")
