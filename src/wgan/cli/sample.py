"""``wgan sample``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from wgan.cli.flags import Plugins, checkpoint_of, load_plugins
from wgan.errors import UserError

if TYPE_CHECKING:
    from wgan.trained import Trained


def sample(
    run: Path,
    /,
    *,
    n: Annotated[int, Parameter(name=["-n", "--n"])] = 64,
    seed: int = 0,
    out: Path | None = None,
    raw: Annotated[bool, Parameter(negative="")] = False,
    given: Annotated[list[str] | None, Parameter(negative="")] = None,
    checkpoint: str = "latest",
    plugin: Plugins = None,
) -> int:
    """Draw samples from a run, in the data's own units. No data set is needed.

    Example: `wgan sample runs/0001-digits-wgan-gp -n 1000 --out digits.npy`

    Args:
        run: The run directory.
        n: How many [64].
        seed: Of the latents; the same seed gives the same samples [0].
        out: sheet.png, samples.npy, samples.csv, samples.parquet, or a folder for one PNG each
            [RUN/sample-SEED.png].
        raw: Use the generator itself instead of its running average.
        given: COLUMN=VALUE, a condition to sample under; those not given are drawn from the
            training data. Repeatable.
        checkpoint: latest, best (the smallest excess of the audits), or a step [latest].
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
    """
    load_plugins(plugin)
    from wgan.api import load

    trained = load(run, checkpoint=checkpoint_of(checkpoint))
    place = out or run / f"sample-{seed}.png"
    writer = _writer(place, trained)
    samples = trained.sample(n, seed=seed, raw=raw, given=_conditions(given or []))
    for line in trained.said:
        print(f"wgan: {line}", file=sys.stderr)
    place.parent.mkdir(parents=True, exist_ok=True)
    writer(samples)
    print(f"wrote {n:,} samples to {place}")
    return 0


def _writer(place: Path, trained: Trained) -> Any:
    """What writes samples to a place with this ending, refused before any is drawn."""
    codec = trained.codec
    kind = {"rows": "rows", "image": "pictures", "volume": "volumes"}[codec.kind]
    if place.suffix == ".png":
        from wgan.reports.sheet import sample_sheet

        return lambda own: sample_sheet(own, codec, path=place)
    if place.suffix == ".npy":
        import numpy as np

        return lambda own: np.save(place, own, allow_pickle=False)
    if place.suffix in (".csv", ".parquet"):
        if codec.kind != "rows":
            raise UserError(f"{place.suffix} holds tables, and the run's samples are {kind}")
        from wgan.data.tables import write_table

        return lambda own: write_table(place, codec, own)
    if place.suffix:
        raise UserError(
            f"cannot write {place.name}: use .png, .npy, .csv, .parquet, or a folder's name"
        )
    if codec.kind != "image":
        raise UserError(f"a folder holds pictures, and the run's samples are {kind}")
    from wgan.data.pictures import write_images

    return lambda own: write_images(place, codec, own)


def _conditions(texts: list[str]) -> dict[str, float] | None:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise UserError(f"--given needs COLUMN=VALUE with a number, got {text!r}")
    return found or None
