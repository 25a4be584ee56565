"""``wgan reproduce``: the papers' figures and claims, run again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgan.experiments.reproduction import Result


def reproduce(
    name: str | None = None,
    /,
    *,
    seconds: float | None = None,
    seed: int | None = None,
    out: Path = Path("reproduction"),
    page: Path = Path("docs/reproduction.md"),
) -> int:
    """Run a figure or claim of the papers again, and say whether it holds here.

    Without NAME it lists them. The picture is in OUT/NAME.png, the numbers in OUT/NAME/result.json.
    `all` runs those without a result and writes the gallery; stop at any time: the same command
    goes on.

    Example: `wgan reproduce parallel-lines`

    Args:
        name: One of the list, or all.
        seconds: Bound on each; seeds that it cuts short do not count, and too few give no verdict
            [what it takes].
        seed: The first seed; `all` takes results of any seed where none is asked for [0].
        out: The folder of results [reproduction].
        page: Where `all` writes the gallery as Markdown, pictures beside it
            [docs/reproduction.md].
    """
    from wgan.experiments.reproduction import EXPERIMENTS, get_experiment, read
    from wgan.experiments.reproduction import reproduce as run

    if name is None:
        wide = max(map(len, EXPERIMENTS))
        far = max(len(one.source) for one in EXPERIMENTS.values())
        for one in EXPERIMENTS.values():
            last = read(one, out)
            verdict = "-" if last is None else last.verdict
            print(f"{one.name:<{wide}}  {one.seconds:>4.0f} s  {one.source:<{far}}  {verdict}")
        return 0
    if name != "all":
        _show(run(get_experiment(name), out, seed=seed or 0, seconds=seconds), out)
        return 0
    return _all(seconds, seed, out, page)


def _all(seconds: float | None, seed: int | None, out: Path, page: Path) -> int:
    from wgan.errors import UserError
    from wgan.experiments.reproduction import EXPERIMENTS, read
    from wgan.experiments.reproduction import reproduce as run
    from wgan.experiments.reproduction.base import MissingDataError
    from wgan.experiments.reproduction.gallery import write_gallery

    found = {name: read(one, out) for name, one in EXPERIMENTS.items()}
    for name, result in found.items():
        if result is not None and seed is not None and result.seed != seed:
            raise UserError(
                f"{out / name} is of seed {result.seed} and {seed} was asked for; use another --out"
            )
    done = sum(result is not None for result in found.values())
    if done:
        _say(f"{done} of {len(found)} are in {out} already")
    for name, one in EXPERIMENTS.items():
        if found[name] is not None:
            continue
        try:
            result = found[name] = run(one, out, seed=seed or 0, seconds=seconds)
        except KeyboardInterrupt:
            _say(f"stopped; {done} of {len(found)} are done, the same command goes on")
            raise
        except MissingDataError as error:
            _say(f"{name} is left out: {error}")
            continue
        done += 1
        _say(f"{done}/{len(found)}  {name}: {result.verdict}, {result.seconds:.0f} s")
    pairs = [(one, result) for one in EXPERIMENTS.values() if (result := found[one.name])]
    write_gallery(page, pairs, out, [one for one in EXPERIMENTS.values() if not found[one.name]])
    print(page)
    return 0


def _show(result: Result, out: Path) -> None:
    from wgan.experiments.reproduction.gallery import spread, threshold

    print(f"{result.name}: {result.verdict}")
    for one in result.claims:
        print(f"  {one.verdict}: {one.claim.says}")
        values = spread(one.values)
        print(f"    {one.claim.statistic}: {values} (asked {threshold(one)})")
    if not result.seeds:
        print("no seed was finished in this time, so there is no picture; give more --seconds")
        return
    print(f"{result.seeds} seed{'s' * (result.seeds != 1)} from {result.seed}; ", end="")
    print(f"{result.seconds:.0f} s")
    print(f"Data: {result.data}. {result.differs}")
    print(out / f"{result.name}.png")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
