"""Trends, swings, growth and decay: found where they are, and rarely where they are not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from wgan.diagnostics.signs import blocks, decay, growth, swing, trend

Series = NDArray[np.float64]


def red_noise(rng: np.random.Generator, n: int, correlation: float) -> Series:
    values = np.zeros(n)
    for i in range(1, n):
        values[i] = correlation * values[i - 1] + rng.normal()
    return values


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_noise_is_rarely_taken_for_a_trend(correlation: float) -> None:
    rng = np.random.default_rng(0)
    found = [trend(red_noise(rng, 100, correlation)).p_value < 0.05 for _ in range(200)]
    assert np.mean(found) < 0.1  # the plain test says so of half of them at a correlation of 0.8


def test_a_trend_is_found_and_measured() -> None:
    rng = np.random.default_rng(1)
    values = 5 - 0.03 * np.arange(100) + red_noise(rng, 100, 0.3) * 0.3
    found = trend(values)
    assert found.falls()
    assert not found.rises()
    assert found.change == pytest.approx(-2.97, abs=0.4)
    assert trend(-values).rises()
    assert trend(np.ones(50)).p_value == 1.0
    assert trend(np.arange(4.0)).p_value == 1.0  # too few to say


def test_a_swing_is_found_with_its_period() -> None:
    rng = np.random.default_rng(2)
    t = np.arange(120)
    found = swing(2 * np.sin(2 * np.pi * t / 12) + 0.02 * t + rng.normal(size=120))
    assert found.period == pytest.approx(12, rel=0.1)
    assert found.amplitude == pytest.approx(2, rel=0.25)
    assert found.p_value < 1e-4


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_noise_is_rarely_taken_for_a_swing(correlation: float) -> None:
    rng = np.random.default_rng(3)
    found = [swing(red_noise(rng, 120, correlation)).p_value < 0.01 for _ in range(200)]
    assert np.mean(found) < 0.05
    assert swing(np.exp(-np.arange(120) / 20)).share < 0.05  # a decay is none


def test_growth_counts_doublings() -> None:
    doublings, straight = growth(2.0 ** (np.arange(90) / 10))
    assert doublings == pytest.approx(2.9)
    assert straight == pytest.approx(1)
    assert growth(np.full(90, 3.0))[0] == pytest.approx(0, abs=1e-9)
    assert growth(-np.ones(90)) == (0.0, 0.0)


@pytest.mark.parametrize("time", [60.0, 400.0])
def test_decay_says_when_it_settles(time: float) -> None:
    rng = np.random.default_rng(4)
    steps = np.arange(600.0)
    values = 0.5 + 3 * np.exp(-steps / time) + 0.1 * rng.normal(size=600)
    found = decay(steps, values)
    assert found is not None
    assert found.level == pytest.approx(0.5, abs=0.15)
    assert 0.97 * found.low <= time * np.log(20) <= 1.03 * found.high
    assert found.fit > 0.9
    assert decay(steps[:5], values[:5]) is None


def test_blocks_are_medians() -> None:
    steps, values = blocks(np.arange(1.0, 1001), np.arange(1.0, 1001) ** 2, 10)
    assert len(steps) == len(values) == 10
    assert steps[0] == 50.5
    assert values[0] == pytest.approx((50**2 + 51**2) / 2)


def test_a_long_series_is_tested_by_its_medians() -> None:
    """All pairs of 20,000 numbers would be 200 million."""
    rng = np.random.default_rng(3)
    found = trend(np.linspace(0, 1, 20_000) + rng.normal(size=20_000))
    assert found.rises(1e-6)
    assert found.change == pytest.approx(1, abs=0.15)
