"""Bounds on W1 against known answers: the published pairs, and pairs outside their family.

A trial is one pair, one set of critics and one seed; it leaves one JSON file, and what has its file
is not run again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from wgan.bounds import LEARNED_CONES, WAYS, Budget, lower_bound, population_gap, unlimited
from wgan.errors import RunFailedError, UnknownNameError, UserError
from wgan.experiments.w1_pairs import Pair, benchmark, cones, outside

ESTIMATORS: dict[str, tuple[str, ...]] = {
    "all": WAYS,
    "networks": ("maxmin", "sorted"),
    "cones": (LEARNED_CONES,),
}
"""Kinds of critic that compete, by name."""

_CHOOSE, _MEASURE, _FIGURES = 5_000, 50_000, 4_096
_CHUNK = 50_000


@dataclass(frozen=True)
class Trial:
    """One pair, one estimator, one seed.

    Attributes:
        pair: By name: ``cones-D-N``, or a key of :func:`wgan.experiments.w1_pairs.outside`.
        estimator: A key of `ESTIMATORS`.
        seed: >= 0, of critics and samples; the pair is always the same.
        seconds: For finding critics, on one core.
        fresh: Samples of each on which the critic's own gap is known, to check its interval.
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


def run_trial(trial: Trial) -> dict[str, Any]:
    """Bound the pair's W1 from below, and compare with what is known.

    Returns:
        Plain data: the ``trial``; ``w1``; ``estimate``, ``lower`` and ``standard_error`` of the
        chosen critic, its ``method``, what each kind reached (``critics``); ``gap``, that critic's
        own gap on `fresh` samples, with ``gap_error``; ``inside``, whether its two-sided 90%
        interval holds that; ``cos`` and ``l2`` of its gradient on samples of P; ``seconds``.
    """
    pair = open_pair(trial.pair)
    began = time.process_time()
    # `choose` and `measure` are streams of their own; a trial's seeds do not meet another's.
    parts = unlimited(pair.draw, pair.dim, 1_000 + trial.seed, choose=_CHOOSE, measure=_MEASURE)
    found = lower_bound(
        parts,
        Budget(seconds=trial.seconds),
        seed=trial.seed,
        ways=ESTIMATORS[trial.estimator],
    )
    rng = torch.Generator().manual_seed(10**6 + trial.seed)
    result: dict[str, Any] = {
        "trial": asdict(trial),
        "w1": pair.w1,
        "w1_error": pair.w1_error,
        "estimate": found.gap.estimate,
        "lower": found.lower,
        "standard_error": found.gap.standard_error,
        "method": found.critic.name,
        "critics": dict(found.chosen),
        "seconds": found.seconds,
        "cpu_seconds": time.process_time() - began,
    }
    if pair.gradient is not None:
        x, _ = pair.draw(rng, _FIGURES)
        theirs, ours = pair.gradient(x).numpy(), found.critic.gradient(x.numpy())
        lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(ours, axis=1)
        result["cos"] = float(np.mean((theirs * ours).sum(1) / np.maximum(lengths, 1e-12)))
        result["l2"] = float(np.mean(np.square(theirs - ours).sum(1)))
    if trial.fresh:
        scores: list[list[Any]] = [[], []]
        for start in range(0, trial.fresh, _CHUNK):
            for side, points in zip(
                scores, pair.draw(rng, min(_CHUNK, trial.fresh - start)), strict=True
            ):
                side.append(found.critic(points.numpy()))
        own = population_gap(*(np.concatenate(side) for side in scores))
        low, high = found.gap.two_sided()
        result |= {
            "gap": own.estimate,
            "gap_error": own.standard_error,
            "inside": bool(low <= own.estimate <= high),
        }
    return result


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


# -- the page --------------------------------------------------------------------------------------


def page(results: Iterable[dict[str, Any]]) -> str:
    """The results in Markdown: a summary by estimator, then every pair."""
    tables: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for result in results:
        trial = result["trial"]
        tables.setdefault(trial["estimator"], {}).setdefault(trial["pair"], []).append(result)
    parts = [_INTRODUCTION]
    for estimator, pairs in tables.items():
        kinds = ", ".join(ESTIMATORS[estimator])
        parts.append(f"## Critics: {estimator} ({kinds})\n")
        every = [result for found in pairs.values() for result in found]
        published = [pairs[name] for name in pairs if name.startswith("cones-")]
        parts.append(_summary(every, published))
        parts.append(_table(pairs))
    return "\n".join(parts).rstrip() + "\n"


_INTRODUCTION = """\
# Bounds on W1 against known answers

<!-- Written by `wgan benchmark-w1 --page FILE`; edit src/wgan/experiments instead. -->

`wgan benchmark-w1` bounds the W1 of pairs of populations whose distance is known: the 28 published
pairs of Korotin, Kolesov and Burnaev (2022), `cones-D-N`, and pairs outside their family.
*Deviation* is that of the estimate (what the chosen critic separates on fresh samples) from the
truth; *lower* is the certified bound at 95%; *cos* is the mean cosine of the critic's gradient with
the optimal critic's, on samples of P. Where there are several seeds these are means over them.

The published pairs are made of cones, and two of the kinds of critic here (`cones-up` and
`cones-down`) are maxima and minima of cones too, though at samples and not at places that they
learn. So there are two sets of critics: every kind, and networks alone. Each was given the seconds
in its row, on one core of a shared machine; networks want minutes, and gain with them.
"""


def _summary(results: Sequence[dict[str, Any]], published: Sequence[list[dict[str, Any]]]) -> str:
    above = sum(result["lower"] > result["w1"] + 3 * result["w1_error"] for result in results)
    lines = [
        f"- The bound exceeds the truth in {above} of {len(results)} trials"
        f"{_binomial(above, len(results))}.",
    ]
    checked = [result for result in results if "inside" in result]
    if checked:
        inside = sum(result["inside"] for result in checked)
        lines.append(
            f"- The two-sided 90% interval holds the critic's own gap in {inside} of "
            f"{len(checked)} trials."
        )
    if published:
        off = [abs(_deviation(found)) for found in published]
        lines.append(
            f"- On {len(off)} of the 28 published pairs: mean absolute deviation "
            f"{fmean(off):.1%}; within 5% on {sum(d <= 0.05 for d in off)}, within 10% on "
            f"{sum(d <= 0.1 for d in off)}."
        )
    return "\n".join(lines) + "\n"


def _binomial(above: int, trials: int) -> str:
    from scipy.stats import binomtest

    p = float(binomtest(above, trials, 0.05, alternative="greater").pvalue)
    return f" (5% allowed; p = {p:.2g} that it is more)"


def _deviation(found: Sequence[dict[str, Any]]) -> float:
    return fmean(result["estimate"] / result["w1"] - 1 for result in found)


def _table(pairs: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| pair | W1 | estimate | deviation | lower | cos | seeds | s | critic |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    order = {name: i for i, name in enumerate(known_pairs())}
    for name in sorted(pairs, key=lambda name: order[name]):
        found = pairs[name]
        cos = [result["cos"] for result in found if math.isfinite(result.get("cos", math.nan))]
        methods = sorted({result["method"] for result in found})
        lines.append(
            f"| {name} | {found[0]['w1']:.4f} | {fmean(r['estimate'] for r in found):.4f} "
            f"| {_deviation(found):+.1%} | {fmean(r['lower'] for r in found):.4f} "
            f"| {f'{fmean(cos):.2f}' if cos else '-'} | {len(found)} "
            f"| {fmean(r['seconds'] for r in found):.0f} | {'; '.join(methods)} |"
        )
    return "\n".join(lines) + "\n"
