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
    plots: Path | None = None,
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
        plots: A folder for a small plot of each finding, and a page with all of them.
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        json: Print JSON.
    """
    load_plugins(plugin)
    from wgan.checkup import examine_any
    from wgan.diagnostics.rules import diagnose
    from wgan.reports.evidence import draw_evidence, spark

    seen = examine_any(run, data=data)
    found = diagnose(seen)
    page = None if plots is None else draw_evidence(plots, str(run), found, seen)
    if json:
        print(json_format.dumps({"run": str(run), **found.to_json()}))
        return 0
    sparks = {finding.name: spark(finding.name, seen) for finding in found.findings}
    print(f"{run}: {found.text(sparks)}")
    if page is not None:
        print(f"\nsee {page}")
    return 0
