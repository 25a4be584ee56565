"""The sweep as a whole: its plan, its processes, what they found."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from wgan.config import KNOWN_SETTINGS, data_options
from wgan.data import open_source
from wgan.data.base import Source
from wgan.errors import RunFailedError, UnknownNameError, UserError
from wgan.plugins import load_plugins, looked_up, recorded_plugins
from wgan.run import Run
from wgan.search.page import write_page
from wgan.search.planning import check, default_point, judge, settle
from wgan.search.results import FEWEST_FOR_IMPORTANCE, Sweep, TrialResult
from wgan.search.space import Space, parse_space
from wgan.search.storage import (
    PRUNERS,
    Plan,
    make_folders,
    open_study,
    require_optuna,
    sweep_lock,
)
from wgan.search.worker import Worker
from wgan.trained import Data

if TYPE_CHECKING:
    from optuna.study import Study

_LOOK_SECONDS = 0.2
_PAGE_SHARE, _PAGE_SECONDS = 0.1, 15.0  # of the budget, kept for the page
_OWN = ("steps", "seconds", "audit_every", "stop_when", "patience")


def sweep(
    data: Data,
    search: Mapping[str, str] | Sequence[str],
    *,
    budget: float | None = None,
    trials: int = 20,
    steps: int | None = None,
    jobs: int = 1,
    pruner: str = "median",
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    condition: NDArray[Any] | Sequence[str] | str | None = None,
    plugins: Sequence[Path] = (),
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda line: None,
    started: float | None = None,
    **settings: Any,
) -> Sweep:
    """Search settings for the smallest audited excess, and report the winner on further data.

    Every trial is an ordinary run of the same number of steps, on the same data, judged by the same
    held-out samples; its value is the smallest ``audit.excess`` of its audits, never what a critic
    says. The best of many looks better than it is: the winner's best checkpoint is reported on
    the part of the held-out data by which nothing was chosen.

    The steps of a trial are settled before the first: 85% of ``budget * jobs / trials``, less the
    time of its 10 audits (fewer where they would take 30%), at the mean time of a step over a few
    points of the search. The same call goes on where an earlier one stopped, in whatever way;
    several processes and machines that share `out` work on one sweep.

    Args:
        data: As for `wgan.train`.
        search: Values by setting, ``{"lr": "loguniform(1e-5,1e-2)", "n_critic": "1..5"}``, or texts
            such as ``"lr=loguniform(1e-5,1e-2)"``. Values are ``loguniform(lo,hi)``,
            ``uniform(lo,hi)``, ``a..b`` (whole numbers), ``{x,y,z}`` or ``x|y|z``; settings are
            those of `wgan.train`, ``CONSTRAINT.FIELD`` and ``objective.FIELD``.
        budget: Seconds of this call, > 0: nothing is trained after it. None: `steps` decides.
        trials: How many, pruned and failed ones among them, >= 1. More may be asked for later.
        steps: Of each trial; None: what the budget leaves.
        jobs: Processes at a time, >= 1.
        pruner: ``median``, ``hyperband`` or ``none``.
        seed: Of the sampler and of every run, >= 0.
        out: The sweep's directory; None: ``sweeps/DATA-RECIPE``.
        condition: As for `wgan.train`.
        plugins: Plugins' files, for the processes of `jobs`.
        stop: Asked before every step; true ends the call resumably.
        tell: Called with a line for each thing that happens.
        started: `time.monotonic` value from which the budget counts; None: now.
        **settings: Those of `wgan.train` that all trials share.

    Raises:
        MissingExtraError: Optuna is not installed.
        UserError: A mistake in what was asked for, or `out` is of another sweep.
        RunFailedError: The disk is full, or a process died.

    Source: Akiba et al. 2019 (Optuna); Bergstra et al. 2011 (TPE); Li et al. 2018 (Hyperband).
    """
    began = time.monotonic() if started is None else started
    require_optuna()
    _check_numbers(budget, trials, steps, jobs, pruner, seed)
    given, array = _given(settings, condition, seed)
    space = parse_space(search)
    for name in space:
        if name in given:
            raise UserError(f"`{name}` is both given and searched; choose one")
    recorded = recorded_plugins(given)
    options = data_options(given)
    source = looked_up(lambda: open_source(data, options, condition=array), recorded)
    name = str(data) if isinstance(data, (str, os.PathLike)) else "array"
    recipe = given.get("recipe", "sweep" if "recipe" in space else "wgan-gp")
    place = Path("sweeps") / f"{source.name}-{recipe}" if out is None else Path(out)
    if place.exists() and not (place / "sweep.json").is_file() and any(place.iterdir()):
        other = [path.name for path in place.iterdir() if path.name not in (".locks", "trials")]
        if other:
            raise UserError(f"{place} exists and is not a sweep; choose another --out")
    new = Plan.read(place) is None
    plan = _plan(place, name, source, space, given, budget, trials, steps, jobs, pruner, seed)
    if new:
        tell(plan.reason)
    left = None if budget is None else budget - (time.monotonic() - began)
    deadline = math.inf
    if left is not None and budget is not None:
        deadline = time.monotonic() + left - min(_PAGE_SHARE * budget, _PAGE_SECONDS)
    if jobs == 1:
        Worker(place, plan, space, source, deadline, stop, tell)()
    else:
        _in_processes(jobs, place, plan, data, array, given, plugins, deadline, stop, tell)
    return collect(place, plan, source, space, began)


def _check_numbers(
    budget: float | None, trials: int, steps: int | None, jobs: int, pruner: str, seed: int
) -> None:
    if budget is not None and not 0 < budget < math.inf:
        raise UserError(f"`budget` must be > 0 seconds, got {budget}")
    if budget is None and steps is None:
        raise UserError("say how long a sweep may take: --budget 20m, or --steps of every trial")
    for name, value in (("trials", trials), ("steps", steps), ("jobs", jobs)):
        if value is not None and (isinstance(value, bool) or value < 1):
            raise UserError(f"`{name}` must be >= 1, got {value}")
    if pruner not in PRUNERS:
        raise UnknownNameError("pruner", pruner, PRUNERS)
    if not 0 <= seed < 2**32:
        raise UserError(f"`seed` must be in [0, 2**32), got {seed}")


def _given(
    settings: Mapping[str, Any], condition: Any, seed: int
) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """The settings of all trials, and the conditions of an array."""
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        if name not in KNOWN_SETTINGS:
            raise UnknownNameError("setting", name, KNOWN_SETTINGS)
        if name in _OWN:
            raise UserError(f"`{name}` is settled by a sweep, the same for all trials")
    array = None
    if isinstance(condition, str) or (
        isinstance(condition, Sequence) and all(isinstance(c, str) for c in condition)
    ):
        given["condition"] = condition
    elif condition is not None:
        array = np.asarray(condition)
    return {**given, "seed": seed}, array


def _plan(
    place: Path,
    data: str,
    source: Source,
    space: Space,
    given: Mapping[str, Any],
    budget: float | None,
    trials: int,
    steps: int | None,
    jobs: int,
    pruner: str,
    seed: int,
) -> Plan:
    """The plan that lies in the directory, if it is of this sweep, or a new one."""
    wanted: dict[str, Any] = {
        "data": data,
        "fingerprint": source.fingerprint,
        "given": {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()},
        "search": {name: str(dimension) for name, dimension in space.items()},
        "seed": seed,
        "pruner": pruner,
    }
    found = Plan.read(place)
    if found is None:
        looked_up(lambda: check(space, given, source, data), recorded_plugins(given))
        judge(space, given, source, data)  # before anything is written
    make_folders(place)
    with sweep_lock(place):
        found = Plan.read(place)
        if found is None:
            length = settle(
                *(space, given, source, data),
                budget=budget,
                trials=trials,
                jobs=jobs,
                steps=steps,
                seed=seed,
            )
            plan = Plan(
                **wanted,
                steps=length.steps,
                audit_every=length.audit_every,
                trials=trials,
                reason=length.reason,
            )
            study = open_study(place, plan)
            default = default_point(space, given, source, data)
            if default is not None and not study.get_trials(deepcopy=False):
                study.enqueue_trial(default, user_attrs={"default": True})
            plan.write(place)
            return plan
        _refuse_another(place, found, wanted, steps)
        if trials > found.trials:
            found = dataclasses.replace(found, trials=trials)
            found.write(place)
        return found


def _refuse_another(place: Path, found: Plan, wanted: Mapping[str, Any], steps: int | None) -> None:
    if found.fingerprint != wanted["fingerprint"]:
        raise UserError(f"{place} is a sweep on other data, or {found.data} has changed since")
    for name in ("search", "given", "pruner"):  # the seed is among what is given
        old, new = getattr(found, name), wanted[name]
        if old != new:
            raise UserError(
                f"{place} is another sweep: its {name} was {_said(old)} and {_said(new)} is asked "
                "for; use another --out"
            )
    if steps is not None and steps != found.steps:
        raise UserError(
            f"{place} has trials of {found.steps:,} steps, and {steps:,} are asked for; use "
            "another --out"
        )


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={part}" for name, part in value.items()) or "nothing"
    return str(value)


# -- processes -------------------------------------------------------------------------------------


def _in_processes(
    jobs: int,
    place: Path,
    plan: Plan,
    data: Data,
    array: NDArray[Any] | None,
    given: Mapping[str, Any],
    plugins: Sequence[Path],
    deadline: float,
    stop: Callable[[], bool],
    tell: Callable[[str], None],
) -> None:
    """Workers in processes of their own, until all have ended.

    Where one of them is killed, the others take up its trial.

    Raises:
        RunFailedError: What ended one of them, after the others have ended too; all were killed.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    threads = max(1, torch.get_num_threads() // jobs)
    seconds = None if deadline == math.inf else deadline - time.monotonic()
    running: dict[Connection, Any] = {}
    errors: list[str] = []
    deaths: list[str] = []
    for _ in range(jobs):
        here, there = context.Pipe(duplex=False)
        arguments = (there, place, plan, data, array, dict(given), list(plugins), seconds, threads)
        process = context.Process(target=_work, args=arguments)
        process.start()
        there.close()
        running[here] = process
    asked = False
    try:
        while running:
            if stop() and not asked:
                asked = True
                for process in running.values():
                    process.terminate()  # which a worker hears as: save and end
            for pipe in wait(list(running), timeout=_LOOK_SECONDS):
                assert isinstance(pipe, Connection)
                try:
                    kind, line = pipe.recv()
                    if kind == "line":
                        tell(line)
                    else:
                        errors.append(line)
                except (EOFError, OSError):
                    process = running.pop(pipe)
                    process.join()
                    if process.exitcode:
                        deaths.append(f"a process of the sweep {_ended(process.exitcode)}")
                        tell(
                            f"{deaths[-1]}; " + ("the others go on" if running else "none is left")
                        )
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()
    if len(deaths) == jobs:  # else another has taken up its trial
        errors += deaths
    if errors:
        raise RunFailedError(f"{errors[0]}; what is done is kept, the same command goes on")


def _ended(code: int) -> str:
    """How a process ended that did not come to the end of its work."""
    if code >= 0:
        return f"ended with {code}"
    name = signal.Signals(-code).name
    return f"was killed ({name}{', perhaps for want of memory' * (name == 'SIGKILL')})"


def _work(
    pipe: Connection,
    place: Path,
    plan: Plan,
    data: Data,
    array: NDArray[Any] | None,
    given: Mapping[str, Any],
    plugins: Sequence[Path],
    left: float | None,
    threads: int,
) -> None:
    """A process's work; it ends with its parent."""
    stopped = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which asks this one
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    torch.set_num_threads(threads)
    deadline = math.inf if left is None else time.monotonic() + left
    parent = multiprocessing.parent_process()
    try:
        require_optuna()
        load_plugins(plugins)
        source = open_source(data, data_options(given), condition=array)
        Worker(
            place,
            plan,
            parse_space(plan.search),
            source,
            deadline,
            lambda: bool(stopped) or (parent is not None and not parent.is_alive()),
            lambda line: pipe.send(("line", line)),
        )()
    except (UserError, RunFailedError) as error:
        pipe.send(("error", str(error)))
    except BrokenPipeError:
        pass  # the parent is dead; the trial is saved up to its last checkpoint


# -- what was found --------------------------------------------------------------------------------


def collect(place: Path, plan: Plan, source: Source, space: Space, began: float) -> Sweep:
    """The trials so far; with a winner, its report, its configuration and the page are written."""
    study = open_study(place, plan)
    trials = []
    attrs: Mapping[str, Any] = {}
    for frozen in study.get_trials(deepcopy=False):
        state = frozen.state.name.lower()
        if state == "waiting":
            continue
        own = frozen.user_attrs
        attrs = own if own.get("unit") else attrs
        curve = tuple(sorted(frozen.intermediate_values.items()))
        best = min(curve, key=lambda pair: pair[1], default=None)
        trials.append(
            TrialResult(
                number=frozen.number,
                state={"fail": "failed"}.get(state, state),  # type: ignore[arg-type]
                values={name: frozen.params[name] for name in space if name in frozen.params},
                path=place / "trials" / f"{frozen.number:04d}",
                excess=None if best is None else best[1],
                step=None if best is None else best[0],
                steps=int(own.get("steps", curve[-1][0] if curve else 0)),
                seconds=float(own.get("seconds", 0.0)),
                reason=str(own.get("reason", "")),
                curve=curve,
                reported=own.get("reported"),
                default=bool(own.get("default")),
            )
        )
    importances, step = _importances(study)
    found = Sweep(
        path=place,
        data=source.name,
        trials=tuple(trials),
        planned=plan.trials,
        steps=plan.steps,
        rule=plan.reason,
        pruner=plan.pruner,
        unit=str(attrs.get("unit", "")),
        space=str(attrs.get("space", "")),
        held=int(attrs.get("samples", 0)),
        importances=importances,
        importance_step=step,
        settings={},
        seconds=time.monotonic() - began,
    )
    if not any(trial.state == "complete" for trial in trials):
        return found
    winner = Run.open(found.best.path)
    settings = {name: value for name, value in winner.config.items() if name != "data"}
    found = dataclasses.replace(found, settings=settings)
    with sweep_lock(place):
        write_page(found, winner)
    return found


def _importances(study: Study) -> tuple[dict[str, float], int]:
    """What each setting explains of the smallest excess up to a step, and that step.

    It is the last that all trials have reached. Those that were not pruned have good settings, and
    what varies among them is not what matters.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    used = [t for t in study.get_trials(deepcopy=False, states=ended) if t.intermediate_values]
    if len(used) < FEWEST_FOR_IMPORTANCE or any(len(trial.params) < 2 for trial in used):
        return {}, 0
    step = min(max(trial.intermediate_values) for trial in used)
    judged = optuna.create_study()
    for trial in used:
        value = min(excess for at, excess in trial.intermediate_values.items() if at <= step)
        judged.add_trial(
            optuna.create_trial(value=value, params=trial.params, distributions=trial.distributions)
        )
    try:
        found = get_param_importances(judged, evaluator=FanovaImportanceEvaluator(seed=0))
    except (RuntimeError, ValueError):  # as where every trial has one value of every setting
        return {}, 0
    return {name: float(share) for name, share in found.items()}, step
