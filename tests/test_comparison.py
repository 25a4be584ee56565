"""Comparisons of runs: what is told apart, what is not, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wgan
from wgan.comparison import Comparison
from wgan.errors import UserError

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
    assert wgan.compare(chosen, data=data).held == 200  # a third of what is held out
    best = [wgan.load(run.run.path, checkpoint="best") for run in chosen]
    assert [run.step for run in best] == [2, 2]
    with pytest.raises(UserError, match="has no checkpoint 3; it has latest, best and the steps"):
        wgan.load(chosen[0].run.path, checkpoint=3)
