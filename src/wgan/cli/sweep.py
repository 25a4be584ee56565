"""``wgan sweep``."""

from __future__ import annotations

import json as json_format
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from wgan.cli import STARTED
from wgan.cli.flags import (
    DataFlags,
    MethodFlags,
    NetworkFlags,
    Plugins,
    load_plugins,
    settings_from,
)
from wgan.cli.signals import Stopper

if TYPE_CHECKING:
    from wgan.search import Sweep

_DEFAULT_DATA = DataFlags()
_DEFAULT_METHOD = MethodFlags()
_DEFAULT_NETWORKS = NetworkFlags()
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MUCH_LEFT = 0.8  # share of the budget: what is used of it where more trials are worth a word
_LENGTHS = ("steps", "seconds", "audit_every", "stop_when", "patience", "seed")


def sweep(
    data: str | None = None,
    /,
    *,
    search: Annotated[list[str], Parameter(consume_multiple=True, negative="")],
    budget: str | None = None,
    trials: int = 20,
    steps: int | None = None,
    jobs: int = 1,
    pruner: Literal["median", "hyperband", "none"] = "median",
    recipe: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    settings: str | None = None,
    device: str | None = None,
    config: Path | None = None,
    plugin: Plugins = None,
    data_flags: DataFlags = _DEFAULT_DATA,
    method_flags: MethodFlags = _DEFAULT_METHOD,
    network_flags: NetworkFlags = _DEFAULT_NETWORKS,
    audit_features: str | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Search settings for the smallest audited excess, and report the winner on further data.

    The same command goes on where it was stopped; run it on several machines that share OUT, and
    they work on it together.

    Example: `wgan sweep digits --search 'lr=loguniform(1e-4,1e-2)' n_critic=1..5 --budget 20m`

    Args:
        data: As for `wgan train` [digits].
        search: Values by setting, in quotes: 'lr=loguniform(1e-5,1e-2)', 'dropout=uniform(0,0.5)',
            n_critic=1..5, 'optimizer=adam|rmsprop', 'recipe={wgan,wgan-gp}',
            'gradient-penalty.weight=loguniform(0.1,10)'.
        budget: Bound on the whole command: 90s, 20m, 2h [none, if --steps is given].
        trials: How many; a later command may ask for more [20].
        steps: Of every trial [what the budget leaves for each].
        jobs: Processes at a time [1].
        pruner: What ends hopeless trials: median, hyperband or none [median].
        recipe: A published method [wgan-gp].
        seed: Of the sampler and of every run [0].
        out: The sweep's directory [sweeps/DATA-RECIPE].
        settings: published or auto [auto].
        device: auto, cpu or cuda [auto].
        config: A YAML file of settings; flags win, and what is searched is not taken from it.
        plugin: A Python file of yours that registers parts; it is executed. Repeatable.
        audit_features: Where the excess is taken: raw, slices, pca:K, a weights file,
            MODULE:FUNCTION [auto].
        quiet: Show nothing while it goes on.
        json: Print the result as JSON.
    """
    from wgan.search import parse_space
    from wgan.search import sweep as run
    from wgan.search.storage import require_optuna

    require_optuna()
    flags = load_plugins(plugin)
    space = parse_space(search)
    given = settings_from(data_flags, method_flags, network_flags, config=config)
    if config is not None:
        said = settings_from(data_flags, method_flags, network_flags)
        dropped = {*space, *_LENGTHS} - set(said)
        given = {name: value for name, value in given.items() if name not in dropped}
    given |= {
        name: value
        for name, value in {
            "recipe": recipe,
            "settings": settings,
            "device": device,
            "audit_features": audit_features,
        }.items()
        if value is not None
    }
    name = data or given.pop("data", None) or "digits"
    given.pop("data", None)
    limit = None if budget is None else seconds_of(budget)
    with Stopper() as stopper:
        found = run(
            name,
            search,
            budget=limit,
            trials=trials,
            steps=steps,
            jobs=jobs,
            pruner=pruner,
            seed=seed,
            out=out,
            plugins=plugin or (),
            stop=stopper,
            tell=(lambda line: None) if quiet or json else _say,
            started=STARTED,
            **given,
        )
        if stopper():
            _say(f"stopped: {found.counts()}; the same command goes on")
            return stopper.status
    if json:
        print(json_format.dumps(found.to_json()))
        return 0
    _show(found, flags, limit)
    return 0


def seconds_of(text: str) -> float:
    """A length of time such as 90, 90s, 20m, 1.5h or 1d.

    Raises:
        UserError: It is none.
    """
    from wgan.errors import UserError

    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", text)
    if match is None or float(match[1]) == 0:
        raise UserError(f"`budget` must be a time such as 90s, 20m or 2h, got {text!r}")
    return float(match[1]) * _UNITS[match[2] or "s"]


def _show(found: Sweep, flags: str, limit: float | None) -> None:
    print(f"{found.counts()}; {found.rule}\n")
    best, default = found.best, found.default
    print(f"best: trial {best.number}, {best.describe()}")
    print(
        f"  excess {best.excess:.4g} at step {best.step:,}, on the {found.held:,} held-out samples "
        f"that chose it ({found.unit}, {found.space})"
    )
    for trial, title in ((best, "the same checkpoint"), (default, "the recipe's own settings")):
        if trial is not None and trial.reported and (trial is best or trial.number != best.number):
            part = trial.reported
            print(
                f"  {title}: excess {part['excess']:.4g} ({part['low']:.4g} to {part['high']:.4g}) "
                f"on {2 * int(part['size']):,} more that chose nothing"
            )
    if found.importances:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in found.importances.items())
        print(f"  what mattered, up to step {found.importance_step:,}: {shares}")
    print(f"\n  look     {found.path / 'report.html'}")
    print(f"  use      wgan train --config {found.path / 'best.yaml'}{flags}")
    if default is not None and default.number != best.number:
        print(f"  compare  wgan compare {best.path} {default.path} --best{flags}")
    if not found.done:
        print("  go on    the same command: not all trials have come to an end")
    elif limit is not None and found.seconds < _MUCH_LEFT * limit:
        left = int(limit - found.seconds)
        print(f"  go on    the same command with more --trials: {left} s of the budget are left")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
