"""Optimistic Adam against closed forms, and schedules against their end points."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from wgan.errors import UserError
from wgan.training import OptimisticAdam, OptimizerSpec

RATE = 0.3


def ratio(make: Callable[[list[Tensor]], torch.optim.Optimizer]) -> float:
    """By what min_x max_y x y grows or shrinks |(x, y)| a step, both players moving at once."""
    x, y = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (1.0, 0.5))
    optimizer = make([x, y])
    radii = []
    for _ in range(60):
        x.grad, y.grad = y.detach().clone(), -x.detach().clone()
        optimizer.step()
        radii.append(math.hypot(x.item(), y.item()))
    return radii[-1] / radii[-2]


def test_optimism_converges_where_gradient_steps_spiral_outwards() -> None:
    """Eigenvalues: |1 + i r|^2 = 1 + r^2 for gradient steps; for optimistic ones l^2 = l (1 - 2ir)
    + ir, the larger of which has |l|^2 = (1 + sqrt(1 - 4 r^2)) / 2."""
    assert ratio(lambda p: torch.optim.SGD(p, RATE)) ** 2 == pytest.approx(1 + RATE**2)
    huge = 1e9  # an epsilon that turns Adam into plain gradient steps
    optimistic = ratio(lambda p: OptimisticAdam(p, RATE * huge, (0.0, 0.0), eps=huge))
    assert optimistic**2 == pytest.approx((1 + math.sqrt(1 - 4 * RATE**2)) / 2)
    assert optimistic < 1


def test_optimistic_adam_is_twice_the_update_minus_the_last() -> None:
    """Under a constant gradient Adam's update is -lr sign(g): -2 lr first, then -lr a step."""
    moved, still = (torch.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = OptimizerSpec("optimistic-adam", 0.01).build([moved, still])
    places = []
    for _ in range(3):
        moved.grad = torch.tensor([5.0])
        optimizer.step()
        places.append(moved.item())
    assert places == pytest.approx([-0.02, -0.03, -0.04])
    assert still.item() == 0.0


SPEC = OptimizerSpec("adam", 2.0, 0.5, 0.9)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_start_meet_in_the_middle_and_end(schedule: str) -> None:
    spec = replace(SPEC, schedule=schedule)
    assert [spec.at(t)["lr"] for t in (0.0, 0.5, 1.0)] == pytest.approx([2, 1, 0])
    assert "betas" not in spec.at(0.0)
    share = replace(spec, final_lr_share=0.25, final_beta2=0.99)
    assert [share.at(t)["lr"] for t in (0.0, 0.5, 1.0)] == pytest.approx([2, 1.25, 0.5])
    betas = [share.at(t)["betas"] for t in (0.0, 0.5, 1.0)]
    assert [b for _, b in betas] == pytest.approx([0.9, 0.945, 0.99])
    assert {b for b, _ in betas} == {0.5}


def test_a_quarter_of_the_way_tells_the_schedules_apart() -> None:
    linear, cosine = (replace(SPEC, schedule=name) for name in ("linear", "cosine"))
    assert linear.at(0.25)["lr"] == pytest.approx(2 * 0.75)
    assert cosine.at(0.25)["lr"] == pytest.approx(1 + math.sqrt(0.5))
    assert SPEC.at(0.25) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "`lr` must be > 0"),
        ({"beta1": 1.0}, r"`beta1` must be in \[0, 1\), got 1.0"),
        ({"final_beta2": 1.5}, r"`final_beta2` must be in \[0, 1\), got 1.5"),
        ({"final_lr_share": 1.1}, r"`final_lr_share` must be in \[0, 1\], got 1.1"),
        ({"name": "optimistic"}, "Did you mean 'optimistic-adam'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ],
)
def test_ranges(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(SPEC, **change)
