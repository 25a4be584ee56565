"""The doctor's rules: each looks at an examination and finds one thing, or nothing.

A rule says *what* is so, with the numbers that show it; *why*, with what told it from its rivals;
*what to do*, as a flag and what that costs; and *how sure* it is. To add one, write a function of
an :class:`Examination` under :func:`rule`; `docs/doctor.md` is made from this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from wgan.diagnostics.examination import PROBED, Examination, Layer
from wgan.diagnostics.signs import blocks, decay, growth, swing, trend

Verdict = Literal["healthy", "improving", "ill"]
Kind = Literal["ill", "note"]
Live = Literal["", "data", "always", "stuck"]
"""When a rule is asked while a run goes on: never; of the data, at the start; whatever the samples
are; only where they are far from the data and come no closer."""

EXCESS = "audit.excess"
_LOG2 = math.log(2)


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        name: From the documented list.
        evidence: The numbers that show it.
        cause: The likely cause, and what told it from its rivals.
        advice: What to change, and what that costs.
        confidence: In (0, 1].
        kind: ``ill``: something is wrong. ``note``: where the run stands.
    """

    name: str
    evidence: str
    cause: str
    advice: str
    confidence: float
    kind: Kind = "ill"


@dataclass(frozen=True)
class Rule:
    """A rule and what the page says of it.

    Attributes:
        name: Of its finding.
        title: What it finds, in a line.
        sign: By which it is told.
        kind: Of its finding.
        live: When it is asked while a run goes on.
        check: The finding's evidence, advice and confidence; None where there is nothing.
    """

    name: str
    title: str
    sign: str
    kind: Kind
    live: Live
    check: Callable[[Examination], Finding | None]


RULES: list[Rule] = []
"""Every rule, in the order in which findings of equal confidence are told."""


Check = Callable[[Examination], "_Told | None"]


def rule(
    name: str, title: str, sign: str, kind: Kind = "ill", *, live: Live = ""
) -> Callable[[Check], Check]:
    """Register a rule; what it tells gets the rule's name and kind."""

    def add(check: Check) -> Check:
        def found(examination: Examination) -> Finding | None:
            told = check(examination)
            return None if told is None else Finding(name, **vars(told), kind=kind)

        RULES.append(Rule(name, title, sign, kind, live, found))
        return check

    return add


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of a run.

    Attributes:
        verdict: ``ill`` where something is wrong, ``improving`` where it still gets better, else
            ``healthy``.
        findings: The surest first.
        missing: What could not be looked at.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    missing: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
            "missing": self.missing,
        }

    def text(self, shown: Mapping[str, str] | None = None) -> str:
        """For a terminal.

        Args:
            shown: A line for a finding that shows its evidence, by name.
        """
        heads = {
            "healthy": "healthy: nothing is wrong that shows",
            "improving": "improving: nothing is wrong that shows, and it still gets better",
            "ill": "ill",
        }
        lines = [heads[self.verdict]]
        for finding in self.findings:
            lines += [
                "",
                f"{finding.name} ({finding.confidence:.0%} sure)",
                f"  what  {finding.evidence}",
                f"  why   {finding.cause}",
                f"  do    {finding.advice}",
            ]
            if shown and shown.get(finding.name):
                lines.insert(-2, f"  see   {shown[finding.name]}")
        if self.missing:
            lines += ["", f"not looked at: {self.missing}"]
        return "\n".join(lines)


BRINGS: dict[str, tuple[str, ...]] = {
    "learning-rate-too-high": (
        *("mode-collapse", "dead-units", "critic-under-trained", "vanishing-gradient"),
        *("oscillation", "exploding-gradient", "critic-exploited", "generator-stands-still"),
    ),
    "generator-stands-still": ("mode-collapse", "vanishing-gradient", "learning-rate-too-low"),
    "momentum-harmful": ("mode-collapse", "dead-units", "critic-under-trained", "oscillation"),
    "clip-bound-too-large": (
        *("mode-collapse", "critic-under-trained", "exploding-gradient"),
        "generator-stands-still",
    ),
    "clip-bound-too-small": (
        *("mode-collapse", "critic-under-trained", "learning-rate-too-low"),
        "generator-stands-still",
    ),
    "vanishing-gradient": ("mode-collapse", "critic-under-trained", "learning-rate-too-low"),
    "critic-saturated": (
        *("mode-collapse", "vanishing-gradient", "learning-rate-too-low"),
        "generator-stands-still",
    ),
    "penalty-dominates": ("mode-collapse", "critic-under-trained", "vanishing-gradient"),
    "constraint-not-enforced": ("mode-collapse", "critic-under-trained", "exploding-gradient"),
    "constraint-over-enforced": ("mode-collapse", "critic-under-trained"),
    "batch-too-small": ("mode-collapse", "critic-under-trained", "oscillation"),
    "outliers": ("mode-collapse", "critic-under-trained"),
    "dead-units": ("mode-collapse",),
}
"""What a finding brings about: told after it, as a symptom after its cause."""


def diagnose(examination: Examination) -> Diagnosis:
    """Apply every rule."""
    found = [f for one in RULES if (f := one.check(examination)) is not None]
    brought = {name for finding in found for name in BRINGS.get(finding.name, ())}
    found.sort(key=lambda f: (f.kind == "note", f.name in brought, -f.confidence))
    ill = any(finding.kind == "ill" for finding in found)
    improving = any(finding.name == "still-improving" for finding in found)
    verdict: Verdict = "ill" if ill else "improving" if improving else "healthy"
    return Diagnosis(verdict, tuple(found), examination.missing)


# -- what rules share --------------------------------------------------------------------------


def far(x: Examination) -> bool:
    """Whether the samples are clearly not the data: what is wrong with a run must show there."""
    low = x.last("audit.excess_low")
    floor = x.last("audit.w1_floor") if x.floor is None else x.floor
    told = x.judged.get("nn_accuracy")
    apart = told is not None and told.value > 0.75
    if math.isfinite(low) and math.isfinite(floor):
        return low > 0.25 * floor or (apart and low > 0)
    return apart


def collapsed(x: Examination) -> float:
    """Share of the data that samples miss while they lie among it or on top of one another.

    0 where that is not so, or not known.
    """
    names = ("recall", "precision", "duplicates")
    if all(name in x.judged for name in names):
        if closing(x):
            return 0.0  # it has not found all of the data yet
        recall, precision, copies = (x.judged[name] for name in names)
        missing = 1 - recall.value / max(recall.floor, 1e-9)
        alike = copies.value > max(0.1, 5 * copies.floor)
        among = precision.value > 0.5 * precision.floor
        return max(missing, 0.0) if among or alike else 0.0
    recalls, covers = x.series("audit.recall"), x.series("audit.coverage")
    count = max(_LASTING, len(covers) // 4)
    if len(covers) < 2 * _LASTING or trend(covers).rises(0.1):
        return 0.0  # a generator that is still finding the data covers little of it, too
    among = x.late("audit.precision") > 0.5
    if not among or covers[-count:].max() > 0.5 or recalls[-count:].max() > 0.7:
        return 0.0
    return 1 - float(np.median(recalls[-count:]))


_LASTING = 5  # audits


def closing(x: Examination) -> bool:
    """Whether the samples are coming closer fast: a run that has only begun is far, too."""
    excess = x.series(EXCESS)
    part = max(1, len(excess) // 4)
    return len(excess) > 1 and bool(
        np.median(excess[-part:]) < 0.6 * np.median(excess[:part])
        and excess[-1] < excess[:part].min()
    )


def young(x: Examination) -> bool:
    """Whether it is too early to expect anything of the samples."""
    return x.steps < 300 and len(x.series(EXCESS)) < 3


def damaged(x: Examination) -> bool:
    """Whether what is wrong with a run has harmed it, as far as that can be told."""
    dead = x.networks is not None and x.networks.dead > _DEAD
    return far(x) or dead or collapsed(x) > 0.25


_DEAD = 0.4  # share of a generator's units


@dataclass(frozen=True)
class _Told:
    """A finding before its rule has given it name and kind."""

    evidence: str
    cause: str
    advice: str
    confidence: float


def _found(evidence: str, cause: str, advice: str, confidence: float) -> _Told:
    return _Told(evidence, cause, advice, round(confidence, 2))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, x))))


def _sure(value: float, threshold: float, *, low: float = 0.6, high: float = 0.97) -> float:
    """Confidence that grows with the factor by which a value exceeds its threshold."""
    return low + (high - low) * (
        2 * _sigmoid(math.log(max(value, 1e-300) / max(threshold, 1e-300))) - 1
    )


def _set(x: Examination, name: str) -> Any:
    return x.config.get(name)


def _number(value: float) -> str:
    return f"{value:.3g}"


# -- the run broke ---------------------------------------------------------------------------------


@rule(
    "diverged",
    "A loss or a gradient became infinite or not a number.",
    "The run's card says at which step and in which term.",
)
def _diverged(x: Examination) -> _Told | None:
    if "not finite" not in x.reason:
        return None
    norms = x.series("critic_gradient_norm")
    grew = f"; the critic's gradient ended at {_number(norms[-1])}" if len(norms) else ""
    return _found(
        f"{x.reason}{grew}",
        "The weights grew until a number overflowed: steps too long for this loss.",
        "lower --lr (a third is a good first try), or --on-divergence rollback, which goes back "
        "and halves it",
        0.99,
    )


@rule(
    "divergence-ahead",
    "Losses or gradients grow without end.",
    "The critic's gradient norm doubled at least five times in the last third, along a straight "
    "line on a logarithmic scale.",
    live="always",
)
def _diverging(x: Examination) -> _Told | None:
    if x.reason:
        return None
    key, what = "critic_gradient_norm", "critic's gradient norm"
    if key not in x.curves and not x.config:  # the losses of another tool
        key, what = "critic_loss", "critic's loss"
    steps, values = x.curves.get(key, (np.empty(0), np.empty(0)))
    _, medians = blocks(steps, np.abs(values))
    doublings, straight = growth(medians)
    if doublings < 5 or straight < 0.7:
        return None
    left = (math.log2(1e38) - math.log2(max(float(medians[-1]), 1e-300))) / doublings
    return _found(
        f"the {what} doubled {doublings:.1f} times in the last third of the run "
        f"and is now {_number(float(medians[-1]))}",
        "Growth that keeps its pace ends in an overflow, here after about "
        f"{left * x.steps / 3:,.0f} more steps.",
        "lower --lr, or hold the critic: --constraint gradient-penalty; --on-divergence rollback "
        "keeps the run alive",
        _sure(doublings, 5, low=0.9),
    )


# -- the data --------------------------------------------------------------------------------------


@rule(
    "constant-column",
    "A number of the samples never changes.",
    "Its standard deviation over the training data is 0; of pictures, whole regions are.",
    live="data",
)
def _constant(x: Examination) -> _Told | None:
    if x.data is None or not x.data.constant:
        return None
    names = x.data.constant
    share = len(names) / x.data.numbers
    pictures = isinstance(_set(x, "objective"), dict) and share < 0.5 and x.data.reach == 0.0
    if pictures:  # borders are black in most pictures
        return None
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return _found(
        f"{len(names)} of {x.data.numbers} numbers are the same in all {x.data.rows:,} samples: "
        f"{shown}",
        "A generator can only miss it, and a critic that finds the least noise there tells the two "
        "apart by it alone.",
        "leave it out (--columns of a table), and put it back after sampling",
        0.95,
    )


@rule(
    "duplicate-rows",
    "Many training samples are copies of others.",
    "Over 5% of the training data are equal to an earlier one.",
    live="data",
)
def _duplicates(x: Examination) -> _Told | None:
    if x.data is None or x.data.duplicates < 0.05:
        return None
    return _found(
        f"{x.data.duplicates:.0%} of {x.data.rows:,} training samples are copies of others",
        "Copies weigh as much as they are many, and lie on both sides of the split, so that "
        "held-out numbers look better than they are.",
        "remove them before training, unless their number means something",
        _sure(x.data.duplicates, 0.05, low=0.7),
    )


@rule(
    "outliers",
    "A few samples lie very far from the rest.",
    "A number lies over 20 interquartile ranges from its median.",
    live="data",
)
def _outliers(x: Examination) -> _Told | None:
    if x.data is None or x.data.reach < 20 or x.data.beyond > 0.05:
        return None
    return _found(
        f"{x.data.furthest} lies up to {x.data.reach:.0f} interquartile ranges from its median, in "
        f"{x.data.beyond:.2%} of the samples",
        "The scale of the column is theirs: what remains for all others is a thin line, and the "
        "critic looks at little else.",
        "cut or transform the column (a logarithm, ranks), or check the values: they may be codes "
        "for 'missing'",
        _sure(x.data.reach, 20, low=0.75),
    )


# -- the step --------------------------------------------------------------------------------------


@rule(
    "learning-rate-too-low",
    "The generator has hardly moved.",
    "Its weights are within 3% of where they began, and the samples are far from the data.",
)
def _too_low(x: Examination) -> _Told | None:
    n = x.networks
    if n is None or n.moved is None or x.steps < 100 or n.moved > 0.03 or not far(x):
        return None
    saturated = x.late("js_estimate") > 0.85 * _LOG2
    if saturated or x.late("generator_gradient_norm") < 1e-4:  # it cannot move: another's case
        return None
    return _found(
        f"after {x.steps:,} steps the generator's weights are {n.moved:.2%} from where they began; "
        f"one update moves them by {n.generator_step:.1e} of their norm",
        f"Gradients are there (norm {_number(x.late('generator_gradient_norm'))}), so it is the "
        "steps that are short.",
        f"raise --lr: ten times {_set(x, 'generator_lr')} costs nothing to try",
        _sure(0.03, max(n.moved, 1e-6), low=0.7),
    )


@rule(
    "learning-rate-too-high",
    "Every update throws the networks far.",
    "One update moves a network by over 1% of its weights' norm, or an adaptive optimizer's rate "
    "is over 6% of the weights' size at the start; and the samples are far from the data or cover "
    "a part of it, or units are dead.",
    live="stuck",
)
def _too_high(x: Examination) -> _Told | None:
    n = x.networks
    critic, generator = (n.critic_step, n.generator_step) if n is not None else _strides(x)
    # Weights that are held move in place, and what moves far and gets there is no disease.
    share, first = max(critic, generator), n.first_step if n is not None else 0.0
    if x.late("clip_share") > 0.3 or young(x) or closing(x):
        share = 0.0
    if not (share >= 0.01 or first >= _LONG) or not damaged(x):
        return None
    who = "critic" if critic >= generator else "generator"
    said = [f"one update moves the {who}'s weights by {share:.1%} of their norm"]
    if first >= _LONG:
        said.append(f"the rate is {first:.0%} of the size of the weights at the start")
    return _found(
        "; ".join(said if share >= 0.01 else said[1:]),
        "So long a step leaves the region in which its gradient means anything; a healthy one is "
        "a few tenths of 1%. Units that it kills stay dead, and samples that it throws together "
        "stay together.",
        f"lower --lr (generator {_set(x, 'generator_lr')}, critic {_set(x, 'critic_lr')}) by a "
        "factor of ten; it then takes more steps",
        max(_sure(share, 0.01, low=0.8), _sure(first, _LONG, low=0.8)),
    )


_LONG = 0.06  # of a rate as a share of the weights' size: ten times what is usual


def _strides(x: Examination) -> tuple[float, float]:
    """How far an update moves critic and generator by the last audits, and by all of them."""
    found = [x.late(f"audit.{role}_stride", 0.5) for role in ("critic", "generator")]
    return tuple(value if math.isfinite(value) else 0.0 for value in found)  # type: ignore[return-value]


@rule(
    "momentum-harmful",
    "What the optimizer remembers points against the gradient.",
    "beta1 is over 0.8 for a critic that is clipped or far from settled, or the cosine between its "
    "remembered step and a fresh gradient is negative.",
)
def _momentum(x: Examination) -> _Told | None:
    n, beta1 = x.networks, _set(x, "beta1")
    if n is None or n.critic_cosine is None or not beta1 or not far(x):
        return None
    clipped = x.constraint("weight-clipping") is not None
    if n.critic_cosine >= 0 and not (clipped and beta1 > 0.8):
        return None
    if beta1 < 0.7:
        return None
    return _found(
        f"beta1 is {beta1}, and the cosine between the critic's remembered step and a fresh "
        f"gradient is {n.critic_cosine:.2f}",
        "The critic's loss changes with every move of the generator, so that an average over "
        f"{1 / (1 - beta1):.0f} steps points to where the critic should have gone (Arjovsky et al. "
        "2017, section 4.3).",
        "--optimizer rmsprop, or --beta1 0 (0.5 at most)",
        0.85 if n.critic_cosine < 0 else 0.8,
    )


@rule(
    "batch-too-small",
    "A batch says too little of the distribution.",
    "At most 4 samples in a batch, or under 16 with gradients on two batches that disagree.",
    live="stuck",
)
def _batch(x: Examination) -> _Told | None:
    size, n = _set(x, "batch_size"), x.networks
    if not isinstance(size, int) or size > 16:
        return None
    if size > 4 and (n is None or n.batch_cosine > 0.1):
        return None
    alike = (
        ""
        if n is None
        else (f"; the generator's gradients on two batches have a cosine of {n.batch_cosine:.2f}")
    )
    return _found(
        f"--batch-size is {size}{alike}",
        "The critic compares the two distributions by a few points of each, and the generator "
        "follows the noise of that.",
        "--batch-size 64 or more; on small networks that costs almost nothing",
        0.9 if size <= 4 else 0.65,
    )


# -- the critic ------------------------------------------------------------------------------------


@rule(
    "clip-bound-too-small",
    "The clipping box is so small that the critic is flat.",
    "Weights crowd at its ends, and the gradient that reaches the generator is below 1e-4.",
    live="stuck",
)
def _clip_small(x: Examination) -> _Told | None:
    clip = x.constraint("weight-clipping")
    norm, share = x.late("generator_gradient_norm"), x.late("clip_share")
    steep = x.late("audit.slope_median", 0.5) > 1
    if clip is None or not norm < 1e-4 or not share > 0.3 or steep:
        return None
    return _found(
        f"{share:.0%} of the critic's weights are at the bounds of {clip.get('bound')}, and the "
        f"generator's gradient has a norm of {_number(norm)}",
        "Every layer multiplies the gradient by less than 1, so that nothing of it is left at the "
        "other end.",
        f"a larger box: --constraint weight-clipping:bound={_larger(clip)}, or a critic with fewer "
        "layers, or --recipe wgan-gp, which has no such bound to tune",
        _sure(1e-4, norm, low=0.8),
    )


def _larger(clip: Any) -> str:
    bound = clip.get("bound")
    return f"{10 * bound:g}" if isinstance(bound, float | int) else "0.1"


@rule(
    "clip-bound-too-large",
    "The clipping box is so large that it holds nothing.",
    "No weight is at its ends, or the critic's slopes are over 20 all the same.",
    live="stuck",
)
def _clip_large(x: Examination) -> _Told | None:
    clip = x.constraint("weight-clipping")
    slope, share = x.late("audit.slope_median", 0.5), x.late("clip_share")
    idle = x.late("clip_share", 1.0) < 1e-3
    if clip is None or not (idle or slope > 20):
        return None
    rising = trend(blocks(*x.curves["critic_gradient_norm"])[1]).rises(0.05)
    return _found(
        f"{share:.1%} of the critic's weights are at the bounds of {clip.get('bound')}; its slope "
        f"between real and fake samples is {_number(slope)}"
        + (", and its gradients grow" if rising else ""),
        "Within so large a box the critic's scale rises as long as it trains, and the generator's "
        "steps with it.",
        f"--constraint weight-clipping:bound={_smaller(clip)}, or --recipe wgan-gp",
        _sure(slope, 20, low=0.75) if slope > 20 else 0.65,
    )


def _smaller(clip: Any) -> str:
    bound = clip.get("bound")
    return f"{min(bound / 10, 0.1):g}" if isinstance(bound, float | int) else "0.1"


@rule(
    "constraint-not-enforced",
    "The penalty does not hold the critic's slopes at 1.",
    "The median slope between real and fake samples is over 4 under a penalty that asks for 1.",
    live="stuck",
)
def _loose(x: Examination) -> _Told | None:
    penalty = x.constraint("gradient-penalty") or x.constraint("dragan")
    slope = x.late("audit.slope_median", 0.5)
    if not math.isfinite(slope):
        slope = x.late("slope")
    if penalty is None or not slope > 4:
        return None
    return _found(
        f"the critic's median slope is {_number(slope)} where the penalty asks for 1; its weight "
        f"is {penalty.get('weight')}",
        "The penalty costs the critic less than it wins by being steep.",
        "raise its weight: --constraint gradient-penalty:weight=10 is the published one",
        _sure(slope, 4, low=0.75),
    )


@rule(
    "constraint-over-enforced",
    "A penalty on slopes flattens the critic.",
    "The median slope is under 0.05 with an R1 or R2 penalty, or that penalty is over 3 times the "
    "estimate; and the samples are far from the data.",
    live="stuck",
)
def _tight(x: Examination) -> _Told | None:
    penalty = x.constraint("r1") or x.constraint("r2")
    slope, cost = x.late("audit.slope_median", 0.5), x.late("r1_penalty")
    values = np.abs(x.series(x.estimate))
    estimate = float(np.median(values[-max(1, len(values) // 4) :])) if len(values) else math.nan
    if penalty is None or young(x) or not (slope < 0.05 or cost > 3 * estimate) or not far(x):
        return None
    gamma = penalty.get("gamma")
    return _found(
        f"the critic's median slope is {_number(slope)} with gamma {gamma}; the penalty is "
        f"{_number(cost)}, the estimate {_number(estimate)}",
        "Being flat costs such a critic nothing and any slope costs it much, so that the generator "
        "learns little from it.",
        f"--constraint r1:gamma={gamma / 100 if isinstance(gamma, float | int) else 0.1:g}",
        max(_sure(0.05, slope, low=0.75), _sure(cost, 3 * max(estimate, 1e-12), low=0.75)),
    )


@rule(
    "penalty-dominates",
    "The critic minimises its penalty and little else.",
    "The penalty is over 3 times the estimate in size though the critic's slopes are near what it "
    "asks for, and the samples are far from the data.",
    live="stuck",
)
def _dominates(x: Examination) -> _Told | None:
    if x.estimate is None or x.late("generator_gradient_norm") < 1e-4:  # nothing comes through
        return None
    for key in ("gradient_penalty", "dragan_penalty"):
        penalty, estimate = x.late(key), abs(x.late(x.estimate))
        if x.late("audit.slope_median", 0.5) < 0.5:  # a flat critic costs the penalty's weight
            continue
        if penalty > 3 * max(estimate, 1e-12) and far(x):
            return _found(
                f"{key.replace('_', ' ')} is {_number(penalty)}, the estimate {_number(estimate)}",
                "The gradient that the critic follows is the penalty's, so that it keeps its "
                "slopes right and does not look at the samples.",
                "lower the penalty's weight by a factor of a hundred",
                _sure(penalty / max(estimate, 1e-12), 3, low=0.7),
            )
    return None


@rule(
    "critic-saturated",
    "The discriminator has won, and the generator gets nothing from it.",
    "The JS estimate is within 15% of log 2 at the end, or has stayed above half of log 2 and does "
    "not fall; and the samples are far from the data and come no closer.",
    live="stuck",
)
def _saturated(x: Examination) -> _Told | None:
    value = x.late("js_estimate")
    if not x.config:  # the losses of another tool: whether samples are far is not known
        if not value > 0.95 * _LOG2:
            return None
    elif not far(x) or not (value > 0.85 * _LOG2 or _strong(x)):
        return None
    return _found(
        f"the JS estimate is {_number(value)} of at most log 2 = 0.693"
        + (f"; the generator's gradient has a norm of {_number(x.late('generator_gradient_norm'))}")
        * ("generator_gradient_norm" in x.curves),
        "The two distributions hardly overlap, so that a good discriminator is sure everywhere "
        "and its slope there is 0.",
        "--recipe wgan-gp, whose critic keeps its slope; or fewer critic updates (--n-critic 1) "
        "and --recipe gan-ns",
        _sure(value / _LOG2, 0.85, low=0.85) if value > 0.85 * _LOG2 and x.config else 0.75,
    )


def _strong(x: Examination) -> bool:
    """Whether a discriminator has kept the upper hand, and the samples where they are."""
    if "js_estimate" not in x.curves:
        return False
    _, values = blocks(*x.curves["js_estimate"])
    late = values[len(values) // 3 :]
    if not np.median(late) > 0.5 * _LOG2 or trend(late).change < -0.1 * np.median(late):
        return False
    excess = x.series(EXCESS)
    return len(excess) > 2 and float(excess[-1]) > 0.8 * float(excess[0])


@rule(
    "critic-under-trained",
    "The critic does not keep up with the generator.",
    "On held-out data the estimate is below 0 in part of the records, or still rises by a third "
    "when the critic trains on alone; and the samples are far from the data.",
    live="stuck",
)
def _under(x: Examination) -> _Told | None:
    if x.estimate != "wasserstein_estimate":  # of others the level means less
        return None
    values = x.series(x.estimate)
    negative = float((values[len(values) // 4 :] < 0).mean()) if len(values) else 0.0
    gap, share = x.series("audit.optimality_gap"), 0.0
    if len(gap) and (gap > 0).mean() >= 0.75:  # it rises, and does not only wander
        held = float(np.median(np.abs(x.series("audit.critic_estimate"))))
        share = float(np.median(gap)) / max(held, 1e-12)
    if young(x) or not far(x) or not (negative > 0.1 or share > 0.35):
        return None
    said = []
    if negative > 0.1:
        said.append(f"the estimate is below 0 in {negative:.0%} of the records")
    if share > 0.05:
        said.append(f"trained on alone the critic changes its estimate by {share:.0%}")
    return _found(
        " and ".join(said),
        "A critic that is behind points the generator to where it has already been.",
        f"--n-critic {2 * int(_set(x, 'n_critic') or 1) + 1} (each costs a critic update a step), "
        "or a higher --critic-lr",
        min(0.9, max(_sure(negative, 0.1, low=0.7), _sure(share, 0.35, low=0.5, high=0.75))),
    )


@rule(
    "critic-exploited",
    "The estimate falls and the samples do not get better.",
    "The estimate has a falling trend in the second half, the excess a rising one.",
    live="stuck",
)
def _exploited(x: Examination) -> _Told | None:
    excess, values = x.series(EXCESS), x.series(x.estimate)
    if len(excess) < 10 or len(values) < 100:
        return None
    late = excess[len(excess) // 2 :]
    _, medians = blocks(*x.curves[x.estimate or ""])
    falls, rises = trend(medians[len(medians) // 2 :]).falls(0.05), trend(excess).rises(0.05)
    if not (falls and rises) or late[-1] < 1.5 * float(excess.min()) or not far(x):
        return None
    return _found(
        f"the {(x.estimate or '').replace('_', ' ')} falls while the excess rose from "
        f"{_number(float(excess.min()))} to {_number(float(late[-1]))}",
        "The generator has found where the critic is wrong, and moves there.",
        "hold the critic (--recipe wgan-gp) or train it more; the best checkpoint is kept: "
        "--checkpoint best",
        0.75,
    )


# -- gradients -------------------------------------------------------------------------------------


@rule(
    "vanishing-gradient",
    "Gradients die on the way through a network.",
    "The gradient of the first weights is under a thousandth of that of the last, or what reaches "
    "the generator is below 1e-4 in the first ten steps or at the end, with no clipping to blame; "
    "and the samples are far from the data.",
    live="stuck",
)
def _vanishing(x: Examination) -> _Told | None:
    if x.constraint("weight-clipping") is not None or not far(x):
        return None
    ratio = 1.0 if x.networks is None else _depth_ratio(x.networks.critic)
    norms = x.series("generator_gradient_norm")
    norm, first = x.late("generator_gradient_norm"), math.inf
    if len(norms) and x.curves["generator_gradient_norm"][0][0] == 1:
        first = float(np.median(norms[:_BEGINNING]))
    if not (ratio < 1e-3 or norm < 1e-4 or first < 1e-4) or x.late("js_estimate") > 0.85 * _LOG2:
        return None
    said = []
    if ratio < 1e-3:
        said.append(
            f"from the critic's last layer to its first the gradient falls to {_number(ratio)} of "
            "what it was"
        )
    if first < 1e-4:
        said.append(
            f"in the first {_BEGINNING} steps a gradient of norm {_number(first)} reached the "
            "generator"
        )
    return _found(
        "; ".join([*said, f"at the end it has a norm of {_number(norm)}"]),
        "Each layer passes on less than it gets: saturating activations, or weights that are too "
        "small for their number.",
        "ReLU or leaky ReLU in place of tanh, He initialisation, fewer layers, or residual ones",
        0.9 if first < 1e-4 or (ratio < 1e-3 and norm < 1e-2) else 0.7,
    )


_BEGINNING = 10  # steps


@rule(
    "generator-stands-still",
    "No gradient reaches the generator.",
    "The norm of its gradient is below 1e-12 over the last quarter of the run.",
    live="always",
)
def _still(x: Examination) -> _Told | None:
    norm = x.late("generator_gradient_norm")
    if not norm < 1e-12:
        return None
    return _found(
        f"the generator's gradient has had a norm of {_number(norm)} for a quarter of the run",
        "Every unit on its way is dead, in the critic or in the generator: after too long a step "
        "most often. It does not come back.",
        "begin anew with a tenth of --lr; if that does not help, leaky ReLU in both networks",
        0.95,
    )


@rule(
    "exploding-gradient",
    "Gradients grow on the way through a network.",
    "The critic's gradient norm is over 1e4 at the end, with no clipping box to blame.",
    live="always",
)
def _exploding(x: Examination) -> _Told | None:
    norm = x.late("critic_gradient_norm")
    if not norm > 1e4 or x.constraint("weight-clipping") is not None:
        return None
    return _found(
        f"the critic's gradient has a norm of {_number(norm)}",
        "Each layer passes on more than it gets, or the critic's scale rises without a constraint.",
        "--clip-norm 10 bounds the step; --constraint gradient-penalty holds the scale",
        _sure(norm, 1e4, low=0.6, high=0.9),
    )


def _depth_ratio(layers: Sequence[Layer]) -> float:
    if len(layers) < 3 or not layers[-1].gradient > 0:
        return 1.0
    return min(layer.gradient for layer in layers[:-1]) / layers[-1].gradient


@rule(
    "dead-units",
    "Much of the generator never fires.",
    "Over half of its hidden units say the same for every latent.",
)
def _dead(x: Examination) -> _Told | None:
    if x.networks is None or x.networks.dead < 0.5:
        return None
    return _found(
        f"{x.networks.dead:.0%} of the generator's hidden units are constant over {PROBED} latents",
        "Rectifiers whose input is always negative have no gradient and stay so; after too long "
        "steps, or from a bad start.",
        "leaky rectifiers, a lower --generator-lr, or train anew from another --seed",
        _sure(x.networks.dead, 0.5, low=0.7),
    )


# -- the samples -----------------------------------------------------------------------------------


@rule(
    "mode-collapse",
    "Samples cover a part of the data and miss the rest.",
    "Recall and coverage are far below their floor while the samples lie among the data or on top "
    "of one another.",
    live="stuck",
)
def _collapse(x: Examination) -> _Told | None:
    missing = collapsed(x)
    if missing < 0.25:
        return None
    if "recall" in x.judged:
        recall, coverage, copies = (x.judged[k] for k in ("recall", "coverage", "duplicates"))
        modes = x.judged.get("modes")
        said = (
            f"recall {recall.value:.2f} where data have {recall.floor:.2f}, coverage "
            f"{coverage.value:.2f} where they have {coverage.floor:.2f}"
            + (f", {modes.value:g} of {modes.floor:g} modes" if modes else "")
            + f"; {copies.value:.0%} of the samples are nearly equal to another"
        )
    else:
        said = (
            f"by the last audits recall is {1 - missing:.2f} and coverage "
            f"{x.late('audit.coverage'):.2f}, where data have nearly 1; "
            f"{x.late('audit.precision'):.0%} of the samples lie among the data"
        )
    return _found(
        said,
        "The critic judges one sample at a time, and a generator that puts all of its mass on a "
        "few places can please it.",
        "--recipe wgan-gp or wgan-lp; a lower --generator-lr; with a small critic more --n-critic",
        _sure(missing, 0.25, low=0.75),
    )


@rule(
    "memorisation",
    "Samples are copies of training data.",
    "They are nearer to the training data than held-out data are in 9 of 10 comparisons, by a rank "
    "test, and have not gathered in the middle of the data.",
)
def _memorised(x: Examination) -> _Told | None:
    close, copies = x.judged.get("memorisation"), x.judged.get("copies")
    if close is None or copies is None:
        return None
    p = 1.0 if close.p_value is None else close.p_value
    recall = x.judged.get("recall")
    gathered = recall is not None and recall.value < 0.5 * recall.floor  # a collapse is near too
    if not (close.value > 0.9 and p < 1e-4) or (gathered and copies.value < 0.02):
        return None
    return _found(
        f"{close.value:.0%} of the time a sample is nearer to the training data than a held-out "
        f"one (p = {p:.1e}); {copies.value:.0%} are near copies, of held-out data "
        f"{copies.floor:.0%}",
        "The data are few for a network of this size and this many steps: it has learnt them by "
        "heart.",
        "stop earlier (--patience 5), more data, or a smaller --width",
        _sure(close.value - 0.5, 0.3, low=0.8),
    )


# -- time, and where the run stands ----------------------------------------------------------------


@rule(
    "time-lost",
    "Much of the time goes into something else than training.",
    "Over a quarter of it into audits, or over 30% into waiting for data.",
    "note",
)
def _time(x: Examination) -> _Told | None:
    steps = float(x.series("step_seconds").sum())
    audits = float(x.series("audit_seconds").sum())
    data = float(x.series("data_seconds").sum())
    total = steps + audits
    if total <= 0:
        return None
    if audits > 0.25 * total:
        return _found(
            f"{audits / total:.0%} of the time went into audits, every {_set(x, 'audit_every')} "
            "steps",
            "Each takes as long as some tens of steps, whatever lies between two.",
            "leave --audit-every out: audits then take 5%",
            _sure(audits / total, 0.25, low=0.75),
        )
    if data > 0.3 * total:
        return _found(
            f"{data / total:.0%} of the time was waited for data",
            "Reading or decoding is slower than the step.",
            "keep the data on a local disk and let the first reading fill the cache; smaller "
            "pictures (--size)",
            _sure(data / total, 0.3, low=0.8),
        )
    return None


@rule(
    "oscillation",
    "The estimate swings.",
    "Its strongest frequency stands far above red noise and moves it by over half of its level.",
)
def _oscillation(x: Examination) -> _Told | None:
    if x.estimate is None or x.estimate not in x.curves:
        return None
    steps, medians = blocks(*x.curves[x.estimate])
    half = len(medians) // 3
    found = swing(medians[half:])
    level = abs(float(np.median(medians[half:])))
    if found.p_value > 0.01 or found.share < 0.4 or found.amplitude < 0.5 * level:
        return None
    period = found.period * float(np.median(np.diff(steps)))
    return _found(
        f"the estimate swings by {_number(found.amplitude)} around {_number(level)} with a period "
        f"of about {period:,.0f} steps",
        "The two players circle around each other instead of approaching.",
        "--extrapolate, or --lookahead-every 5, or a smaller --generator-lr",
        0.7,
    )


@rule(
    "still-improving",
    "The samples still get better.",
    "The excess falls, by a trend test that allows for autocorrelation.",
    "note",
)
def _improving(x: Examination) -> _Told | None:
    steps, excess = x.curves.get(EXCESS, (np.empty(0), np.empty(0)))
    if len(excess) < 8:
        return None
    late = excess[len(excess) // 3 :]
    found = trend(late) if len(late) >= 8 else trend(excess)
    if not found.falls(0.05):
        return None
    fit = decay(steps, excess)
    when = ""
    if fit is not None and fit.fit > 0.5 and fit.settled > steps[-1]:
        when = (
            f"; as it goes, 95% of the way is gone at step {fit.settled:,.0f} "
            f"({fit.low:,.0f} to {fit.high:,.0f})"
        )
    return _found(
        f"the excess fell by {_number(-found.change)} to {_number(float(excess[-1]))} "
        f"(p = {found.p_value:.1e}){when}",
        "It has not settled yet.",
        f"go on: wgan resume RUN --steps {2 * int(steps[-1])}",
        0.85,
    )


@rule(
    "plateaued",
    "The samples no longer get better.",
    "The excess has no falling trend over the last two thirds of the audits.",
    "note",
)
def _plateau(x: Examination) -> _Told | None:
    _, excess = x.curves.get(EXCESS, (np.empty(0), np.empty(0)))
    if len(excess) < 12:
        return None
    found = trend(excess[len(excess) // 3 :])
    if found.falls(0.05):
        return None
    return _found(
        f"the excess has stayed near {_number(float(np.median(excess[len(excess) // 2 :])))} since "
        "a third of the run",
        "It has settled, as far as held-out data of this size can tell.",
        "stop here, or change something: a larger --width, a lower --lr for the end, other data",
        0.8,
    )
