"""``wgan verify``."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wgan.cli.flags import Plugins, load_plugins


def verify(
    run: Path,
    /,
    *,
    data: str | None = None,
    seconds: float = 60.0,
    plugin: Plugins = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Check that a run is complete, unaltered, and still gives the numbers that it recorded.

    Exit status 0: it is good. 1: it is damaged, with a line for each finding.

    Example: `wgan verify runs/0001-digits-wgan-gp`

    Args:
        run: The run directory; nothing in it is changed.
        data: Where its data lies now [where it lay then].
        seconds: Bound on the steps that are trained again; there is one at least [60].
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        json: Print the result as JSON.
    """
    load_plugins(plugin)
    from wgan.integrity import verify as check

    found = check(run, data=data, seconds=seconds)
    if json:
        print(json_format.dumps(found.to_json()))
    else:
        for name, lines in (
            ("damaged", found.findings),
            ("good", found.checked),
            ("not checked", found.skipped),
        ):
            for line in lines:
                print(f"{name:<12} {line}")
        print(f"{run} is {'good' if found.good else 'damaged'}")
    return 0 if found.good else 1
