"""When a run may stop: rules, plateaus, and what they refuse."""

import pytest

from wgan.diagnostics import Stopping, parse_rule
from wgan.diagnostics.stopping import require_known
from wgan.errors import UserError


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("audit.excess < 0.05", 0.049, True),
        ("audit.excess<0.05", 0.05, False),
        ("audit.excess <= 5e-2", 0.05, True),
        ("audit.excess > -1", 0.0, True),
        ("audit.excess >= +2.5", 2.4, False),
    ],
)
def test_rules_compare_a_term_with_a_number(text: str, value: float, holds: bool) -> None:
    rule = parse_rule(text)
    assert rule.holds({"step": 1, "audit.excess": value}) is holds
    assert not rule.holds({"step": 1})


@pytest.mark.parametrize(
    "text", ["audit.excess", "audit.excess = 3", "a < b", "x < 1 and y < 2", "x < ."]
)
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be a comparison like"):
        parse_rule(text)


def test_a_term_that_is_not_recorded_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"audit\.excess"):
        require_known(parse_rule("audit.exces < 1"), ["audit.excess", "slope"])


def test_patience_counts_audits_since_the_best() -> None:
    stopping = Stopping(None, 2)
    for step, excess in enumerate([0.5, 0.6, 0.4, 0.4], 1):
        stopping.see({"step": step, "audit.excess": excess})
        stopping.see({"step": step})  # steps without an audit do not count
    assert stopping.reason is None
    stopping.see({"step": 5, "audit.excess": 0.41})
    assert stopping.reason == ("audit.excess has not fallen below 0.4, of step 3, in 2 audits")


def test_an_extended_run_gets_its_patience_again() -> None:
    stopping = Stopping(parse_rule("audit.excess < 0.1"), 1)
    stopping.see({"step": 1, "audit.excess": 0.05})
    assert stopping.reason == "audit.excess is 0.05, audit.excess < 0.1"
    stopping.renew()
    stopping.see({"step": 2})
    assert not stopping.reason
    stopping.see({"step": 3, "audit.excess": 0.2})
    assert "has not fallen below 0.05" in str(stopping.reason)
