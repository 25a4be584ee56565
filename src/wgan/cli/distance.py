"""``wgan distance``."""

from __future__ import annotations

import json as json_format
import math
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wgan.cli.flags import Plugins, load_plugins
from wgan.errors import UserError


def distance(
    a: str,
    b: str | None = None,
    /,
    *,
    n: Annotated[int | None, Parameter(name=["-n", "--n"])] = None,
    metric: str = "euclidean",
    features: str | None = None,
    bounds: str | None = None,
    interval: str = "auto",
    paired: Annotated[bool, Parameter(negative="")] = False,
    level: float = 0.95,
    seconds: float = 60.0,
    seed: int = 0,
    critics: str | None = None,
    critic: Path | None = None,
    plot: Path | None = None,
    size: int | None = None,
    key: str | None = None,
    layout: str | None = None,
    columns: str | None = None,
    drop_missing: Annotated[bool | None, Parameter(negative="")] = None,
    skip_bad: Annotated[bool | None, Parameter(negative="")] = None,
    plugin: Plugins = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say how far two data sets, or a run and data, are apart, and what is certain of it.

    W1 between the two samples; between the populations they come from, from below and above with
    confidence; and other distances beside them. docs/distance.md says what each number allows.

    Example: `wgan distance runs/0001-digits-wgan-gp digits`

    Args:
        a: A file, folder, named source or run directory.
        b: The other [the data that run A was trained on].
        n: Samples of each [what there is and the time allows, at most 20,000].
        metric: Ground metric: euclidean, l1 or linf [euclidean].
        features: What to compare in place of the samples: a weights file (.npz) or your own
            MODULE:FUNCTION or FILE.py:FUNCTION, which is executed [the samples].
        bounds: LO,HI that every number that can occur is between [pictures: their type's].
        interval: How to allow for chance: clt, for large samples; bernstein, at any size, which
            needs bounds; auto, bernstein where bounds are known [auto].
        paired: Row i of both was drawn jointly: their mean distance bounds W1 from above.
        level: Confidence of each bound [0.95].
        seconds: For all of it: a short time leaves less to each part [60].
        seed: Of samples, splits and critics [0].
        critics: Kinds to try: maxmin, sorted, half-sorted, cones-up, cones-down, with commas [all].
        critic: A run whose own critic is tried too, divided by its certified constant.
        plot: Where to save a picture of where the mass must move.
        size: Height and width of pictures: a multiple of 4, from 8 up [64].
        key: Which array of an .npz or HDF5 file.
        layout: How to read an array: rows, images, images-last, volumes, volumes-last.
        columns: Columns of a table, separated by commas.
        drop_missing: Leave out the rows of a table that miss a value.
        skip_bad: Leave out pictures that cannot be read.
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        json: Print JSON.
    """
    began = time.monotonic()
    load_plugins(plugin)
    if not 0 < seconds < math.inf:
        raise UserError(f"`seconds` must be > 0, got {seconds}")
    if plot is not None and not plot.parent.is_dir():
        raise UserError(f"--plot: there is no folder {plot.parent}")
    box = None if bounds is None else _box(bounds)

    from wgan import api
    from wgan.bounds import WAYS

    kinds = WAYS if critics is None else tuple(name.strip() for name in critics.split(","))
    found = api.distance(
        a,
        b if b is not None else _data_of(a),
        n=n,
        metric=metric,  # type: ignore[arg-type]
        features=features,
        bounds=box,
        interval=interval,  # type: ignore[arg-type]
        paired=paired,
        level=level,
        # The imports above take seconds.
        seconds=max(0.1, seconds - (time.monotonic() - began)),
        seed=seed,
        critics=kinds,
        critic=critic,
        size=size,
        key=key,
        layout=layout,
        columns=None if columns is None else tuple(part.strip() for part in columns.split(",")),
        drop_missing=drop_missing,
        skip_bad=skip_bad,
    )
    if plot is not None:
        found.plot(plot)
    if json:
        print(json_format.dumps(found.to_json()))
        return 0
    print(found.table())
    print()
    print(found.explain())
    if plot is not None:
        print(f"\n{plot}")
    return 0


def _data_of(run: str) -> str:
    """The data that a run was trained on."""
    from wgan.run import Run

    if not (Path(run) / "card.json").is_file():
        raise UserError(f"wgan distance needs two sides; {run} is not a run, so give B")
    data = str(Run.open(run).config["data"])
    if data == "array":
        raise UserError(f"{run} was trained on an array in memory: give B, a file with the data")
    return data


def _box(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--bounds needs LO,HI, two numbers, got {text!r}") from None
    return low, high
