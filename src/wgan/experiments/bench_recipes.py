"""Train every recipe for the same time and judge what it made: the numbers behind a choice.

A trial is one recipe on one data set from one seed. Each runs in a process of its own with one
thread and leaves one JSON file when it is done, failures included; what has its file is not run
again, so that a benchmark can be interrupted at any time and continued.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wgan.build import build_state
from wgan.card import versions
from wgan.config import resolve
from wgan.data import open_source
from wgan.data.base import Source
from wgan.errors import RunFailedError, UnknownNameError, UserError
from wgan.metrics import frechet_distance, mode_coverage, nearest_neighbour_accuracy
from wgan.metrics.modes import KnownModes
from wgan.recipes import RECIPES
from wgan.training import TrainState, synthesize, train
from wgan.transport import cost_matrix, exact_from_cost

Points = NDArray[np.float64]

SEEDS: dict[str, tuple[int, ...]] = {
    "gaussians8": (0, 1, 2),
    "gaussians25": (0,),
    "swissroll": (0,),
    "digits": (0,),
}
"""The data sets, and the seeds of each."""

PUBLISHED: dict[str, tuple[int, ...]] = {"gaussians8": (0,)}
"""Where, and from which seeds, the published settings run beside the auto ones."""

FOUND: dict[str, dict[str, float]] = {"gaussians8": {"min_share": 0.04, "radius": 0.15}}
"""When a mode counts as found, where not by `mode_coverage`'s own rule."""

HOLDOUT = 0.3  # of the digits, so that there is something fresh to judge by
_JUDGED = 2_000  # samples of each in a judgement
_LOOKS = 20  # at the raw generator's modes, evenly over the time
_SCHEDULED = 10_000  # steps of a published schedule; few recipes come so far in the time
_FIRST_PASSES = 2**13  # of the readings after 2^k critic passes


@dataclass(frozen=True)
class Trial:
    """One recipe on one data set from one seed.

    Attributes:
        recipe: By name.
        data: By name, a key of `SEEDS`.
        seed: >= 0.
        seconds: Processor time of the training loop, > 0.
        settings: auto or published.
    """

    recipe: str
    data: str
    seed: int
    seconds: float
    settings: str = "auto"

    @property
    def file(self) -> str:
        """Where its result is, in the benchmark's folder."""
        published = "-published" if self.settings == "published" else ""
        return f"{self.data}-{self.recipe}-{self.seed}{published}.json"


def plan(recipes: Sequence[str], data: Sequence[str], seconds: float) -> list[Trial]:
    """The trials in the order in which they are run: a data set at a time, seeds outside recipes.

    Published settings come after the auto ones of a data set.

    A recipe that is a convolutional network has no trial in the plane.

    Raises:
        UserError: An unknown name, or a time that is not > 0.
    """
    for name in recipes:
        if name not in RECIPES:
            raise UnknownNameError("recipe", name, RECIPES)
    for name in data:
        if name not in SEEDS:
            raise UnknownNameError("data", name, SEEDS)
    if not 0 < seconds < float("inf"):
        raise UserError(f"`seconds` must be > 0, got {seconds}")
    return [
        Trial(recipe, name, seed, seconds, settings)
        for name in data
        for settings, seeds in (("auto", SEEDS[name]), ("published", PUBLISHED.get(name, ())))
        for seed in seeds
        for recipe in recipes
        if name == "digits" or RECIPES[recipe].settings.critic_network != "dcgan"
    ]


# -- one trial -------------------------------------------------------------------------------------


class Judge:
    """Judges samples against fresh data of a source, and the data against itself.

    Args:
        source: The whole data, for its codec and modes.
        training: What was trained on; the floor is between it and `fresh`.
        fresh: What was not.
    """

    def __init__(self, source: Source, training: Source, fresh: Source) -> None:
        self.source = source
        self.count = _JUDGED if fresh.size is None else min(_JUDGED, fresh.size)
        self.real = self._own(fresh)
        self._within = cost_matrix(self.real, self.real)
        self.floor = self(self._own(training))

    def __call__(self, samples: Points) -> dict[str, float]:
        """Measures of `count` samples in own units, flat."""
        across = cost_matrix(samples, self.real)
        found = {
            "w1": exact_from_cost(across).value,
            "nn_accuracy": nearest_neighbour_accuracy(
                cost_matrix(samples, samples), self._within, across
            ),
        }
        if isinstance(self.source, KnownModes):
            coverage = mode_coverage(samples, self.source, **FOUND.get(self.source.name, {}))
            found |= {"modes": coverage.found, "of": coverage.total, "near": coverage.near}
        else:
            found["frechet"] = frechet_distance(samples, self.real)
        return found

    def draw(self, generator: nn.Module, latent: Tensor, like: Tensor) -> Points:
        """What a generator makes of latents, in own units, flat."""
        own = self.source.codec.decode(synthesize(generator, latent, None, like))
        return own.reshape(len(own), -1).astype(np.float64)

    def _own(self, part: Source) -> Points:
        rows = torch.arange(self.count)
        if part.size is not None:  # neighbours in a file may be alike
            rows = rows * part.size // self.count
        own = self.source.codec.decode(part.batch(rows).values)
        return own.reshape(len(own), -1).astype(np.float64)


class Clock:
    """Processor seconds of this process, but for what is spent while it is stopped."""

    def __init__(self) -> None:
        self._stopped = 0.0

    @property
    def seconds(self) -> float:
        """Since the process began."""
        return time.process_time() - self._stopped

    def without(self, work: Callable[[], Any]) -> Any:
        """The result of `work`, its time not counted."""
        before = time.process_time()
        try:
            return work()
        finally:
            self._stopped += time.process_time() - before


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train until the time is up or training fails, judging on the way.

    Returns:
        Plain data: the trial; ``failed``, why it stopped early, or None; ``departures`` of auto
        from the published settings; ``steps``, ``seconds``, ``critic_passes`` at the end (batches
        that the critic scored, penalties and the generator's included; None without a critic);
        ``end``, the measures of the averaged generator; ``floor``, those of real data;
        ``by_passes``, W1 and modes after 2^k critic passes; ``looks``, over time the modes that the
        generator itself covers and the share of latents that changed their mode since the last
        look.
    """
    source = open_source(trial.data)
    given = {
        "recipe": trial.recipe,
        "settings": trial.settings,
        "seed": trial.seed,
        "seconds": trial.seconds,
        "device": "cpu",
    }
    if trial.settings == "published":
        given["steps"] = _SCHEDULED  # a published schedule must know its end
    config, departures = resolve({**given, "holdout": HOLDOUT}, source, trial.data)
    training, fresh = source.split(HOLDOUT, trial.seed)
    judge = Judge(source, training, fresh)
    for _ in train(build_state(config, training), training, until=1):
        pass  # what torch loads at a first step is not part of the time
    state = build_state(config, training)
    latent = torch.randn(
        judge.count, config.hyper.latent, generator=torch.Generator().manual_seed(trial.seed + 1)
    )
    scored = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal scored
        scored += len(inputs[0])

    if state.critic is not None:
        state.critic.module.register_forward_pre_hook(count)
    by_passes: list[dict[str, float]] = []
    looks = Looks(judge, latent)

    def passes() -> float:
        return scored / config.hyper.batch_size

    def measure(generator: nn.Module) -> dict[str, float]:
        before = scored
        found = judge(judge.draw(generator, latent, state.like))
        assert scored == before
        return found

    failed = None
    clock = Clock()
    began = clock.seconds
    try:
        for _ in train(state, training, until=lambda _: clock.seconds - began >= trial.seconds):
            spent = clock.seconds - began
            if passes() >= _FIRST_PASSES * 2 ** len(by_passes):
                found = clock.without(lambda: measure(state.average))
                by_passes.append({"critic_passes": passes(), "seconds": spent, **found})
            if spent >= trial.seconds * (len(looks.seen) + 1) / _LOOKS:
                clock.without(lambda: looks.look(state))
    except RunFailedError as error:
        failed = str(error)
    spent = clock.seconds - began
    return {
        "trial": asdict(trial),
        "failed": failed,
        "departures": [str(departure) for departure in departures],
        "steps": state.step,
        "seconds": spent,
        "critic_passes": None if state.critic is None else passes(),
        "end": measure(state.average),
        "floor": judge.floor,
        "by_passes": by_passes,
        "looks": looks.seen,
        "versions": versions(),
    }


class Looks:
    """Watches which modes the generator itself covers, where the data has known modes.

    Attributes:
        seen: For each look the ``modes`` found and ``moved``, the share of the fixed latents that
            are nearest to another mode than at the last look.
    """

    def __init__(self, judge: Judge, latent: Tensor) -> None:
        self.seen: list[dict[str, float]] = []
        self._judge = judge
        self._latent = latent
        self._last: NDArray[np.int64] | None = None

    def look(self, state: TrainState) -> None:
        """Look once more."""
        source = self._judge.source
        if not isinstance(source, KnownModes):
            self.seen.append({})
            return
        points = self._judge.draw(state.generator.module, self._latent, state.like)
        coverage = mode_coverage(points, source, **FOUND.get(source.name, {}))
        nearest = cost_matrix(points, source.centres).argmin(1)
        moved = 1.0 if self._last is None else float((nearest != self._last).mean())
        self.seen.append({"modes": coverage.found, "moved": moved})
        self._last = nearest


# -- all of them -----------------------------------------------------------------------------------


def run_trials(
    trials: Sequence[Trial], out: Path, *, jobs: int, stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Trial, dict[str, Any]]]:
    """Run those that have no result in `out`, `jobs` at a time; each result as it is written.

    Args:
        trials: In order of preference.
        out: The folder of results; made if it is not there.
        jobs: Processes, >= 1, with one thread each.
        stop: Asked about twice a second; true ends the trials that are running and leaves no
            result of them.

    Raises:
        UserError: `jobs` is not >= 1, or `out` cannot be written.
    """
    if jobs < 1:
        raise UserError(f"`jobs` must be >= 1, got {jobs}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from None
    waiting = [trial for trial in trials if read(trial, out) is None]
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    running: dict[Any, tuple[Any, Trial]] = {}
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        while (waiting or running) and not stop():
            while waiting and len(running) < jobs:
                trial = waiting.pop(0)
                process = context.Process(target=_run_and_write, args=(trial, out), daemon=True)
                process.start()
                running[process.sentinel] = process, trial
            for sentinel in wait(list(running), timeout=0.5):
                process, trial = running.pop(sentinel)
                process.join()
                result = read(trial, out)
                if result is None:  # killed, or out of memory
                    reason = f"its process ended with status {process.exitcode}"
                    result = {"trial": asdict(trial), "failed": reason}
                    _write(trial, out, result)
                yield trial, result
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def read(trial: Trial, out: Path) -> dict[str, Any] | None:
    """The result of a trial, or None where there is none yet.

    Raises:
        UserError: The file is damaged, or of a trial that had other settings.
    """
    path = out / trial.file
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        found = result["trial"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a result ({error}); remove it to run it again") from None
    if found != asdict(trial):
        raise UserError(
            f"{path} is of {found['seconds']:g} s and {trial.seconds:g} s were asked for; "
            "use another --out"
        )
    return result


def _run_and_write(trial: Trial, out: Path) -> None:
    """A process's work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    torch.set_num_threads(1)
    try:
        result = run_trial(trial)
    except UserError as error:  # it is not for such data
        result = {"trial": asdict(trial), "failed": str(error)}
    except Exception as error:  # a recipe that breaks is a result, and the others go on
        result = {"trial": asdict(trial), "failed": f"{type(error).__name__}: {error}"}
    _write(trial, out, result)


def _write(trial: Trial, out: Path, result: dict[str, Any]) -> None:
    beside = out / f".{trial.file}.{os.getpid()}"
    beside.write_text(json.dumps(result, indent=1))
    beside.replace(out / trial.file)
