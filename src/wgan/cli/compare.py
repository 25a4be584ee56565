"""``wgan compare``."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wgan.cli.flags import Plugins, load_plugins


def compare(
    *runs: Path,
    data: str | None = None,
    best: Annotated[bool, Parameter(negative="")] = False,
    features: str = "auto",
    seconds: float = 10.0,
    seed: int = 0,
    out: Path = Path("compare.html"),
    plugin: Plugins = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say which of several runs is closer to the data, by how much, and how sure that is.

    They must have been trained on the same data and hold out the same samples.

    Example: `wgan compare runs/0001-digits-wgan-gp runs/0002-digits-wgan`

    Args:
        runs: Run directories, two or more.
        data: The data, where it has moved [what the runs were trained on].
        best: Compare each run's best checkpoint instead of its newest.
        features: Where samples are compared: raw, slices, pca:K, a weights file (.npz), or your own
            MODULE:FUNCTION [raw where it tells samples apart, else slices].
        seconds: For certified bounds, where the range of the data is known [10].
        seed: Of the samples [0].
        out: Where the page goes: the table with its intervals drawn, the audits of all runs, their
            samples side by side, what follows and what does not [compare.html].
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        json: Print JSON.
    """
    load_plugins(plugin)
    from wgan.api import compare as compared
    from wgan.api import load
    from wgan.comparison import write_page

    loaded = [load(run, checkpoint="best" if best else "latest") for run in runs]
    for run in loaded:
        for line in run.said:
            print(f"wgan: {line}", file=sys.stderr)
    found = compared(loaded, data=data, features=features, seconds=seconds, seed=seed)
    write_page(found, loaded, out, seed)
    if json:
        print(json_format.dumps(found.to_json()))
        return 0
    print(f"{found.data}, excess in {found.space}, {found.unit}\n")
    print(f"{found.table()}\n\n{found.explain()}\n\n  look  {out}")
    return 0
