"""``wgan doctor``."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wgan.cli.flags import Plugins, load_plugins


def doctor(
    run: Path,
    /,
    *,
    data: str | None = None,
    plugin: Plugins = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say what is wrong with a run, why, and what to do about it.

    It reads the records, the newest checkpoint and the data, and makes a few passes through the
    networks; the run stays as it is. docs/doctor.md lists everything that it knows.

    Example: `wgan doctor runs/0001-digits-wgan-gp`

    Args:
        run: The run directory; or the losses of another tool: a CSV file with a line of names, or a
            folder of TensorBoard event files.
        data: The data, where it has moved [what the run was trained on].
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        json: Print JSON.
    """
    load_plugins(plugin)
    from wgan.checkup import doctor as examined

    found = examined(run, data=data)
    if json:
        print(json_format.dumps({"run": str(run), **found.to_json()}))
        return 0
    print(f"{run}: {found.text()}")
    return 0
