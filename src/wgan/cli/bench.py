"""``wgan bench-recipes``: the comparison behind docs/recipes.md."""

from __future__ import annotations

import sys
from pathlib import Path

from wgan.cli.signals import Stopper


def bench_recipes(
    *,
    out: Path = Path("bench-recipes"),
    recipes: str | None = None,
    data: str | None = None,
    seconds: float = 60.0,
    jobs: int = 2,
    page: Path | None = None,
) -> int:
    """Train every recipe for the same time on small data and compare what they made.

    A trial takes about SECONDS and a few more on one core, and there are seven for each recipe,
    one of them at its published settings. Stop at any time: the same command goes on where it
    stopped.

    Example: `wgan bench-recipes --recipes wgan-gp,sliced --data gaussians8 --seconds 10`

    Args:
        out: The folder of results, one JSON file for each trial [bench-recipes].
        recipes: Some only, with commas between them [all].
        data: Some only: gaussians8, gaussians25, swissroll, digits [all].
        seconds: Processor time of training in each trial [60].
        jobs: Trials at a time, each on one core [2].
        page: Where to write the comparison as Markdown [OUT/recipes.md].
    """
    from wgan.experiments.bench_recipes import SEEDS, plan, read, run_trials
    from wgan.experiments.recipe_page import page as write_up
    from wgan.recipes import RECIPES

    trials = plan(_listed(recipes) or list(RECIPES), _listed(data) or list(SEEDS), seconds)
    done = sum(read(trial, out) is not None for trial in trials)
    if done:
        _say(f"{done} of {len(trials)} trials are in {out} already")
    with Stopper() as stopper:
        for trial, result in run_trials(trials, out, jobs=jobs, stop=stopper):
            done += 1
            what = result["failed"] or f"W1 {result['end']['w1']:.3f}"
            _say(f"{done}/{len(trials)}  {trial.data} {trial.recipe} seed {trial.seed}: {what}")
        found = [one for trial in trials if (one := read(trial, out)) is not None]
        if stopper():
            _say(f"stopped; {len(found)} of {len(trials)} are done, the same command goes on")
            return stopper.status
    place = page or out / "recipes.md"
    place.write_text(write_up(found))
    print(place)
    return 0


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
