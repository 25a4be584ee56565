"""Bounds on W1: feasible, covered, equivariant, and refused where nothing can be said."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wgan.bounds import (
    Budget,
    Parts,
    coupling_bound,
    lower_bound,
    measure,
    population_gap,
    split,
    transport_excess,
    unlimited,
)
from wgan.bounds.critics import Anchored, Line, LipschitzCritic, Points
from wgan.bounds.fitting import fit_anchored, fit_line, fit_network, minibatches
from wgan.errors import UserError
from wgan.experiments.w1_pairs import cones, radial
from wgan.transport import Cost, cost_matrix


def normal(seed: int, n: int, dim: int) -> Points:
    return np.random.default_rng(seed).normal(size=(n, dim))


def steepest(critic: LipschitzCritic, points: Points, cost: str) -> float:
    scores = critic(points)
    apart = cost_matrix(points, points, cost)  # type: ignore[arg-type]
    slopes = np.abs(scores[:, None] - scores) / np.where(apart > 0, apart, np.inf)
    return float(slopes.max())


@pytest.mark.parametrize("cost", ["euclidean", "l1", "linf"])
@pytest.mark.parametrize("way", ["line", "up", "down", "maxmin", "sorted", "half"])
def test_every_kind_of_critic_is_1_lipschitz_in_the_ground_metric(way: str, cost: str) -> None:
    draw = minibatches(normal(0, 300, 3) + 1, 2 * normal(1, 200, 3))
    rng, budget = torch.Generator().manual_seed(0), Budget(steps=30)
    critic: LipschitzCritic
    if way == "line":
        critic = fit_line(draw, rng, cost=cost)  # type: ignore[arg-type]
    elif way in ("up", "down"):
        critic = fit_anchored(draw, rng, budget, cost=cost, above=way == "up", anchors=50)  # type: ignore[arg-type]
    else:
        group, share = 2 if way == "maxmin" else None, 0.5 if way == "half" else 1.0
        critic = fit_network(draw, rng, budget, cost=cost, width=16, group=group, share=share)  # type: ignore[arg-type]
    found = steepest(critic, np.concatenate([3 * normal(2, 200, 3), normal(3, 50, 3) / 50]), cost)
    assert 0.3 < found <= 1 + 1e-9


@pytest.mark.parametrize("way", ["line", "up", "down", "maxmin"])
def test_gradients_are_those_of_the_scores(way: str) -> None:
    draw = minibatches(normal(0, 300, 3) + 1, 2 * normal(1, 200, 3))
    rng, budget = torch.Generator().manual_seed(0), Budget(steps=30)
    critic: LipschitzCritic
    if way == "line":
        critic = fit_line(draw, rng)
    elif way in ("up", "down"):
        critic = fit_anchored(draw, rng, budget, above=way == "up", anchors=50)
    else:
        critic = fit_network(draw, rng, budget, width=16)
    points, step = normal(5, 100, 3), 1e-6
    moves = step * np.eye(3)
    slopes = np.stack([critic(points + m) - critic(points - m) for m in moves], 1) / (2 * step)
    apart = np.abs(slopes - critic.gradient(points)).max(1)
    assert (apart < 1e-5).mean() > 0.95  # the others are at kinks


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 12), st.booleans(), st.integers(0, 100))
def test_any_heights_make_a_1_lipschitz_extension(dim: int, k: int, above: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    critic = Anchored(rng.normal(size=(k, dim)), 5 * rng.normal(size=k), above=above)
    assert steepest(critic, rng.normal(size=(40, dim)), "euclidean") <= 1 + 1e-9


def test_a_line_is_exact_for_a_translation() -> None:
    x = normal(0, 4_000, 5)
    shift = np.array([0.6, 0.8, 0, 0, 0])
    line = fit_line(minibatches(x + shift, x), torch.Generator().manual_seed(0))
    assert isinstance(line, Line)
    fresh = normal(1, 4_000, 5)
    assert line(fresh + shift).mean() - line(fresh).mean() == pytest.approx(1, abs=0.01)


def test_the_clt_bound_covers_the_gap_as_often_as_it_says() -> None:
    """2,000 repetitions: 95% with a standard error of 0.5%."""
    rng = np.random.default_rng(0)
    x, y = 0.5 + rng.normal(size=(2_000, 80)), 2 * rng.normal(size=(2_000, 40))
    below = np.mean([population_gap(a, b).lower <= 0.5 for a, b in zip(x, y, strict=True)])
    assert below == pytest.approx(0.95, abs=0.015)


def test_the_bernstein_bound_is_that_of_the_theorem() -> None:
    x, y = np.array([0.0, 1, 1, 1]), np.array([0.0, 0, 0, 1])
    log = np.log(2 / 0.025)
    width = 2 * (np.sqrt(2 * 0.25 * log / 4) + 7 * log / 9)
    gap = population_gap(x, y, spread=1.0)
    assert gap.interval == "bernstein"
    assert gap.estimate - gap.lower == pytest.approx(width)
    assert gap.two_sided()[1] == pytest.approx(0.5 + width)


def test_the_interval_is_the_one_asked_for() -> None:
    x, y, bounds = normal(0, 300, 2), normal(1, 300, 2) + 2, (-9.0, 9.0)
    lower = {}
    for choice, box, used in (
        ("auto", None, "clt"),
        ("auto", bounds, "bernstein"),
        ("clt", bounds, "clt"),
        ("bernstein", bounds, "bernstein"),
    ):
        found = measure(x, y, seconds=None, steps=20, bounds=box, interval=choice)  # type: ignore[arg-type]
        assert found.interval == used
        assert (found.upper is None) == (box is None)
        assert found.lower is not None
        lower[choice, box] = found.lower
    assert lower["clt", bounds] == lower["auto", None] > lower["bernstein", bounds]
    assert lower["bernstein", bounds] == lower["auto", bounds]


def test_the_bound_of_a_coupling_covers_its_mean_as_often_as_it_says() -> None:
    """2,000 repetitions: 95% with a standard error of 0.5%; Bernstein's holds nearly always."""
    moved = np.random.default_rng(0).beta(2, 5, size=(2_000, 50))
    above = np.mean([coupling_bound(row) >= 2 / 7 for row in moved])
    assert above == pytest.approx(0.95, abs=0.015)
    assert np.mean([coupling_bound(row, spread=1.0) >= 2 / 7 for row in moved]) > 0.99


def test_the_bernstein_bound_of_a_coupling_is_that_of_the_theorem() -> None:
    log = np.log(2 / 0.05)
    width = np.sqrt(2 * 0.25 * log / 4) + 7 * 3 * log / 9
    assert coupling_bound([0.0, 1, 1, 1], spread=3.0) == pytest.approx(0.75 + width)


@pytest.mark.parametrize(("metric", "cost"), [("euclidean", 5.0), ("l1", 7.0), ("linf", 4.0)])
def test_pairs_bound_w1_from_above_without_bounds_of_the_data(metric: Cost, cost: float) -> None:
    x = normal(0, 400, 20)
    noise = 0.01 * normal(1, 400, 20)
    shift = np.array([3.0, 4.0] + 18 * [0.0])
    found = measure(x, x + shift + noise, metric=metric, seconds=None, steps=5, paired=True)
    assert found.population is not None
    assert found.upper is not None
    assert found.population.upper_method == "the coupling given by the pairs"
    assert cost < found.upper < 1.1 * cost
    assert not found.population.upper_is_loose
    assert found.lower is not None
    assert found.lower < found.upper
    without = measure(x, x + shift + noise, metric=metric, seconds=None, steps=5)
    assert without.upper is None


def test_the_bound_from_below_takes_no_pair_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(x: Points, y: Points, seed: int) -> Parts:
        seen.append((x, y))
        return split(x, y, seed)

    monkeypatch.setattr("wgan.bounds.distance.split", spy)
    x = np.arange(300.0)[:, None]
    measure(x, x + 0.5, seconds=None, steps=2, ways=("cones-up",), paired=True)
    ((first, second),) = seen
    assert len(first) == len(second) == 150
    assert not set(first[:, 0]) & set(second[:, 0] - 0.5)


def test_a_short_time_takes_fewer_samples_and_says_so() -> None:
    """The bound in time is wide, for busy machines; that in samples is what keeps it."""
    x, y = normal(0, 4_000, 64), normal(1, 4_000, 64) + 0.2
    began = time.monotonic()
    found = measure(x, y, seconds=1.0)
    assert time.monotonic() - began < 30
    assert found.context["samples"] < 1_000
    assert found.population is not None
    assert found.population.floor_size < 1_000
    assert f"{found.population.floor_size:,} samples of each" in found.table()
    assert f"{found.context['samples']:,.0f} of each" in found.table()
    assert found.seconds == pytest.approx(time.monotonic() - began, abs=0.5)


def test_a_gap_that_chance_may_explain_is_told_from_none() -> None:
    x, y = normal(0, 100, 2), normal(1, 100, 2) + 2
    unsure = measure(x, y, seconds=None, steps=20, bounds=(-99, 99))
    assert unsure.lower == 0
    assert unsure.estimate is not None
    assert unsure.estimate > 1
    assert "the allowance for chance (bernstein, right at any sample size)" in unsure.explain()
    same = measure(x, x[::-1], seconds=None, steps=20, ways=("cones-up",), seed=1)
    assert same.population is not None
    assert (
        replace(same, population=replace(same.population, lower=0.0, estimate=-0.1))
        .explain()
        .count("No critic told the populations apart")
        == 1
    )


def test_the_time_that_was_spent_counts() -> None:
    x, y = normal(0, 100, 2), normal(1, 100, 2)
    assert measure(x, y, seconds=None, steps=2, spent=100.0).seconds > 100


def test_the_allowance_from_above_is_mcdiarmids() -> None:
    assert transport_excess(100, 50, 2.0, 0.95) == pytest.approx(
        2 * np.sqrt((1 / 100 + 1 / 50) * np.log(20) / 2)
    )


def test_cones_reach_the_truth_in_a_few_dimensions() -> None:
    pair = cones(4, 16)
    parts = unlimited(pair.draw, 4, 0, choose=2_000, measure=20_000)
    found = lower_bound(parts, Budget(steps=500), ways=("cones-up",))
    assert 0.9 * pair.w1 < found.gap.estimate
    assert found.lower <= pair.w1


def test_a_network_reaches_the_truth_in_many() -> None:
    pair = radial(32)
    parts = unlimited(pair.draw, 32, 0, choose=1_000, measure=10_000)
    found = lower_bound(parts, Budget(steps=200), ways=("sorted",))
    assert 0.85 * pair.w1 < found.gap.estimate
    assert found.lower <= pair.w1
    assert "full sort" in found.critic.name


def test_the_three_parts_are_disjoint_and_all_there_is() -> None:
    x, y = np.arange(200.0)[:, None], 1_000 + np.arange(100.0)[:, None]
    parts = split(x, y, 3)
    fit = parts.draw(torch.Generator(), 10**6)
    for i, whole in enumerate((x, y)):
        seen = np.concatenate([fit[i].numpy(), parts.choose[i], parts.measure[i]])
        np.testing.assert_array_equal(np.sort(seen, axis=0), whole)


def test_small_samples_are_measured_exactly_and_repeatably() -> None:
    x, y = normal(0, 200, 2), normal(1, 150, 2) + np.array([2.0, 0])
    found = measure(x, y, seconds=None, steps=50, bounds=(-10, 10))
    again = measure(x, y, seconds=None, steps=50, bounds=(-10, 10))
    assert found.samples.exact
    assert found.samples.gap == pytest.approx(0, abs=1e-9)
    assert found.population is not None
    assert found.upper is not None
    assert found.population.lower <= 2 <= found.upper
    ours, theirs = (dict(f.to_json(), seconds=0) for f in (found, again))
    assert ours == theirs
    assert found.explain() == again.explain()


def test_equal_populations_are_not_told_apart() -> None:
    found = [
        measure(normal(2 * s, 200, 2), normal(2 * s + 1, 200, 2), seconds=None, steps=20).lower
        for s in range(8)
    ]
    assert sum(value is not None and value > 0 for value in found) <= 2


def test_it_is_symmetric_and_moves_and_scales_with_the_data() -> None:
    x, y = normal(0, 150, 3), normal(1, 150, 3) + 1
    one = measure(x, y, seconds=None, steps=20)
    other = measure(y, x, seconds=None, steps=20)
    far = measure(10 * x + 100, 10 * y + 100, seconds=None, steps=20)
    assert one.samples.upper == pytest.approx(other.samples.upper)
    assert far.samples.upper == pytest.approx(10 * one.samples.upper)
    assert one.estimate is not None
    assert far.estimate == pytest.approx(10 * one.estimate, rel=0.05)
    for name in ("sliced_w1", "energy", "w2", "sinkhorn_divergence"):
        assert far.context[name] == pytest.approx(10 * one.context[name], rel=1e-6)


def test_too_few_samples_say_nothing_of_the_populations() -> None:
    found = measure(normal(0, 20, 2), normal(1, 20, 2), seconds=None, steps=5)
    assert found.population is None
    assert found.lower is None
    assert "too few" in found.explain()
    with pytest.raises(UserError, match="at least 60 samples"):
        split(normal(0, 59, 2), normal(1, 100, 2), 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x": np.full((80, 2), np.nan)}, "must be finite"),
        ({"x": np.zeros((80, 3))}, "samples of one shape"),
        ({"bounds": (0.0, 1.0)}, "give bounds that always hold"),
        ({"bounds": (1.0, 0.0)}, "low below high"),
        ({"level": 1.5}, "`level`"),
        ({"metric": "euclid"}, "euclidean"),
        ({"ways": ("cone-up",)}, "cones-up"),
        ({"seconds": 0.0}, "`seconds`"),
        ({"steps": None}, "`seconds` or `steps`"),
        ({"interval": "bernstein"}, "give bounds LO,HI"),
        ({"interval": "chernoff"}, "bernstein"),
        ({"paired": True, "x": np.zeros((81, 2))}, "as many of `a` as of `b`, got 81 and 80"),
    ],
)
def test_mistakes_are_refused(changed: dict[str, object], said: str) -> None:
    given = {"x": normal(0, 80, 2), "y": normal(1, 80, 2), "seconds": None, "steps": 5, **changed}
    with pytest.raises(UserError, match=said):
        measure(given.pop("x"), given.pop("y"), **given)  # type: ignore[arg-type]
