from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.signal import medfilt

from wgan.reports.plots import Curve, Plane, curves_of, over_steps, plane_plot
from wgan.reports.style import SERIES, png, svg
from wgan.types import Record


def ramp(n: int, slope: float = 1.0) -> Curve:
    steps = np.arange(1, n + 1)
    return Curve(steps, slope * steps.astype(np.float64))


def test_curves_hold_the_finite_numbers_of_the_records() -> None:
    records: list[Record] = [
        {"step": 1, "loss": 2.0, "sure": True, "note": "x", "none": None},
        {"step": 2, "loss": float("nan")},
        {"step": 3, "loss": 4},
    ]
    curves = curves_of(records)
    assert list(curves) == ["step", "loss"]
    assert curves["loss"].steps.tolist() == [1, 3]
    assert curves["loss"].values.tolist() == [2.0, 4.0]
    assert curves_of([]) == {}
    assert len(Curve.empty()) == 0
    assert Curve.empty().final is None


def test_the_median_is_the_papers_filter_inside() -> None:
    values = np.random.default_rng(0).normal(size=400)
    curve = Curve(np.arange(400), values)
    assert curve.window == 11
    np.testing.assert_array_equal(curve.median().values[5:-5], medfilt(values, 11)[5:-5])


def test_the_median_does_not_pull_the_ends_to_zero() -> None:
    median = Curve(np.arange(200), np.arange(10.0, 210.0)).median().values
    assert median[:3].tolist() == [11, 11, 12]  # of 11 10 [10] 11 12 and so on
    assert median[-3:].tolist() == [207, 208, 208]


def test_few_values_are_not_filtered() -> None:
    assert ramp(79).window == 1
    assert ramp(79).median() is not None
    np.testing.assert_array_equal(ramp(79).median().values, ramp(79).values)


def test_final_is_the_median_of_the_last_window() -> None:
    assert ramp(200).window == 5
    assert ramp(200).final == 198
    assert ramp(3).final == 3


def test_thinning_keeps_the_extremes() -> None:
    values = np.zeros(100_000)
    values[77_777], values[12_345] = 5.0, -5.0
    thin = Curve(np.arange(100_000), values).thinned(1000)
    assert len(thin) <= 1000
    assert (np.diff(thin.steps) > 0).all()
    assert thin.values.max() == 5.0
    assert thin.values.min() == -5.0
    assert ramp(10).thinned(1000).values.tolist() == ramp(10).values.tolist()


def test_one_curve_is_drawn_raw_and_filtered() -> None:
    curve = ramp(200)
    (axes,) = over_steps({"run": curve}, "height in m").axes
    raw, median = axes.lines
    np.testing.assert_array_equal(raw.get_data(), (curve.steps, curve.values))
    np.testing.assert_array_equal(median.get_ydata(), curve.median().values)
    assert median.get_linewidth() > raw.get_linewidth()
    assert axes.get_ylabel() == "height in m"
    figure = over_steps({"run": curve}, "height")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["each step", "median of 5"]


def test_several_curves_have_their_names_and_colours() -> None:
    figure = over_steps({"_a$1$": ramp(200), "b": ramp(90, -1.0), "c": Curve.empty()}, "x")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [r" _a\$1\$", "b"]
    colours = {line.get_color() for line in figure.axes[0].lines}
    assert colours == {SERIES[0], SERIES[1]}
    assert png(figure)  # dollars are no formula


def test_marks_are_drawn_without_a_filter() -> None:
    (axes,) = over_steps({"run": ramp(100)}, "x", marks=True, floor=0.0).axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_ydata(), ramp(100).values)
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 100


@pytest.mark.parametrize("values", [[], [3.0], [-2.0, -2.0], [0.0, 0.0, 0.0]])
def test_short_curves_are_drawn(values: list[float]) -> None:
    curve = Curve(np.arange(1, len(values) + 1), np.array(values))
    figure = over_steps({"run": curve}, "x", log=True, zero=True, floor=-3.0)
    assert len(figure.axes[0].lines) >= bool(values)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ([] if values else ["nothing recorded"])


def test_a_wide_range_of_positive_values_gets_a_log_axis() -> None:
    steps = np.arange(1, 201)
    wide = Curve(steps, np.exp(np.linspace(0, 8, 200)))
    assert over_steps({"run": wide}, "x", log=True).axes[0].get_yscale() == "log"
    assert over_steps({"run": wide}, "x").axes[0].get_yscale() == "linear"
    signed = Curve(steps, wide.values - 2)
    assert over_steps({"run": signed}, "x", log=True).axes[0].get_yscale() == "linear"


def test_a_few_wild_values_do_not_set_the_scale_and_are_counted() -> None:
    values = np.random.default_rng(0).uniform(1, 2, 500)
    values[[3, 400]] = 1e6, -1e6
    (axes,) = over_steps({"run": Curve(np.arange(500), values)}, "x").axes
    low, high = axes.get_ylim()
    assert 0 < low < 1.1
    assert 1.9 < high < 3
    assert [text.get_text() for text in axes.texts] == ["2 of 500 values lie outside"]


def test_zero_is_drawn_between_values_of_both_signs() -> None:
    both = Curve(np.arange(200), np.linspace(-1, 1, 200))
    (axes,) = over_steps({"run": both}, "x", zero=True).axes
    assert axes.lines[-1].get_ydata() == [0, 0]
    (axes,) = over_steps({"run": ramp(200)}, "x", zero=True).axes
    assert len(axes.lines) == 2


@pytest.fixture
def plane() -> Plane:
    rng = np.random.default_rng(0)
    x, y = np.linspace(-1, 1, 20), np.linspace(-2, 2, 30)
    score = np.hypot(*np.meshgrid(x, y))
    return Plane(rng.normal(size=(40, 2)), rng.normal(size=(30, 2)), x, y, score)


def test_the_plane_shows_points_and_level_lines(plane: Plane) -> None:
    figure = plane_plot(plane)
    (axes,) = figure.axes
    tint, lines, fake, real = axes.collections
    np.testing.assert_array_equal(fake.get_offsets(), plane.fake)
    np.testing.assert_array_equal(real.get_offsets(), plane.real)
    assert plane.score is not None
    levels = lines.levels  # type: ignore[attr-defined]
    assert len(levels) == 13
    assert plane.score.min() < levels[0] < levels[-1] < plane.score.max()
    alphas = np.asarray(tint.get_facecolor())[:, 3]
    assert (np.diff(alphas) > 0).all()  # the higher, the deeper
    assert axes.get_xlim() == (-1, 1)
    assert axes.get_ylim() == (-2, 2)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["samples (30)", "real (40)"]


@pytest.mark.parametrize("score", [None, np.ones((30, 20))])
def test_a_plane_without_a_critic_or_with_a_flat_one_has_no_lines(
    plane: Plane, score: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None
) -> None:
    flat = Plane(plane.real, plane.fake, plane.x, plane.y, score)
    assert len(plane_plot(flat, ("a", "b")).axes[0].collections) == 2


def test_an_inline_picture_refers_to_nothing_outside_it(plane: Plane) -> None:
    for figure in (plane_plot(plane), over_steps({"a": ramp(200), "b": ramp(100)}, "x & y")):
        text = svg(figure, 'of "a" & <b>')
        assert "http" not in text
        assert text.startswith("<svg viewBox=")
        root = ElementTree.fromstring(text.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
        assert root.get("aria-label") == 'of "a" & <b>'
        ids = set(re.findall(r' id="([^"]+)"', text))
        assert ids == set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
        assert "var(--ink, #1f2430)" in text


def test_the_same_figure_gives_the_same_picture(plane: Plane) -> None:
    assert svg(plane_plot(plane), "x") == svg(plane_plot(plane), "x")


def test_a_band_is_in_sight() -> None:
    steps = np.arange(1, 6)
    curve, below, above = (Curve(steps, np.full(5, level)) for level in (0.1, -0.4, 0.6))
    figure = over_steps({"a": curve}, "excess", zero=True, marks=True, bands={"a": (below, above)})
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert low <= -0.4
    assert high >= 0.6
    (band,) = axes.collections
    drawn = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (drawn.min(), drawn.max()) == (-0.4, 0.6)
