"""The rules while a run goes on: silence on healthy records, one warning on sick ones."""

from typing import Any

import numpy as np
import pytest

from wgan.diagnostics import live
from wgan.diagnostics.examination import DataFacts
from wgan.diagnostics.live import ACTS, Said, Watch
from wgan.diagnostics.rules import RULES, Finding
from wgan.types import Record

FACTS = DataFacts(1000, (), 6, 0.0, "a", 3.0, 0.0)
CONFIG: dict[str, Any] = {
    "constraints": {"gradient-penalty": {"weight": 10.0}}, "batch_size": 64, "n_critic": 2,
    "beta1": 0.5, "generator_lr": 0.1, "critic_lr": 0.1, "objective": {}, "max_rollbacks": 3,
}  # fmt: skip


def watch(facts: DataFacts = FACTS, **config: Any) -> Watch:
    return Watch({**CONFIG, **config}, "wasserstein_estimate", lambda: facts, 0.1)


def stream(steps: int, *, falls: bool, stride: float = 2e-3, slope: float = 1.0) -> list[Record]:
    """Records of a run whose excess falls to nothing, or stays where it was; audited every 20."""
    rng = np.random.default_rng(0)
    found: list[Record] = []
    for step in range(1, steps + 1):
        left = float(np.exp(-step / 300)) if falls else 1.0
        noise = 1 + 0.1 * float(rng.normal())
        record: Record = {
            "step": step, "wasserstein_estimate": 2 * left * noise, "gradient_penalty": 0.02,
            "slope": 1.0, "critic_gradient_norm": 1.0, "generator_gradient_norm": 1.0 * noise,
            "step_seconds": float(rng.random()),
        }  # fmt: skip
        if step % 20 == 0:
            excess = 0.8 * left * noise
            record |= {
                "audit.excess": excess, "audit.excess_low": excess - 0.05, "audit.w1_floor": 0.1,
                "audit.slope_median": slope, "audit.critic_stride": stride,
                "audit.generator_stride": stride, "audit.optimality_gap": 0.01,
                "audit.critic_estimate": 2 * left, "audit.precision": 0.9, "audit.recall": 0.9,
                "audit.coverage": min(0.9, step / 500), "audit_seconds": float(rng.random()),
            }  # fmt: skip
        found.append(record)
    return found


def said(of: Watch, records: list[Record]) -> dict[int, Said]:
    answers = {int(str(r["step"])): of.see(r, rollbacks=0) for r in records}
    return {step: answer for step, answer in answers.items() if answer.findings}


def test_a_healthy_run_hears_nothing() -> None:
    assert said(watch(heed=True), stream(3000, falls=True)) == {}
    # nor one whose steps are long, while it gets closer
    assert said(watch(), stream(1500, falls=True, stride=0.05, slope=9.0)) == {}
    # nor a sick one before there are audits enough to know
    assert said(watch(), stream(150, falls=False, stride=0.05)) == {}


def test_a_sick_run_is_warned_once() -> None:
    ((step, answer),) = said(watch(), stream(2000, falls=False, stride=0.05)).items()
    assert 160 <= step < 400
    assert [finding.name for finding in answer.findings] == ["learning-rate-too-high"]
    assert "5.0% of their norm" in answer.findings[0].evidence
    assert answer.record() == {"warnings": "learning-rate-too-high"}
    assert answer.act is None  # without heed


def test_what_is_said_does_not_depend_on_times_or_on_where_a_run_was_resumed() -> None:
    records = stream(1000, falls=False, stride=0.05)
    (step,) = said(watch(), records)
    for stop in (90, step - 1, step, step + 40):
        again = watch()
        for record in records[:stop]:
            extra: Record = {"warnings": "learning-rate-too-high"} if record["step"] == step else {}
            again.recall(record | extra)
        timeless = [{k: v for k, v in r.items() if k != "step_seconds"} for r in records[stop:]]
        assert list(said(again, timeless)) == ([step] if stop < step else [])


def test_data_trouble_is_said_at_the_first_step() -> None:
    facts = DataFacts(1000, ("b",), 6, 0.3, "a", 3.0, 0.0)
    ((step, answer),) = said(watch(facts), stream(300, falls=True)).items()
    assert step == 1
    assert [f.name for f in answer.findings] == ["constant-column", "duplicate-rows"]


def test_growth_without_end_is_said_without_audits() -> None:
    records = [{"step": s, "critic_gradient_norm": 1e-4 * 2.0 ** (s / 6)} for s in range(1, 400)]
    found = said(watch(heed=True), records)
    names = [finding.name for answer in found.values() for finding in answer.findings]
    assert names[0] == "divergence-ahead"
    assert len(names) == len(set(names))
    assert next(iter(found.values())).act == "roll back"


@pytest.mark.parametrize(
    ("name", "rollbacks", "act", "words"),
    [
        ("learning-rate-too-high", 0, "roll back", "rolled back, with half the learning rates"),
        ("learning-rate-too-high", 3, None, ""),
        ("divergence-ahead", 3, "stop", "stopped"),
        ("mode-collapse", 0, "stop", "stopped"),
        ("critic-under-trained", 0, "n_critic", "n_critic 5 from here on"),
        ("outliers", 0, None, ""),
    ],
)
def test_what_heed_does(name: str, rollbacks: int, act: str | None, words: str) -> None:
    finding = Finding(name, "e", "c", "a", 0.9)
    found = watch(heed=True)._decide([finding], rollbacks)
    assert (found.act, found.done(finding)) == (act, words)
    assert found.record().get("heeded") == (None if act is None else f"{act}: {name}")
    assert watch()._decide([finding], rollbacks).act is None


def test_going_back_is_chosen_before_anything_else() -> None:
    both = [
        Finding(n, "e", "c", "a", 0.9) for n in ("critic-under-trained", "learning-rate-too-high")
    ]
    found = watch(heed=True)._decide(both, 0)
    assert (found.act, found.on) == ("roll back", "learning-rate-too-high")
    assert found.done(both[0]) == ""


def test_acts_are_about_rules_that_are_asked() -> None:
    asked = {rule.name for rule in RULES if rule.live}
    assert set(ACTS) <= asked
    assert not asked & {"plateaued", "still-improving", "time-lost", "memorisation", "oscillation"}


def test_what_is_kept_is_bounded_and_even() -> None:
    term = live._Term()
    for step in range(1, 30_001):
        term.add(step, float(step))
    steps, values = term.until(20_000)
    assert 1000 < len(steps) <= live._MOST
    assert steps[0] == 1
    assert steps[-1] > 19_900
    assert len(set(np.diff(steps))) == 1
    assert (steps == values).all()
