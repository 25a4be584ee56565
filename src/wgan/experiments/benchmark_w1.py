"""Bounds on W1 against known answers: the published pairs, and pairs outside their family.

A trial is one pair, one set of critics and one seed; it leaves one JSON file, and what has its file
is not run again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wgan.bounds import LEARNED_CONES, WAYS, Budget, Gap, lower_bound, population_gap, unlimited
from wgan.bounds.critics import Points
from wgan.errors import RunFailedError, UnknownNameError, UserError
from wgan.experiments.w1_baselines import STEPS, fit_baseline
from wgan.experiments.w1_pairs import Pair, benchmark, cones, outside

ESTIMATORS: dict[str, tuple[str, ...]] = {
    "all": WAYS,
    "networks": ("maxmin", "sorted", "half-sorted"),
    "cones": (LEARNED_CONES,),
}
"""Kinds of critic that compete, by name; beside them the published estimators, by their names."""

_CHOOSE, _MEASURE, _FIGURES = 5_000, 50_000, 4_096
_CHUNK = 50_000


@dataclass(frozen=True)
class Trial:
    """One pair, one estimator, one seed.

    Attributes:
        pair: By name: ``cones-D-N``, or a key of :func:`wgan.experiments.w1_pairs.outside`.
        estimator: A key of `ESTIMATORS`, or of :data:`wgan.experiments.w1_baselines.STEPS`.
        seed: >= 0, of critics and samples; the pair is always the same.
        seconds: Of the processor, for finding critics, on one core.
        fresh: Samples of each on which the critic's own gap is found, to check its interval, which
            is then measured on a twentieth of them; 0: not checked.
    """

    pair: str
    estimator: str
    seed: int
    seconds: float
    fresh: int

    @property
    def file(self) -> str:
        """Where its result is."""
        return f"{self.pair}-{self.estimator}-{self.seed}.json"


def known_pairs() -> list[str]:
    """Every pair by name, the published ones first."""
    return [*(f"cones-{dim}-{n}" for dim, n in benchmark()), *outside()]


def open_pair(name: str) -> Pair:
    """The pair of a name.

    Raises:
        UnknownNameError: No such pair.
    """
    if name not in known_pairs():
        raise UnknownNameError("pair", name, known_pairs())
    if name.startswith("cones-"):
        _, dim, n = name.split("-")
        return cones(int(dim), int(n))
    return outside()[name]()


def known_estimators() -> list[str]:
    """Every estimator by name, this project's first."""
    return [*ESTIMATORS, *STEPS]


def run_trial(trial: Trial) -> dict[str, Any]:
    """Bound or estimate the pair's W1, and compare with what is known.

    Returns:
        Plain data: the ``trial``; ``w1``, ``w1_error``; ``estimate`` and its ``standard_error``;
        ``method``; ``cos`` and ``l2`` of the gradient on samples of P, where the optimal one is
        known; ``seconds`` and ``cpu_seconds``. Of this project's: ``lower``; ``critics``, what each
        kind reached; and with `fresh` ``gap``, the chosen critic's own on so many samples, with
        ``gap_error``, and ``inside``, whether its two-sided 90% interval, widened by that error,
        holds it. Of others:
        ``updates`` and ``published_updates``.
    """
    pair = open_pair(trial.pair)
    began, used = time.monotonic(), time.process_time()
    result: dict[str, Any] = {"trial": asdict(trial), "w1": pair.w1, "w1_error": pair.w1_error}
    make = _estimated if trial.estimator in STEPS else _bounded
    result |= make(pair, trial, began, used)
    return result


def _bounded(pair: Pair, trial: Trial, began: float, used: float) -> dict[str, Any]:
    # `choose` and `measure` are streams of their own; a trial's seeds do not meet another's.
    measure = max(2, trial.fresh // 20) if trial.fresh else _MEASURE
    parts = unlimited(pair.draw, pair.dim, 1_000 + trial.seed, choose=_CHOOSE, measure=measure)
    found = lower_bound(
        parts,
        _budget(trial),
        seed=trial.seed,
        ways=ESTIMATORS[trial.estimator],
    )
    rng = _judging(trial)
    result: dict[str, Any] = {
        "estimate": found.gap.estimate,
        "lower": found.lower,
        "standard_error": found.gap.standard_error,
        "method": found.critic.name,
        "critics": dict(found.chosen),
        **_spent(began, used),
    }
    x, _ = pair.draw(rng, _FIGURES)
    result |= _agreement(pair, x, found.critic.gradient(x.numpy()))
    if trial.fresh:
        own = _separation(pair, found.critic, rng, trial.fresh)
        # The fresh samples have an error too, independent of the interval's.
        together = math.hypot(1.0, own.standard_error / (found.gap.standard_error or 1.0))
        half = (found.gap.estimate - found.gap.lower) * together
        result |= {
            "gap": own.estimate,
            "gap_error": own.standard_error,
            "inside": bool(abs(own.estimate - found.gap.estimate) <= half),
        }
    return result


def _estimated(pair: Pair, trial: Trial, began: float, used: float) -> dict[str, Any]:
    found = fit_baseline(trial.estimator, pair.draw, pair.dim, _budget(trial), trial.seed)
    rng = _judging(trial)
    spent = _spent(began, used)
    if found.scores is not None:
        own = _separation(pair, found.scores, rng, _MEASURE)
        reported = {"estimate": own.estimate, "standard_error": own.standard_error}
        x, _ = pair.draw(rng, _FIGURES)
    else:
        assert found.value is not None
        reported = {"estimate": found.value}
        x = torch.from_numpy(found.points)
    return {
        **reported,
        "method": trial.estimator,
        "updates": found.steps,
        "published_updates": STEPS[trial.estimator],
        **spent,
        **_agreement(pair, x, found.gradient(x.numpy())),
    }


def _budget(trial: Trial) -> Budget:
    """In processor seconds, so that other work on the machine does not count."""
    return Budget(seconds=trial.seconds, clock=time.process_time)


def _judging(trial: Trial) -> torch.Generator:
    return torch.Generator().manual_seed(10**6 + trial.seed)


def _spent(began: float, used: float) -> dict[str, float]:
    return {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - used,
    }


def _agreement(pair: Pair, x: Tensor, ours: Points) -> dict[str, float]:
    """Mean cosine and squared distance of a gradient at samples of P and the optimal one."""
    if pair.gradient is None:
        return {}
    theirs = pair.gradient(x).numpy()
    lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
    return {
        "cos": float(np.mean((theirs * ours).sum(1) / np.maximum(lengths, 1e-12))),
        "l2": float(np.mean(np.square(theirs - ours).sum(1))),
    }


def _separation(
    pair: Pair, scores: Callable[[Points], Points], rng: torch.Generator, samples: int
) -> Gap:
    """What scores separate on fresh samples."""
    sides: list[list[Points]] = [[], []]
    for start in range(0, samples, _CHUNK):
        for side, points in zip(sides, pair.draw(rng, min(_CHUNK, samples - start)), strict=True):
            side.append(scores(points.numpy()))
    return population_gap(*(np.concatenate(side) for side in sides))


def run_trials(
    trials: Sequence[Trial], out: Path, *, jobs: int
) -> Iterator[tuple[Trial, dict[str, Any]]]:
    """Run those without a result in `out`, `jobs` at a time on a core each; each as it is done."""
    if jobs < 1:
        raise UserError(f"`jobs` must be >= 1, got {jobs}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from None
    waiting = [trial for trial in trials if read(trial, out) is None]
    os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that are started here
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_run_and_write, trial, out): trial for trial in waiting}
        try:
            for future in as_completed(futures):
                try:
                    result = future.result()
                except BrokenProcessPool:
                    raise RunFailedError(
                        "a trial's process was killed, perhaps for want of memory; the same "
                        "command goes on, with fewer --jobs if need be"
                    ) from None
                yield futures[future], result
        finally:
            for future in futures:
                future.cancel()


def read(trial: Trial, out: Path) -> dict[str, Any] | None:
    """The result of a trial, or None.

    Raises:
        UserError: The file is damaged, or of other settings.
    """
    path = out / trial.file
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        settings = result["trial"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a result ({error}); remove it to run it again") from None
    if settings != asdict(trial):
        raise UserError(f"{path} is of other settings than asked for; use another --out")
    return result


def _run_and_write(trial: Trial, out: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    result = run_trial(trial)
    beside = out / f".{trial.file}.{os.getpid()}"
    beside.write_text(json.dumps(result, indent=1))
    beside.replace(out / trial.file)
    return result


# -- results in one file ---------------------------------------------------------------------------


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The results kept in a file, one JSON line each; none where there is no file.

    Raises:
        UserError: The file is damaged.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    results = []
    for i, line in enumerate(lines, start=1):
        try:
            result = json.loads(line)
            Trial(**result["trial"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"line {i} of {path} is not a result") from None
        results.append(result)
    return results


def merged(kept: Iterable[dict[str, Any]], new: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both, a new result in place of a kept one of the same trial; in the order of trials."""
    results = {Trial(**result["trial"]): result for result in [*kept, *new]}
    pairs, estimators = known_pairs(), known_estimators()

    def order(trial: Trial) -> tuple[int, int, float, int, int]:
        return (
            estimators.index(trial.estimator),
            pairs.index(trial.pair),
            trial.seconds,
            trial.fresh,
            trial.seed,
        )

    return [results[trial] for trial in sorted(results, key=order)]


def write_lines(results: Iterable[dict[str, Any]], path: Path) -> None:
    """Keep results in a file, one JSON line each."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text("".join(json.dumps(result) + "\n" for result in results))
    beside.replace(path)
