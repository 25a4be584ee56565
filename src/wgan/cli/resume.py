"""``wgan resume``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from wgan.cli import STARTED
from wgan.cli.flags import Plugins, load_plugins
from wgan.cli.train import train_session


def resume(
    run: Path,
    /,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    on_divergence: Literal["stop", "rollback"] | None = None,
    max_rollbacks: int | None = None,
    accumulate: int | None = None,
    heed: bool | None = None,
    judge: int | None = None,
    plugin: Plugins = None,
    allow: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Go on with a run, to the bit as if it had never stopped.

    Example: `wgan resume runs/0001-digits-wgan-gp --steps 10000`

    Args:
        run: The run directory.
        steps: Total steps, from the run's first step [what the run was started with].
        seconds: Bound on this command.
        on_divergence: When a loss or gradient is not finite: stop, or rollback to the last good
            checkpoint with a new draw and half the learning rates [as the run has it].
        max_rollbacks: How often at most, in the whole run [as the run has it].
        accumulate: Parts that each batch is split into, one in memory at a time [as the run has
            it].
        heed: Act on what the doctor finds on the way [as the run has it].
        judge: Samples judged against the data at the end; 0 for none [at most 2,000].
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        allow: Go on even if the data, the versions, the settings or a plugin have changed.
        quiet: Show nothing while training.
        json: Print the result as JSON.
    """
    flags = load_plugins(plugin)
    from wgan.api import finished, open_run, reopen
    from wgan.follower import Follower
    from wgan.training import ranks

    ranks.join()
    directory = open_run(run)
    if steps is None and seconds is None and finished(directory):
        if ranks.rank() == 0:
            print(
                f"{run} is finished at step {directory.card['step']:,}; to extend it: "
                f"wgan resume {run}{flags} --steps {2 * directory.card['step']}"
            )
        return 0
    session = reopen(
        run,
        steps,
        seconds,
        allow=allow,
        started=STARTED,
        on_divergence=on_divergence,
        max_rollbacks=max_rollbacks,
        accumulate=accumulate,
        heed=heed,
    )
    done = session.config.steps is not None and session.state.step >= session.config.steps
    if isinstance(session, Follower):
        again = done and finished(directory)
        return 0 if again else train_session(session, judge=judge, quiet=True, json=False)
    for line in session.said:
        print(f"wgan: {line}", file=sys.stderr)
    if done and finished(directory):
        session.close()
        print(f"{run} is at step {session.state.step:,} already; give more --steps to extend it")
        return 0
    if not (quiet or json or done):
        print(f"going on from step {session.state.step:,} of {run}", file=sys.stderr)
    return train_session(session, judge=judge, quiet=quiet or json, json=json, flags=flags)
