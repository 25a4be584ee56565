"""Comparisons of runs: what is told apart, what is not, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wgan
from wgan.cli import main
from wgan.comparison import Comparison, _pairs, write_page
from wgan.errors import UserError
from wgan.reports.sheet import sample_sheet

TINY: dict[str, Any] = {"width": 8, "depth": 1, "batch_size": 16, "n_critic": 1, "steps": 1}


class Moved(nn.Module):
    """Standard normal latents moved by a constant that training hardly changes."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, latent: Tensor) -> Tensor:
        return latent + self.shift


@pytest.fixture(scope="module")
def data() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(2000, 2))


@pytest.fixture(scope="module")
def runs(data: Any, tmp_path_factory: pytest.TempPathFactory) -> list[wgan.Trained]:
    """Three runs whose W1 to the data is 0, 0 and about 1.4."""
    root = tmp_path_factory.mktemp("runs")
    return [
        wgan.train(
            data, out=root / name, generator=Moved(shift), latent=2, lr=1e-6, average=0.0,
            seed=seed, holdout=0.3, **TINY,
        )
        for seed, (name, shift) in enumerate([("far", 1.0), ("near", 0.0), ("also", 0.0)])
    ]  # fmt: skip


def test_the_closer_run_is_named_and_equals_are_not_told_apart(
    runs: list[wgan.Trained], data: Any
) -> None:
    found = wgan.compare(runs, data=data)
    far, near, also = (str(run.run.path) for run in runs)
    verdicts = {entry.name: entry.verdict(found.best) for entry in found.entries}
    assert verdicts[far] == "further"
    assert {verdicts[near], verdicts[also]} == {"closest", "cannot be told apart"}
    last = found.entries[-1]
    assert last.name == far
    assert last.behind is not None
    assert last.behind[1] < 1.2 < last.behind[2] + 0.3  # about W1 = 1.41, less the floor
    assert found.held == 600
    said = found.explain()
    assert f"closer than {far}" in said
    assert "None of it is certified" in said
    assert "further" in found.table()
    assert found.to_json()["runs"][2]["verdict"] == "further"


def test_of_several_runs_all_pairs_count(runs: list[wgan.Trained], data: Any) -> None:
    found = wgan.compare(runs, data=data)
    names = [entry.name for entry in found.entries]
    assert [(pair.closer, pair.further) for pair in found.pairs] == [
        (names[0], names[1]), (names[0], names[2]), (names[1], names[2]),
    ]  # fmt: skip
    raw = found.entries[1].excess.p_value(found.entries[0].excess)
    assert found.entries[1].p == found.pairs[0].p >= raw
    assert found.entries[2].p == found.pairs[1].p < 0.001
    assert "Holm's correction over the 3 pairs" in found.explain()
    two = wgan.compare(runs[:2], data=data)
    assert two.entries[1].p == two.entries[1].excess.p_value(two.entries[0].excess)
    assert "Holm" not in two.explain()


def test_p_values_are_holms() -> None:
    class Judged:
        def __init__(self, name: int) -> None:
            self.name = name

        def p_value(self, other: "Judged") -> float:
            return {(0, 1): 0.03, (0, 2): 0.01, (1, 2): 0.04}[other.name, self.name]

        def minus(self, other: "Judged") -> tuple[float, float, float]:
            return float(self.name - other.name), 0.0, 9.0

    found = _pairs(["a", "b", "c"], [Judged(k) for k in range(3)])  # type: ignore[misc]
    assert [(pair.further, pair.value) for pair in found] == [("b", 1.0), ("c", 2.0), ("c", 1.0)]
    # Smallest first: 3 x 0.01, 2 x 0.03, and 0.04 may not come below what was not smaller.
    assert [pair.p for pair in found] == pytest.approx([0.06, 0.03, 0.06])


def test_the_page_says_what_follows_and_what_does_not(
    runs: list[wgan.Trained], data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = wgan.compare(runs, data=data)
    drawn = []

    def sheet(samples: Any, codec: Any, **how: Any) -> None:
        drawn.append(how["real"])
        sample_sheet(samples, codec, **how)

    monkeypatch.setattr("wgan.reports.compared.sample_sheet", sheet)
    write_page(found, runs, tmp_path / "page" / "compare.html")
    assert len(drawn) == 3
    for real in drawn:  # over the data, in its own units
        assert real.shape == (500, 2)
        assert np.abs(real[:, None] - data).sum(axis=2).min(axis=1).max() < 1e-5
    page = (tmp_path / "page" / "compare.html").read_text()
    assert "near and also cannot be told apart" in page or "also and near cannot be" in page
    assert page.count("is closer to the data than far") == 2
    for said in (
        "Holm&#x27;s over all",
        "What cannot be concluded",
        "Not audited",
        "one seed each",
    ):
        assert said in page
    for entry in found.entries:
        assert f"<td>{entry.excess.low:.3g} to {entry.excess.high:.3g}</td>" in page
    assert page.count("<svg") == 2
    assert page.count("data:image/") == 3  # each drawn over the data
    (equal,) = (pair for pair in found.pairs if pair.p >= 0.05)
    assert f"between {equal.low:.3g} and {equal.high:.3g} with 95% confidence" in page
    with pytest.raises(UserError, match="cannot write"):
        write_page(found, runs, tmp_path / "page" / "compare.html" / "below")


def test_the_command_writes_the_page_with_the_audits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [str(tmp_path / name) for name in ("one", "two")]
    for place in places:
        wgan.train("digits", out=place, audit_every=1, **{**TINY, "steps": 2})
    out = tmp_path / "compare.html"
    assert main(["compare", *places, "--seconds", "0.5", "--out", str(out)]) == 0
    assert f"look  {out}" in capsys.readouterr().out
    assert out.read_text().count("<svg") == 3
    assert out.read_text().count("data:image/") == 3  # two runs and the data
    assert main(["compare", *places, "--best", "--seconds", "0.5", "--out", str(out)]) == 0
    assert f"{places[0]} (best)" in capsys.readouterr().out


def test_with_a_range_of_the_data_it_is_certified(runs: list[wgan.Trained], data: Any) -> None:
    within = wgan.compare(runs, data=data, bounds=(-8.0, 8.0), seconds=3.0)
    for entry in within.entries:
        assert entry.lower is not None
        assert entry.upper is not None
        assert 0 <= entry.lower <= entry.upper
    assert within.entries[-1].upper < 3.5  # type: ignore[operator]
    # A bound below another's is what makes it certain.
    best, *_, last = within.entries
    sure = replace(last, lower=best.upper + 0.1)  # type: ignore[operator]
    assert sure.verdict(best) == "further, certified"
    unsure = replace(last, lower=best.upper - 0.1)  # type: ignore[operator]
    assert unsure.verdict(best) == "further"
    changed: Comparison = replace(within, entries=(best, sure))
    assert "is certified" in changed.explain()


def test_what_cannot_be_compared_is_refused(
    runs: list[wgan.Trained], data: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="at least 2 runs, got 1"):
        wgan.compare(runs[:1], data=data)
    with pytest.raises(UserError, match="given twice"):
        wgan.compare([runs[0], runs[0]], data=data)
    other = wgan.train("gaussians8", out=tmp_path / "other", **TINY)
    with pytest.raises(UserError, match="runs on different data"):
        wgan.compare([runs[0], other], data=data)
    split = wgan.train(data, out=tmp_path / "split", holdout=0.3, split_seed=1, **TINY)
    with pytest.raises(UserError, match=r"hold out different samples \(holdout 0.3, split_seed 0"):
        wgan.compare([runs[0], split], data=data)
    few = [wgan.train(data, out=tmp_path / n, holdout=0.005, **TINY) for n in ("few", "more")]
    with pytest.raises(UserError, match="too few to compare"):
        wgan.compare(few, data=data)
    some = [wgan.train(data, out=tmp_path / n, holdout=0.02, **TINY) for n in ("some", "others")]
    assert wgan.compare(some, data=data).held == 40
    some[0].run.card["sweep"] = {"trial": 0}  # so all of these have had a part in choosing
    with pytest.raises(UserError, match="too few to compare"):
        wgan.compare(some, data=data)


def test_what_was_chosen_is_compared_on_other_data(tmp_path: Path, data: Any) -> None:
    chosen = [
        wgan.train(
            data, out=tmp_path / name, holdout=0.3, audit_every=2, stop_when="audit.excess > -9",
            **{**TINY, "steps": 4},
        )
        for name in ("one", "two")
    ]  # fmt: skip
    assert chosen[0].step == 2  # stopped by its first audit
    assert chosen[0].run.card["stopped_by"].startswith("audit.excess is ")
    found = wgan.compare(chosen, data=data)
    assert found.held == 200  # a third of what is held out
    names = [str(run.run.path) for run in chosen]
    assert found.said.endswith(f"no part in choosing {names[0]}, {names[1]} or their steps.")
    for run in chosen:  # as a trial of a sweep, which was chosen without a rule of its own
        run.run.card.pop("stopped_by")
        run.run.card["sweep"] = {"trial": 3}
    assert wgan.compare(chosen, data=data).held == 200
    best = [wgan.load(run.run.path, checkpoint="best") for run in chosen]
    assert [run.step for run in best] == [2, 2]
    for run in best:  # by whose audits the step was chosen, whatever else was
        run.run.card.pop("stopped_by")
    assert wgan.compare(best, data=data).held == 200
    with pytest.raises(UserError, match="has no checkpoint 3; it has latest, best and the steps"):
        wgan.load(chosen[0].run.path, checkpoint=3)
