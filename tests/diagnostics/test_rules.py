"""Each rule finds its disease in an examination that has it, and not in one that has not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wgan.diagnostics.examination import DataFacts, Examination, Judged, Layer, Networks
from wgan.diagnostics.rules import BRINGS, RULES, diagnose
from wgan.reports.evidence import _CURVES, evidence_plot, spark

STEPS = 1000


def curve(*values: float, n: int = STEPS) -> tuple[Any, Any]:
    """Numbers spread evenly over the run."""
    return np.linspace(1, n, len(values)), np.array(values, float)


def noisy(start: float, end: float, spread: float = 0.02) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    line = np.linspace(start, end, STEPS)
    return np.arange(1.0, STEPS + 1), line * (1 + spread * rng.normal(size=STEPS))


NETWORKS = Networks(
    critic=tuple(Layer(f"{i}.weight", 0.1) for i in range(4)),
    generator=tuple(Layer(f"{i}.weight", 0.1) for i in range(4)),
    dead=0.1, critic_cosine=0.5, batch_cosine=0.8, moved=0.4, critic_step=3e-3, generator_step=3e-3,
)  # fmt: skip
DATA = DataFacts(1000, (), 6, 0.0, "a", 3.0, 0.0)
GOOD = {
    "nn_accuracy": Judged(0.55, 0.5), "recall": Judged(0.95, 0.97), "coverage": Judged(0.9, 0.97),
    "precision": Judged(0.9, 0.97), "duplicates": Judged(0.01, 0.01), "w1": Judged(0.11, 0.1),
    "memorisation": Judged(0.5, 0.5, 0.5), "copies": Judged(0.0, 0.0),
}  # fmt: skip
HEALTHY = Examination(
    steps=STEPS,
    curves={
        "wasserstein_estimate": noisy(2.0, 0.2), "critic_gradient_norm": noisy(1.0, 0.5),
        "generator_gradient_norm": noisy(1.0, 0.5), "gradient_penalty": noisy(0.02, 0.02),
        "slope": noisy(1.0, 1.0), "step_seconds": noisy(0.01, 0.01),
        "data_seconds": noisy(1e-4, 1e-4), "audit_seconds": curve(0.2, 0.2),
        "audit.excess": curve(0.5, 0.2, 0.1, 0.05, 0.02, 0.02, 0.01, 0.02, 0.01, 0.02, 0.02, 0.01),
        "audit.excess_low": curve(0.4, -0.02), "audit.w1_floor": curve(0.1, 0.1),
        "audit.critic_estimate": curve(2.0, 0.2), "audit.optimality_gap": curve(0.05, 0.01),
        "audit.slope_median": curve(1.0, 1.0), "audit.critic_stride": curve(3e-3, 3e-3),
        "audit.recall": curve(0.2, 0.95), "audit.coverage": curve(0.1, 0.9),
    },
    estimate="wasserstein_estimate",
    config={
        "constraints": {"gradient-penalty": {"weight": 10.0}}, "batch_size": 64, "n_critic": 5,
        "beta1": 0.5, "generator_lr": 1e-3, "critic_lr": 1e-3, "objective": {},
    },
    networks=NETWORKS,
    data=DATA,
    judged=GOOD,
)  # fmt: skip
FAR = {
    "audit.excess": curve(*[0.8] * 12), "audit.excess_low": curve(0.7, 0.7),
}  # fmt: skip


def sick(
    curves: dict[str, Any] | None = None,
    *,
    far: bool = True,
    networks: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    judged: dict[str, Judged] | None = None,
    without: tuple[str, ...] = (),
    **fields: Any,
) -> Examination:
    kept = {k: v for k, v in HEALTHY.curves.items() if k not in without}
    return replace(
        HEALTHY,
        curves={**kept, **(FAR if far else {}), **(curves or {})},
        networks=replace(NETWORKS, **(networks or {})),
        config={**HEALTHY.config, **(config or {})},
        judged={**GOOD, **(judged or {})},
        **fields,
    )


CLIP = {"constraints": {"weight-clipping": {"bound": 0.01}}}
GAN = {"estimate": "js_estimate", "config": {"constraints": {}}}
CASES: dict[str, Examination] = {
    "diverged": sick(reason="`critic_loss` is not finite at step 30"),
    "divergence-ahead": sick(
        {"critic_gradient_norm": (np.arange(1.0, 1001), 2.0 ** (np.arange(1000) / 40))}
    ),
    "constant-column": sick(far=False, data=replace(DATA, constant=("b",))),
    "duplicate-rows": sick(far=False, data=replace(DATA, duplicates=0.2)),
    "outliers": sick(far=False, data=replace(DATA, furthest="c", reach=90.0, beyond=0.001)),
    "learning-rate-too-low": sick(networks={"moved": 0.004}),
    "learning-rate-too-high": sick(networks={"critic_step": 0.06}),
    "momentum-harmful": sick(networks={"critic_cosine": -0.2}, config={"beta1": 0.95}),
    "batch-too-small": sick(config={"batch_size": 2}),
    "clip-bound-too-small": sick(
        {"generator_gradient_norm": noisy(1e-6, 1e-6), "clip_share": noisy(0.8, 0.8)}, config=CLIP
    ),
    "clip-bound-too-large": sick(
        {"audit.slope_median": curve(5.0, 900.0), "clip_share": noisy(0.0, 0.0)}, config=CLIP
    ),
    "constraint-not-enforced": sick({"audit.slope_median": curve(9.0, 30.0)}),
    "constraint-over-enforced": sick(
        {"audit.slope_median": curve(0.01, 0.003), "js_estimate": noisy(0.1, 0.1)},
        estimate="js_estimate",
        config={"constraints": {"r1": {"gamma": 1000.0}}},
    ),
    "penalty-dominates": sick({"gradient_penalty": noisy(40, 40)}),
    "critic-saturated": sick(
        {"js_estimate": noisy(0.68, 0.68, 1e-4)}, estimate="js_estimate",
        config={"constraints": {}},
    ),
    "critic-under-trained": sick({"wasserstein_estimate": noisy(0.5, -0.5)}),
    "critic-exploited": sick(
        {"audit.excess": curve(0.3, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1)}
    ),
    "vanishing-gradient": sick(
        networks={"critic": tuple(Layer(str(i), 10.0**-i) for i in (8, 6, 4, 1))}
    ),
    "generator-stands-still": sick({"generator_gradient_norm": noisy(0.0, 0.0, 0.0)}, far=False),
    "exploding-gradient": sick({"critic_gradient_norm": noisy(1e5, 1e5)}),
    "dead-units": sick(networks={"dead": 0.9}),
    "mode-collapse": sick(
        judged={"recall": Judged(0.3, 0.97), "coverage": Judged(0.2, 0.97)}
    ),
    "memorisation": sick(
        far=False, judged={"memorisation": Judged(0.99, 0.5, 1e-9), "copies": Judged(0.5, 0.0)}
    ),
    "time-lost": sick({"audit_seconds": curve(4.0, 4.0)}, far=False),
    "few-samples": sick(far=False, data=replace(DATA, size=40, duplicates=0.5)),
    "far-from-data": sick(
        {"audit.excess": curve(*[0.01] * 12), "audit.excess_low": curve(-0.01, -0.01)},
        far=False, judged={"nn_accuracy": Judged(0.9, 0.5)},
    ),
    "too-early": sick(
        networks={"first_step": 0.2}, judged={"recall": Judged(0.3, 0.97)},
        without=tuple(name for name in HEALTHY.curves if name.startswith("audit.")), far=False,
        steps=80,
    ),
    "oscillation": sick(
        {
            "wasserstein_estimate": (
                np.arange(1.0, 1001),
                1 + 0.9 * np.sin(np.arange(1000) / 20)
                + 0.05 * np.random.default_rng(0).normal(size=1000),
            )
        },
        far=False,
    ),
    "still-improving": sick(
        {
            "audit.excess": curve(
                *(np.exp(-np.arange(16) / 9) + 0.05 * np.random.default_rng(1).normal(size=16))
            )
        },
        far=False,
    ),
}  # fmt: skip


def test_a_healthy_run_has_nothing() -> None:
    found = diagnose(HEALTHY)
    assert found.verdict == "healthy"
    assert [finding.name for finding in found.findings] == ["plateaued"]
    assert found.text().startswith("healthy: nothing is wrong that shows")
    partly = diagnose(replace(HEALTHY, missing="no file data.csv")).text()
    assert partly.startswith("healthy, as far as it was looked at: ")


@pytest.mark.parametrize("name", CASES)
def test_each_disease_is_named_first_or_second(name: str) -> None:
    found = diagnose(CASES[name])
    names = [finding.name for finding in found.findings]
    assert name in names[:2], names
    finding = next(finding for finding in found.findings if finding.name == name)
    assert 0.4 < finding.confidence <= 1
    assert finding.evidence
    assert finding.cause
    assert finding.advice
    verdicts = {
        "still-improving": "improving",
        "time-lost": "healthy",
        "too-early": "healthy",
        "far-from-data": "healthy",
    }
    assert found.verdict == verdicts.get(name, "ill")
    assert name in found.text()
    assert found.to_json()["findings"][names.index(name)]["name"] == name


def test_what_is_ill_later_is_not_so_at_the_start() -> None:
    x = replace(CASES["too-early"], judged={**GOOD, "recall": Judged(0.3, 0.97),
                                            "nn_accuracy": Judged(0.95, 0.5)})  # fmt: skip
    assert [finding.name for finding in diagnose(x).findings] == ["too-early"]
    later = [finding.name for finding in diagnose(replace(x, steps=900)).findings]
    assert later == ["learning-rate-too-high", "mode-collapse"]  # what says more than far-from-data


def test_advice_is_not_what_is_done_already() -> None:
    def advice(recipe: str) -> str:
        found = diagnose(replace(CASES["mode-collapse"], config={"recipe": recipe})).findings
        return next(finding.advice for finding in found if finding.name == "mode-collapse")

    assert "--recipe" not in advice("wgan-gp")
    assert advice("gan").startswith("--recipe wgan-gp or wgan-lp; ")


def test_every_rule_has_its_case() -> None:
    assert {rule.name for rule in RULES} == {*CASES, "plateaued"}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_rules_stand_what_is_missing() -> None:
    """Records of another tool: a few losses and nothing else."""
    bare = Examination(steps=3, curves={"critic_loss": curve(1.0, 2.0, 3.0)})
    assert diagnose(bare).verdict == "healthy"
    assert diagnose(Examination(steps=0, curves={})).findings == ()


def test_black_borders_of_pictures_are_no_constant_column() -> None:
    borders = replace(DATA, constant=("(0, 0, 0)",), numbers=64, reach=0.0)
    assert diagnose(replace(HEALTHY, data=borders)).verdict == "healthy"


def test_a_cause_is_told_before_what_it_brings_about() -> None:
    both = sick(
        networks={"critic_step": 0.012, "dead": 0.9},
        judged={"recall": Judged(0.1, 0.97), "coverage": Judged(0.1, 0.97)},
    )
    names = [finding.name for finding in diagnose(both).findings]
    assert names[0] == "learning-rate-too-high"
    assert {"dead-units", "mode-collapse"} < set(names)
    lost = sick({"audit_seconds": curve(9.0, 9.0)}, networks={"critic_step": 0.012})
    assert [f.name for f in diagnose(lost).findings][:2] == ["learning-rate-too-high", "time-lost"]
    assert set(BRINGS) | {n for names in BRINGS.values() for n in names} <= {r.name for r in RULES}


def test_a_rate_is_too_high_by_what_it_was_at_the_start() -> None:
    """A network whose units are dead moves no more."""
    still = {"critic_step": 1e-4, "generator_step": 0.0, "first_step": 0.4}
    (found,) = diagnose(sick(far=False, networks={**still, "dead": 0.45})).findings[:1]
    assert found.name == "learning-rate-too-high"
    assert "40% of the size of the weights at the start" in found.evidence
    assert diagnose(sick(far=False, networks=still)).verdict == "healthy"  # it did no harm


def test_gradients_that_vanished_at_first_are_remembered() -> None:
    late = np.concatenate([np.full(20, 1e-6), np.full(STEPS - 20, 2.0)])
    found = diagnose(sick({"generator_gradient_norm": (np.arange(1.0, STEPS + 1), late)}))
    assert found.findings[0].name == "vanishing-gradient"
    assert "in the first 10 steps a gradient of norm 1e-06" in found.findings[0].evidence


def test_a_discriminator_that_keeps_the_upper_hand() -> None:
    strong = {"js_estimate": noisy(0.45, 0.45), "audit.excess": curve(0.5, 0.5, 0.51, 0.5)}
    found = diagnose(sick(strong, **GAN))  # type: ignore[arg-type]
    assert found.findings[0].name == "critic-saturated"
    weaker = {**strong, "js_estimate": noisy(0.69, 0.45)}
    assert "critic-saturated" not in [f.name for f in diagnose(sick(weaker, **GAN)).findings]  # type: ignore[arg-type]


def test_a_steep_clipped_critic_is_not_flat() -> None:
    steep = sick(
        {
            "generator_gradient_norm": noisy(0.0, 0.0), "clip_share": noisy(0.5, 0.5),
            "audit.slope_median": curve(90.0, 90.0),
        },
        config=CLIP,
    )  # fmt: skip
    names = [finding.name for finding in diagnose(steep).findings]
    assert names[0] == "clip-bound-too-large"
    assert "clip-bound-too-small" not in names


def test_collapse_by_audits_alone_has_to_last() -> None:
    def covered(*values: float) -> Examination:
        curves = {
            "audit.coverage": curve(*values), "audit.recall": curve(*values),
            "audit.precision": curve(*[0.9] * len(values)),
        }  # fmt: skip
        return replace(sick(curves), judged={}, networks=None)

    low = [0.1, 0.12, 0.09, 0.11, 0.1, 0.1, 0.12, 0.1, 0.11, 0.1]
    assert "mode-collapse" in [f.name for f in diagnose(covered(*low)).findings]
    rising = [0.02 * i for i in range(1, 15)]
    assert "mode-collapse" not in [f.name for f in diagnose(covered(*rising)).findings]
    assert "mode-collapse" not in [f.name for f in diagnose(covered(*low[:6])).findings]


@pytest.mark.parametrize("name", [*CASES, "plateaued"])
def test_evidence_is_drawn(name: str) -> None:
    x = CASES.get(name, HEALTHY)
    plot = evidence_plot(name, x)
    assert plot is not None
    (axes,) = plot.axes
    assert axes.lines or axes.patches
    line = spark(name, x)
    if line:
        blocks_drawn, _, said = line.partition("  ")
        assert 2 <= len(blocks_drawn) <= 40
        assert set(blocks_drawn) <= set("▁▂▃▄▅▆▇█")
        assert "step 1 to 1,000" in said
    assert bool(line) == (name in _CURVES)


def test_a_rising_term_is_a_rising_line() -> None:
    line = spark("exploding-gradient", sick({"critic_gradient_norm": noisy(1.0, 9.0, 0.0)}))
    assert line[0] == "▁"
    assert line[39] == "█"
    assert evidence_plot("oscillation", Examination(steps=0, curves={})) is None
