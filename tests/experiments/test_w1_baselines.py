"""Published estimators: each learns, and each is what its name says."""

import numpy as np
import pytest
import torch

from wgan.bounds import Budget
from wgan.errors import UserError
from wgan.experiments import w1_baselines
from wgan.experiments.w1_baselines import STEPS, fit_baseline
from wgan.experiments.w1_pairs import translation


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w1_baselines, "_BATCH", 64)
    monkeypatch.setattr(w1_baselines, "_POINTS", 400)


@pytest.mark.parametrize("name", [name for name in STEPS if name != "discrete"])
def test_a_critic_learns_the_direction_of_a_translation(name: str) -> None:
    pair = translation(2)
    found = fit_baseline(name, pair.draw, 2, Budget(steps=400), seed=0)
    assert found.steps == 400
    x, y = (part.numpy() for part in pair.draw(torch.Generator().manual_seed(5), 2_000))
    assert found.scores is not None
    assert found.scores(x).mean() > found.scores(y).mean()
    slope = found.gradient(x)
    assert slope.shape == (2_000, 2)
    cos = (slope @ [0.6, 0.8]) / np.linalg.norm(slope, axis=1)
    assert cos.mean() > (0.2 if name == "mm-r" else 0.6)


@pytest.mark.parametrize(("name", "most"), [("clipping", 0.6), ("sn", 1.01), ("sorting", 1.001)])
def test_constrained_critics_keep_their_slope(name: str, most: float) -> None:
    pair = translation(2)
    found = fit_baseline(name, pair.draw, 2, Budget(steps=300), seed=0)
    x, _ = pair.draw(torch.Generator().manual_seed(5), 500)
    assert 0 < np.linalg.norm(found.gradient(x.numpy()), axis=1).max() <= most


def test_the_discrete_plan_reports_its_own_cost() -> None:
    pair = translation(2)
    found = fit_baseline("discrete", pair.draw, 2, Budget(seconds=1.0), seed=0)
    assert found.value == pytest.approx(1.0, abs=0.3)
    assert found.points is not None
    step = found.gradient(found.points)
    assert step.shape == found.points.shape
    assert (step @ [0.6, 0.8]).mean() > 0.8


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(UserError, match="clipping"):
        fit_baseline("wgan", translation(2).draw, 2, Budget(steps=1), seed=0)
