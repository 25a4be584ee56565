"""``wgan evaluate``."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wgan.cli.flags import Plugins, checkpoint_of, load_plugins


def evaluate(
    run: Path,
    /,
    *,
    data: str | None = None,
    n: Annotated[int | None, Parameter(name=["-n", "--n"])] = None,
    seed: int = 0,
    features: str | None = None,
    checkpoint: str = "latest",
    plugin: Plugins = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Judge a run's samples against data, by numbers that do not come from its critic.

    Each number stands beside its noise floor: the same number, real against other real.

    Example: `wgan evaluate runs/0001-digits-wgan-gp`

    Args:
        run: The run directory.
        data: What to compare with [what the run was trained on].
        n: Samples of each [as many as the data has, at most 2,000].
        seed: Of the samples [0].
        features: Where Frechet and kernel distances are taken: raw, pca:K, a weights file (.npz),
            or your own MODULE:FUNCTION [raw, or pca:64 for large samples].
        checkpoint: latest, best (the smallest excess of the audits), or a step [latest].
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        json: Print JSON.
    """
    load_plugins(plugin)
    from wgan.api import load

    trained = load(run, checkpoint=checkpoint_of(checkpoint))
    evaluation = trained.evaluate(data, n=n, seed=seed, features=features)
    for line in trained.said:
        print(f"wgan: {line}", file=sys.stderr)
    if json:
        print(json_format.dumps({"run": str(run), "step": trained.step, **evaluation.to_json()}))
        return 0
    print(f"{run} at step {trained.step:,}\n")
    print(evaluation.table())
    return 0
