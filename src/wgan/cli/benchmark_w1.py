"""``wgan benchmark-w1``: bounds on W1 against known answers."""

from __future__ import annotations

import sys
from pathlib import Path


def benchmark_w1(
    *,
    out: Path = Path("benchmark-w1"),
    pairs: str | None = None,
    estimators: str = "all,networks",
    seeds: int = 1,
    seconds: float = 180.0,
    fresh: int = 0,
    jobs: int = 2,
    results: Path | None = None,
    page: Path | None = None,
) -> int:
    """Bound the W1 of pairs of populations whose distance is known.

    A trial takes about SECONDS of one core. Stop at any time: the same command goes on.

    Example: `wgan benchmark-w1 --pairs cones-8-64,translation-64 --seconds 20`

    Args:
        out: The folder of results, one JSON file for each trial [benchmark-w1].
        pairs: Some only, with commas: cones-D-N, translation-D, radial-D, mixture-D, ball-D,
            discrete-D [all].
        estimators: With commas. Of this project: all kinds of critic, networks alone, or cones at
            learned places as a control. Published ones: clipping, gp, lp, sn, sorting, mm-r,
            discrete [all,networks].
        seeds: Seeds of each, from 0; 0: run nothing, write the page from --results [1].
        seconds: Of the processor, for finding critics in each trial [180].
        fresh: Samples on which each critic's own gap is found, to check its interval, which is then
            measured on a twentieth of them [0: not].
        jobs: Trials at a time, each on one core [2].
        results: A file of results, one JSON line each: new ones join it, and the page tells of all.
        page: Where to write the table as Markdown [OUT/w1.md].
    """
    from wgan.errors import UnknownNameError, UserError
    from wgan.experiments.benchmark_w1 import (
        Trial,
        known_estimators,
        known_pairs,
        merged,
        read,
        read_lines,
        run_trials,
        write_lines,
    )
    from wgan.experiments.w1_page import page as write_up

    names = known_pairs() if pairs is None else _listed(pairs)
    for name in names:
        if name not in known_pairs():
            raise UnknownNameError("pair", name, known_pairs())
    kinds = _listed(estimators)
    for kind in kinds:
        if kind not in known_estimators():
            raise UnknownNameError("estimator", kind, known_estimators())
    for flag, value, least in (("seeds", seeds, 0), ("fresh", fresh, 0)):
        if value < least:
            raise UserError(f"--{flag} must be >= {least}, got {value}")
    if seeds == 0 and results is None:
        raise UserError("--seeds 0 writes the page from a file of results; give it by --results")
    if not 0 < seconds < float("inf"):
        raise UserError(f"--seconds must be > 0, got {seconds}")
    trials = [
        Trial(name, kind, seed, seconds, fresh)
        for seed in range(seeds)
        for kind in kinds
        for name in names
    ]
    kept = [] if results is None else read_lines(results)
    done = sum(read(trial, out) is not None for trial in trials)
    if done:
        _say(f"{done} of {len(trials)} trials are in {out} already")
    try:
        for trial, result in run_trials(trials, out, jobs=jobs):
            done += 1
            off = result["estimate"] / result["w1"] - 1
            said = (
                f"at least {result['lower']:.4g}"
                if "lower" in result
                else f"reports {result['estimate']:.4g}"
            )
            _say(
                f"{done}/{len(trials)}  {trial.pair} {trial.estimator} seed {trial.seed}: "
                f"{said} of {result['w1']:.4g} ({off:+.1%})"
            )
    except KeyboardInterrupt:
        _say(f"stopped; {done} of {len(trials)} are done, the same command goes on")
        return 130
    new = [one for trial in trials if (one := read(trial, out)) is not None]
    found = merged(kept, new)
    if results is not None:
        write_lines(found, results)
    place = page or out / "w1.md"
    place.write_text(write_up(found))
    print(place)
    return 0


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
