"""Drift and consistency: penalties on the scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wgan.constraints import Consistency, Drift
from wgan.errors import UserError
from wgan.layers import Dropout, bind_rng
from wgan.types import Critic, Draw, Scores


def test_drift_is_the_mean_square_of_the_real_scores() -> None:
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[9.0], [9.0]])
    loss = Drift(0.1).penalty(lambda v: Scores(v.squeeze(1)), real, fake, Draw(), 1)
    assert loss is not None
    assert float(loss.value) == pytest.approx(0.1 * (1 + 9) / 2)


def two_passes(*scores: Scores) -> Critic:
    passes = iter(scores)
    return lambda values: next(passes)


def value(constraint: Consistency, critic: Critic) -> float:
    batch = torch.zeros(2, 1)
    loss = constraint.penalty(critic, batch, batch, Draw(), 1)
    assert loss is not None
    return float(loss.value)


def test_consistency_by_hand() -> None:
    first = Scores(torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    second = Scores(torch.tensor([1.0, 5.0]), torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
    # Scores apart by 0 and 9, features by mean squares 2 and 0.
    assert value(Consistency(), two_passes(first, second)) == pytest.approx((2 * 0.2 + 2 * 9) / 2)
    assert value(Consistency(margin=1.0), two_passes(first, second)) == pytest.approx((0 + 17) / 2)
    scores = (Scores(first.score), Scores(second.score))
    assert value(Consistency(feature_weight=0.0), two_passes(*scores)) == pytest.approx(9)
    with pytest.raises(UserError, match="gives none"):
        value(Consistency(), two_passes(*scores))


def test_consistency_with_dropout_moves_the_weights() -> None:
    body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), Dropout(0.5))
    score = nn.Linear(8, 1)
    bind_rng(body, torch.Generator().manual_seed(0))

    def critic(values: Tensor) -> Scores:
        features = body(values)
        return Scores(score(features).squeeze(1), features)

    Consistency().prepare(body)
    loss = Consistency().penalty(critic, torch.randn(4, 3), torch.zeros(4, 3), Draw(), 1)
    assert loss is not None
    (gradient,) = torch.autograd.grad(loss.value, body.get_parameter("0.weight"))
    assert float(gradient.abs().sum()) > 0
    body.eval()
    loss = Consistency().penalty(critic, torch.randn(4, 3), torch.zeros(4, 3), Draw(), 1)
    assert loss is not None
    assert loss.value.item() == 0


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Dropout(0.5), Dropout(0.0)])
def test_consistency_refuses_a_critic_without_seeded_dropout(layer: nn.Module) -> None:
    with pytest.raises(UserError, match=r"no `wgan.layers.Dropout`"):
        Consistency().prepare(nn.Sequential(nn.Linear(2, 1), layer))


def test_refused_fields() -> None:
    with pytest.raises(UserError, match="consistency: `margin` must be >= 0"):
        Consistency(margin=-0.1)
    with pytest.raises(UserError, match="drift: `weight` must be >= 0"):
        Drift(-1.0)
