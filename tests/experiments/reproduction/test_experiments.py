"""Small versions of the experiments: what they claim, and that the statistic can fail."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from wgan.experiments.reproduction import (
    clipping_pathologies,
    constraints_compared,
    discontinuity,
    eight_gaussians,
    momentum,
    optimal_critic,
    parallel_lines,
    sliding_gaussians,
)
from wgan.experiments.reproduction.base import Budget, Claim, Outcome
from wgan.training import OptimizerSpec, Player

SMALL: dict[str, tuple[Any, Any]] = {
    "parallel-lines": (
        parallel_lines,
        parallel_lines.Settings(steps=15, lr=0.08, ahead=100, n_critic=5, places=5, seeds=1),
    ),
    "sliding-gaussians": (sliding_gaussians, sliding_gaussians.Settings(places=11)),
    "optimal-critic": (
        optimal_critic,
        optimal_critic.Settings(discriminator_updates=400, critic_updates=800, width=32, seeds=1),
    ),
    "momentum": (
        momentum,
        momentum.Settings(rates=(5e-4, 1e-2), steps=40, width=32, judged=200, seeds=1),
    ),
    "clipping-pathologies": (
        clipping_pathologies,
        clipping_pathologies.Settings(
            deep_width=128, deep_updates=50, surface_updates=250, batch_size=64, judged=300, seeds=1
        ),
    ),
    "discontinuity": (
        discontinuity,
        discontinuity.Settings(atoms=40, places=21, slopes=10, seeds=1),
    ),
}

NOT_HERE = {"momentum": {"adam_turns", "loss_blows_up", "samples_worse"}}
"""Claims that are not met on such data, or in so short a run."""


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
        if claim.name not in NOT_HERE.get(name, ())
        and not all(map(claim.met, outcome.statistics[claim.name]))
    ]
    assert not missed


class Steps:
    """What `watch_cosine` needs of a state: one weight, moved by an optimizer."""

    def __init__(self, optimizer: OptimizerSpec) -> None:
        self.critic = Player.of(torch.nn.Linear(1, 1, bias=False), optimizer)


def test_the_cosine_is_that_of_the_step_and_the_way_down() -> None:
    momentum_sgd = Steps(OptimizerSpec("sgd", 0.1, beta1=0.9))
    found = momentum.watch_cosine(momentum_sgd)  # type: ignore[arg-type]
    (weight,) = momentum_sgd.critic.parameters
    for gradient in (1.0, -0.1, -0.9):  # the third: .9 (.9 - .1) < .9
        weight.grad = torch.full_like(weight, gradient)
        momentum_sgd.critic.optimizer.step()
    assert found == pytest.approx([1, -1, 1])


def test_divergences_of_known_laws() -> None:
    same, half = np.array([0.5, 0.5, 0]), np.array([0, 0.5, 0.5])
    assert parallel_lines.divergences(same, same) == {"js": 0, "kl": 0, "tv": 0}
    found = parallel_lines.divergences(same, half)
    assert found["js"] == pytest.approx(math.log(2) / 2)
    assert (found["kl"], found["tv"]) == (math.inf, 0.5)


def test_js_of_gaussians_slid_by_little_is_an_eighth_of_the_square() -> None:
    x = np.linspace(-8, 9, 2001)
    assert sliding_gaussians.js_by_quadrature(0.1, x) == pytest.approx(0.1**2 / 8, rel=0.01)


def test_eight_gaussians_in_a_few_steps_are_judged_at_every_look() -> None:
    settings = eight_gaussians.Settings(steps=40, looks=4, judged=200, seeds=1)
    course = eight_gaussians.follow("wgan", 3, settings, Budget())
    assert course.steps == (10, 20, 30, 40)
    assert course.w1[-1] < course.w1[0]
    assert (len(course.modes), len(course.moved)) == (4, 3)
    assert course.late((0, 0, 2, 4)) == 3


def test_every_constraint_is_compared_on_the_same_time() -> None:
    settings = constraints_compared.Settings(
        seconds=0.4, looks=4, batch_size=32, width=16, timed=5, judged=100, seeds=1
    )
    outcome = constraints_compared.run(Budget(seed=3), settings)
    assert set(outcome.statistics) == {claim.name for claim in constraints_compared.CLAIMS}
    for name in constraints_compared.CONSTRAINTS:
        (course,) = outcome.notes[name]
        assert course["steps"] > 0
        assert 0 < course["w1"][-1] < math.inf
    assert constraints_compared.Course(1, 1, (9, 9, 1, 3)).swing == 0.5
