"""The live line: what it says of speed, time left and trend."""

import time

import pytest

from wgan.cli.progress import Progress
from wgan.diagnostics.rules import Finding


def shown(values: list[float], **more: float) -> str:
    progress = Progress("wasserstein_estimate", first=0, steps=1000, deadline=None)
    progress._started = time.monotonic() - 10.0
    record: dict[str, float | int | str | bool | None] = {}
    for step, value in enumerate(values, 1):
        record = {"step": step, "wasserstein_estimate": value, **more}
        progress.show(record)
    return progress.line(record, progress._started + 10.0)


def test_speed_and_time_left() -> None:
    line = shown([1.0] * 200)
    assert "step 200/1,000" in line
    assert "20.0 steps/s" in line
    assert "40 s left" in line


@pytest.mark.parametrize(("slope", "word"), [(-0.01, "falling"), (0.01, "rising"), (0.0, "steady")])
def test_the_trend_is_told_from_the_noise(slope: float, word: str) -> None:
    noise = [0.1 if i % 2 else -0.1 for i in range(200)]
    line = shown([5.0 + slope * i + noise[i] for i in range(200)])
    assert f"({word})" in line


def test_no_trend_before_there_is_one() -> None:
    assert "(" not in shown([1.0] * 20)


def test_a_warning_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("outliers", "x lies [far] out", "", "cut it", 0.9)
    for quiet in (False, True):
        Progress(None, first=0, steps=1, deadline=None, quiet=quiet).warn(1200, finding)
    assert capsys.readouterr().err == (
        "warning at step 1,200: outliers: x lies [far] out\n  do: cut it\n"
    )


def test_the_last_audit_stands_beside_the_estimate() -> None:
    progress = Progress("wasserstein_estimate", first=0, steps=1000, deadline=None)
    progress.show({"step": 1, "audit.excess": 0.1234, "audit.lower": 0.0567})
    progress.show({"step": 2, "wasserstein_estimate": 9.0})
    line = progress.line({"step": 2, "wasserstein_estimate": 9.0}, time.monotonic())
    assert "wasserstein estimate 9" in line
    assert "excess 0.123  W1 at least 0.0567" in line
    assert "excess" not in shown([1.0])


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(None, first=0, steps=1, deadline=None, quiet=True) as progress:
        progress._every = 0.0
        progress.show({"step": 1})
    assert capsys.readouterr().err == ""
