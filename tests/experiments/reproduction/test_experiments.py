"""Small versions of the experiments: what they claim, and that the statistic can fail."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wgan.experiments.reproduction import discontinuity, parallel_lines, sliding_gaussians
from wgan.experiments.reproduction.base import Budget, Claim, Outcome

SMALL: dict[str, tuple[Any, Any]] = {
    "parallel-lines": (
        parallel_lines,
        parallel_lines.Settings(steps=15, lr=0.08, ahead=100, n_critic=5, places=5, seeds=1),
    ),
    "sliding-gaussians": (sliding_gaussians, sliding_gaussians.Settings(places=11)),
    "discontinuity": (
        discontinuity,
        discontinuity.Settings(atoms=40, places=21, slopes=10, seeds=1),
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_version_meets_its_claims(name: str) -> None:
    module, settings = SMALL[name]
    run: Callable[..., Outcome] = module.run
    outcome = run(Budget(seed=3), settings)
    claims: tuple[Claim, ...] = module.EXPERIMENT.claims
    assert set(outcome.statistics) == {claim.name for claim in claims}
    missed = [
        (claim.name, outcome.statistics[claim.name])
        for claim in claims
        if not all(map(claim.met, outcome.statistics[claim.name]))
    ]
    assert not missed


def test_divergences_of_known_laws() -> None:
    same, half = np.array([0.5, 0.5, 0]), np.array([0, 0.5, 0.5])
    assert parallel_lines.divergences(same, same) == {"js": 0, "kl": 0, "tv": 0}
    found = parallel_lines.divergences(same, half)
    assert found["js"] == pytest.approx(math.log(2) / 2)
    assert (found["kl"], found["tv"]) == (math.inf, 0.5)


def test_js_of_gaussians_slid_by_little_is_an_eighth_of_the_square() -> None:
    x = np.linspace(-8, 9, 2001)
    assert sliding_gaussians.js_by_quadrature(0.1, x) == pytest.approx(0.1**2 / 8, rel=0.01)
