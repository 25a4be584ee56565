"""What every reproduced figure has: claims with thresholds, trials from several seeds, a verdict.

The claims stand in an experiment's file before it is run. Every one is a number per seed and a
threshold; the verdict follows from them by one rule, :func:`judge`, and from nothing else.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from wgan.errors import UserError
from wgan.reports.style import png, write_whole
from wgan.training import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

Verdict = Literal["holds", "does not hold here", "not decided at this budget"]
HOLDS: Verdict = "holds"
FAILS: Verdict = "does not hold here"
UNDECIDED: Verdict = "not decided at this budget"


@dataclass(frozen=True)
class Claim:
    """One sentence of a source as a number and its threshold.

    Attributes:
        name: Key of its statistic.
        says: The sentence.
        statistic: What is computed, from one seed.
        sign: Whether the number must be at least or at most the threshold.
        threshold: In the statistic's unit.
    """

    name: str
    says: str
    statistic: str
    sign: Literal[">=", "<="]
    threshold: float

    def met(self, value: float) -> bool:
        """Whether a seed's number is on the right side; what is not a number is not."""
        return value >= self.threshold if self.sign == ">=" else value <= self.threshold


class OutOfTimeError(Exception):
    """The budget is spent, in the middle of a trial."""


class MissingDataError(UserError):
    """What an experiment is run on is not at hand, and nothing can stand in."""


class Budget:
    """Seeds one after another, until all are done or time is up.

    Args:
        seed: The first seed, >= 0.
        seconds: From now, > 0; None: as long as it takes.

    Raises:
        UserError: A value out of its range.
    """

    def __init__(self, seed: int = 0, seconds: float | None = None) -> None:
        if seed < 0:
            raise UserError(f"`seed` must be >= 0, got {seed}")
        if seconds is not None and not 0 < seconds < math.inf:
            raise UserError(f"`seconds` must be > 0, got {seconds}")
        self.seed = seed
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        """Raise `OutOfTimeError` once the time is up; trials call it as often as they like."""
        if time.monotonic() > self._end:
            raise OutOfTimeError

    def until(self, step: int) -> Callable[[TrainState], bool]:
        """For :func:`wgan.training.train`: stop after this step, or leave the trial for time."""

        def done(state: TrainState) -> bool:
            self.check()
            return state.step >= step

        return done

    def trials(self, trial: Callable[[int], T], seeds: int) -> list[T]:
        """What `trial` makes of each seed that the time allowed; a trial cut short is left out.

        Raises:
            OutOfTimeError: Not one was finished.
        """
        found: list[T] = []
        for seed in range(self.seed, self.seed + seeds):
            try:
                self.check()
                found.append(trial(seed))
            except OutOfTimeError:
                if not found:
                    raise
                break
        return found


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run of an experiment found.

    Attributes:
        statistics: By claim, one number for each seed that was finished.
        settings: How it was run, in plain data.
        figure: The picture in the source's form.
        notes: Numbers beside the claims, in plain data.
        data: What it was run on, where that is not what the experiment says.
    """

    statistics: Mapping[str, Sequence[float]]
    settings: Mapping[str, Any]
    figure: Figure
    notes: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A figure or claim of a source.

    Attributes:
        name: On the command line.
        title: In a sentence.
        source: Where it is claimed.
        claims: What is checked.
        data: What it is run on.
        differs: What differs from the source.
        seconds: What it takes in full on one core, near enough.
        seeds: Seeds in full; 1 where nothing is random.
        needed: Seeds without which there is no verdict.
        run: Runs it within a budget.
    """

    name: str
    title: str
    source: str
    claims: tuple[Claim, ...]
    data: str
    differs: str
    seconds: float
    seeds: int
    needed: int
    run: Callable[[Budget], Outcome]


@dataclass(frozen=True)
class Checked:
    """A claim and what was found: a number for each seed, and the claim's own verdict."""

    claim: Claim
    values: tuple[float, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Result:
    """What is written of an experiment; see :class:`Experiment` and :class:`Outcome`.

    Attributes:
        verdict: Of all claims together.
        seed: The first seed.
        seeds: Seeds finished.
        seconds: That it took, on the clock.
        budget: The seconds it was allowed, or None.
    """

    name: str
    verdict: Verdict
    claims: tuple[Checked, ...]
    settings: Mapping[str, Any]
    notes: Mapping[str, Any]
    data: str
    differs: str
    seed: int
    seeds: int
    seconds: float
    budget: float | None


def judge(values: Sequence[float], claim: Claim, needed: int) -> Verdict:
    """A claim holds if every seed meets it, and does not if most miss it; else it is not decided.

    Nor is it decided by fewer than `needed` seeds.
    """
    met = sum(map(claim.met, values))
    if len(values) < needed:
        return UNDECIDED
    if met == len(values):
        return HOLDS
    return FAILS if 2 * met < len(values) else UNDECIDED


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """All hold; or one does not; or it is not decided."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if all(verdict == HOLDS for verdict in verdicts) else UNDECIDED


def reproduce(
    experiment: Experiment, out: Path, *, seed: int = 0, seconds: float | None = None
) -> Result:
    """Run an experiment; write ``OUT/NAME/result.json`` and its picture ``OUT/NAME.png``.

    A budget in which no seed is finished leaves a result without numbers, and no picture.

    Raises:
        UserError: `out` cannot be written, or a value is out of its range.
    """
    try:
        (out / experiment.name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from None
    started = time.monotonic()
    outcome = None
    try:
        outcome = experiment.run(Budget(seed, seconds))
    except OutOfTimeError:
        pass
    else:
        assert set(outcome.statistics) == {claim.name for claim in experiment.claims}
    checked = tuple(
        Checked(claim, values, judge(values, claim, experiment.needed))
        for claim in experiment.claims
        for values in [tuple(outcome.statistics[claim.name]) if outcome else ()]
    )
    result = Result(
        name=experiment.name,
        verdict=overall([one.verdict for one in checked]),
        claims=checked,
        settings=outcome.settings if outcome else {},
        notes=outcome.notes if outcome else {},
        data=(outcome and outcome.data) or experiment.data,
        differs=experiment.differs,
        seed=seed,
        seeds=len(checked[0].values),
        seconds=round(time.monotonic() - started, 1),
        budget=seconds,
    )
    if outcome is None:
        picture(experiment, out).unlink(missing_ok=True)  # it would be of another run
    else:
        write_whole(picture(experiment, out), png(outcome.figure))
    write_whole(_file(experiment, out), json.dumps(asdict(result), indent=1).encode())
    return result


def picture(experiment: Experiment, out: Path) -> Path:
    """Where an experiment's picture is."""
    return out / f"{experiment.name}.png"


def read(experiment: Experiment, out: Path) -> Result | None:
    """The result of an experiment in a folder, or None.

    Raises:
        UserError: The file is damaged, or of other claims than the experiment now makes.
    """
    path = _file(experiment, out)
    try:
        found = json.loads(path.read_text())
        claims = tuple(
            Checked(Claim(**one["claim"]), tuple(one["values"]), one["verdict"])
            for one in found["claims"]
        )
        result = Result(**{**found, "claims": claims})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a result ({error}); remove it to run it again") from None
    if tuple(one.claim for one in claims) != experiment.claims:
        raise UserError(f"{path} is of other claims; remove it to run {experiment.name} again")
    return result


def _file(experiment: Experiment, out: Path) -> Path:
    return out / experiment.name / "result.json"
