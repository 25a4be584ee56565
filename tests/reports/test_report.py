from __future__ import annotations

import math
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wgan.errors import UserError
from wgan.reports.plots import Plane
from wgan.reports.report import ReportInput, write_report
from wgan.run import DamagedError, Run
from wgan.types import Record

CARD: dict[str, Any] = {
    "recipe": {"name": "wgan-gp", "title": "WGAN-GP", "source": "Gulrajani et al.", "year": 2017},
    "meaning": "estimate of W1 up to the critic's scale",
    "estimate": "wasserstein_estimate",
    "departures": [
        {"field": "batch_size", "published": 64, "value": 128, "reason": "the data are few"}
    ],
    "data": {"name": "digits", "fingerprint": "ab" * 32, "size": 1797, "shape": [8, 8]},
    "codec": {"kind": "image", "shape": [1, 8, 8], "columns": []},
    "split": {"train": 1618, "heldout": 179, "seed": 0},
    "versions": {"wgan": "0.1.0", "torch": "2.9.0"},
    "machine": {"cores": 2, "device": "cpu"},
    "resumptions": [{"step": 100, "time": "noon"}],
}
CONFIG = {"data": "digits", "n_critic": 5, "constraints": {"gradient-penalty": {"weight": 10.0}}}
MakeRun = Callable[..., ReportInput]


def records(n: int) -> list[Record]:
    """Losses of a run that goes well."""
    rows: list[Record] = []
    for step in range(1, n + 1):
        estimate = 1 + 5 * math.exp(-step / 30) + 0.1 * math.sin(step)
        rows.append(
            {
                "step": step,
                "critic_loss": -estimate,
                "wasserstein_estimate": estimate,
                "gradient_penalty": 0.3,
                "slope": 0.98,
                "generator_loss": math.sin(step / 50),
                "critic_gradient_norm": estimate**2,
                "generator_gradient_norm": 0.5,
                "critic_updates": 5,
                "data_seconds": 0.001,
                "step_seconds": 0.02,
            }
        )
        if step % 50 == 0:
            excess = 0.2 + math.exp(-step / 80)
            rows[-1] |= {
                "audit.excess": excess,
                "audit.excess_low": excess - 0.1,
                "audit.excess_high": excess + 0.1,
                "audit.w1": excess + 2,
                "audit.w1_floor": 2.0,
                "audit.lower": 0.15,
                "audit.critic_estimate": estimate,
                "audit.optimality_gap": 0.01,
                "audit.slope_low": 0.5,
                "audit.slope_median": 0.9,
                "audit.slope_high": 1.1,
                "audit_seconds": 0.4,
            }
    return rows


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(
        name: str = "0001-digits",
        *,
        rows: list[Record] | None = None,
        config: dict[str, Any] | None = None,
        sheets: int = 2,
        plane: Plane | None = None,
        evaluation: dict[str, Any] | None = None,
        **card: Any,
    ) -> ReportInput:
        run = Run.create(tmp_path / name, {**CONFIG, **(config or {})}, {**CARD, **card})
        run.close()
        for step in range(sheets):
            picture = Image.new("L", (30, 30), step)
            picture.save(run.path / "samples" / f"{step * 10:08d}.png")
        Image.new("L", (30, 30), 255).save(run.path / "samples" / "real.png")
        brief: list[Record] = [{"step": 1, "generator_loss": 1.0, "step_seconds": 0.5}]
        return ReportInput(run, brief if rows is None else rows, plane, evaluation)

    return make


class Reader(HTMLParser):
    """Checks that tags close in order and collects what the page shows and refers to."""

    VOID = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.names: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.references.append(value or "")
            if name in ("alt", "aria-label"):
                self.names.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def read(tmp_path: Path, *inputs: ReportInput) -> Reader:
    path = tmp_path / "out" / "report.html"
    write_report(path, inputs)
    reader = Reader()
    reader.feed(path.read_text())
    reader.close()
    assert not reader.open
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return reader


def test_a_report_says_what_was_trained_on_what(make_run: MakeRun, tmp_path: Path) -> None:
    text = read(tmp_path, make_run(rows=records(200))).text
    assert "wgan-gp on digits" in text
    assert (
        " wgan-gp trained on digits, 1,797 samples of shape "
        "8 \N{MULTIPLICATION SIGN} 8 (179 of them held out), for 200 steps in 4.0 s. The "
        "Wasserstein estimate ended at 0.999 (median of the last 5 steps)." in text
    )
    assert "WGAN-GP. Gulrajani et al., 2017." in text
    assert "estimate of W1 up to the critic's scale" in text
    assert "positive when real samples score higher" in text
    for section in (
        "Samples", "What the critic says", "Audited on held-out data", "Losses",
        "Is the critic held?", "Gradient norms", "Time", "Settings", "Data, versions and machine",
    ):  # fmt: skip
        assert section in text
    assert "batch_size 64 128 the data are few" in text
    assert "constraints.gradient-penalty.weight 10" in text
    assert "ab" * 32 in text
    assert "wgan 0.1.0, torch 2.9.0" in text
    assert "step 100, time noon" in text
    assert "of the time of all steps: 5.0%" in text


def test_a_report_is_one_file(make_run: MakeRun, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20, 2))
    plane = Plane(points, points, np.arange(4.0), np.arange(4.0), rng.normal(size=(4, 4)))
    page = read(tmp_path, make_run(rows=records(100), plane=plane))
    assert page.references
    assert all(reference.startswith(("data:", "#")) for reference in page.references)
    assert not {"script", "link", "iframe", "base"} & set(page.tags)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "http" not in text
    assert "url(" not in text.replace("url(#", "")
    assert "@media (prefers-color-scheme: dark)" in text
    assert 'name="viewport"' in text
    assert len(page.names) == page.tags.count("img") + page.tags.count("svg")
    assert {"Samples at step 10", "Real data", "Samples over data"} <= set(page.names)


def test_strings_are_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    bad = '<b onload="x">&\'y'
    item = make_run(
        rows=[*records(3), {"step": 4, bad: 1.0}],
        config={bad: bad, "list": [bad]},
        evaluation={"measurements": {bad: {"name": bad, "value": 1.0, "meaning": bad}}},
        data={**CARD["data"], "name": bad, "source": bad},
        recipe={"name": bad, "title": bad, "source": bad},
        meaning=bad,
        departures=[{"field": bad, "published": bad, "value": bad, "reason": bad}],
        machine=bad,
    )
    page = read(tmp_path, item, make_run("another<b>&"))
    source = (tmp_path / "out" / "report.html").read_text()
    assert "<b" not in source.replace("<body", "")
    assert page.text.count(bad) >= 8
    assert bad.replace("<", "") not in unescape(source).replace(bad, "")


@pytest.mark.parametrize("n", [0, 1, 90])
def test_short_runs_have_a_report(make_run: MakeRun, tmp_path: Path, n: int) -> None:
    text = read(tmp_path, make_run(rows=records(n), sheets=n)).text
    assert f"for {n} step{'s' * (n != 1)}" in text
    assert ("nothing is recorded yet" in text) == (n == 0)
    assert "nothing recorded" not in text  # no empty axes
    assert ("Thick: the median filter" in text) == (n == 90)


def test_a_bare_run_directory_has_a_report(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "bare", {}, {})
    run.close()
    text = read(tmp_path, ReportInput(run, [])).text
    assert "a recipe on unknown data" in text
    assert "records no estimate of a distance" in text


def test_a_method_without_an_estimate_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    rows: list[Record] = [{"step": s, "generator_loss": 1.0 / s} for s in range(1, 9)]
    page = read(tmp_path, make_run(rows=rows, estimate=None, meaning="no estimate"))
    assert "records no estimate of a distance" in page.text
    assert "Generator's loss over steps" in page.names
    assert "Critic's loss over steps" not in page.names
    assert "Gradient norms" not in page.text


def test_terms_that_nobody_foresaw_are_drawn(make_run: MakeRun, tmp_path: Path) -> None:
    rows: list[Record] = [
        {"step": s, "convergence": 1.0, "equilibrium_k": 0.1, "head_loss": 2.0, "r1_penalty": 0.0}
        for s in range(1, 9)
    ]
    page = read(tmp_path, make_run(rows=rows, estimate="convergence", meaning="not a distance"))
    drawn = [name for name in page.names if name.endswith("over steps")]
    assert drawn == [
        "Convergence over steps", "Head loss over steps", "R1 penalty over steps",
        "Equilibrium k over steps",
    ]  # fmt: skip
    assert "Convergence: not a distance." in page.text


def test_a_failed_run_says_why(make_run: MakeRun, tmp_path: Path) -> None:
    text = read(tmp_path, make_run(status="failed", reason="`slope` is not finite")).text
    assert "The run stopped early: slope is not finite" in text.replace("  ", " ")


def test_of_many_sheets_the_report_holds_some(make_run: MakeRun, tmp_path: Path) -> None:
    page = read(tmp_path, make_run(sheets=40))
    steps = [
        int(name.rsplit(" ", 1)[1]) for name in page.names if name.startswith("Samples at step")
    ]
    assert steps[0] == 390  # the last one, large
    over_time = steps[1:]
    assert over_time[0] == 0
    assert over_time[-1] == 390
    assert 6 <= len(over_time) <= 8


def test_a_report_stays_small(make_run: MakeRun, tmp_path: Path) -> None:
    item = make_run(sheets=0)
    rng = np.random.default_rng(0)
    for step in range(4):
        noise = rng.integers(0, 256, (700, 700, 3), dtype=np.uint8)
        Image.fromarray(noise).save(item.run.path / "samples" / f"{step:08d}.png", compress_level=0)
    page = read(tmp_path, item)
    assert (tmp_path / "out" / "report.html").stat().st_size < 3e6
    assert page.tags.count("img") == 1 + 1 + 4


def test_rows_are_not_shown_beside_the_real_ones_they_are_drawn_over(
    make_run: MakeRun, tmp_path: Path
) -> None:
    for shape in ([2], [7]):
        item = make_run(f"rows{shape[0]}", codec={"kind": "rows", "shape": shape, "columns": []})
        assert "Real data" not in read(tmp_path, item).names


def test_measurements_come_with_their_floors(make_run: MakeRun, tmp_path: Path) -> None:
    found = {
        "w1": {
            "value": 3.25, "floor": 2.5, "better": "lower", "meaning": "optimal transport",
            "detail": {"size": 1797, "value_at_floor_size": 3.5, "shares": [0.1, 0.2]},
        },
        "memorisation": {"value": 0.5, "floor": None, "better": "0.5", "meaning": "", "detail": {}},
    }  # fmt: skip
    evaluation = {"measurements": found, "compared": {"reference_samples": 1797, "unit": "grey"}}
    text = read(tmp_path, make_run(evaluation=evaluation)).text
    assert "samples at the floor's size noise floor better what it says" in text
    assert "w1 3.25 3.5 2.5 lower optimal transport" in text
    assert "memorisation 0.5 \N{EN DASH} \N{EN DASH} 0.5" in text
    assert "reference samples 1797 unit grey w1: size 1797" in text


# -- several runs ----------------------------------------------------------------------------------


def test_several_runs_share_axes_and_tables(make_run: MakeRun, tmp_path: Path) -> None:
    page = read(
        tmp_path,
        make_run("one", rows=records(200)),
        make_run("two", rows=records(150), config={"n_critic": 1}, evaluation={
            "measurements": {"w1": {"value": 1.5, "floor": 0.5, "better": "lower", "meaning": "m"}}
        }),
    )  # fmt: skip
    assert "2 runs on digits" in page.text
    assert "steps 200 150" in page.text
    assert "n_critic 5 1" in page.text
    assert "two noise floor better what it says w1 1.5 0.5 lower m" in page.text
    assert page.names.count("Wasserstein estimate over steps") == 1
    assert {"one, step 10", "two, step 10", "Real data"} <= set(page.names)
    source = (tmp_path / "out" / "report.html").read_text()
    (marked,) = re.findall(r'<tr class="differs">.*?</tr>', source)
    assert "n_critic" in marked


def test_different_estimates_have_axes_of_their_own(make_run: MakeRun, tmp_path: Path) -> None:
    rows: list[Record] = [{"step": s, "js_estimate": 0.6} for s in range(1, 9)]
    page = read(
        tmp_path,
        make_run("one", rows=records(5)),
        make_run("two", rows=rows, estimate="js_estimate", meaning="in nats, at most log 2"),
    )
    assert {"Wasserstein estimate over steps", "JS estimate over steps"} <= set(page.names)
    assert "JS estimate: in nats, at most log 2." in page.text


def test_runs_on_different_data_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    other = make_run("two", data={"name": "scenes", "fingerprint": "cd" * 32})
    with pytest.raises(UserError, match="different data") as error:
        write_report(tmp_path / "report.html", [make_run("one"), make_run("three"), other])
    for name in ("one", "digits", "abababababab", "two", "scenes", "cdcdcdcdcdcd"):
        assert name in str(error.value)
    assert not (tmp_path / "report.html").exists()


def test_a_run_given_twice_or_no_run_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    item = make_run()
    with pytest.raises(UserError, match="given twice"):
        write_report(tmp_path / "report.html", [item, item])
    with pytest.raises(UserError, match="at least one run"):
        write_report(tmp_path / "report.html", [])


def test_runs_with_one_name_are_told_apart_by_their_paths(
    make_run: MakeRun, tmp_path: Path
) -> None:
    text = read(tmp_path, make_run("a/run"), make_run("b/run")).text
    assert str(tmp_path / "a/run") in text
    assert str(tmp_path / "b/run") in text


def test_a_damaged_sheet_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    item = make_run()
    sheet = item.run.path / "samples" / "00000010.png"
    sheet.write_bytes(sheet.read_bytes()[:40])
    with pytest.raises(DamagedError, match=r"00000010\.png is damaged"):
        write_report(tmp_path / "report.html", [item])
