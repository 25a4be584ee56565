"""Constraints that act on the weights themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from wgan.constraints import (
    OrthogonalRegularisation,
    SpectralNormalisation,
    WeightClipping,
)
from wgan.errors import UserError


def test_clipping_boxes_every_parameter_and_batch_norms_too() -> None:
    critic = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    constraint = WeightClipping(0.05)
    constraint.project(constraint.prepare(critic))
    assert max(p.abs().max().item() for p in critic.parameters()) <= 0.05 + 1e-9
    gain = critic.get_parameter("1.weight")
    assert torch.equal(gain.detach(), torch.full((4,), 0.05))


def test_clip_share_by_hand() -> None:
    critic = nn.Linear(3, 1)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[1.0, -0.5, 0.1]]))
        critic.bias.fill_(-7)
    constraint = WeightClipping(0.5)
    constraint.project(critic)
    assert critic.weight.tolist() == [[0.5, -0.5, pytest.approx(0.1)]]
    assert float(constraint.measure(critic)["clip_share"]) == 0.75


def test_clipping_one_part() -> None:
    critic = nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})
    for p in critic.parameters():
        nn.init.ones_(p)
    constraint = WeightClipping(0.1, part="encoder")
    constraint.project(constraint.prepare(critic))
    largest = {name: max(p.max().item() for p in m.parameters()) for name, m in critic.items()}
    assert largest == {"encoder": pytest.approx(0.1), "decoder": 1}
    with pytest.raises(UserError, match="Did you mean 'encoder'"):
        WeightClipping(part="encodr").prepare(critic)


def test_clipping_needs_a_box() -> None:
    with pytest.raises(UserError, match="weight-clipping: `bound` must be > 0, got 0"):
        WeightClipping(0.0)


def test_spectral_normalisation_reaches_every_layer() -> None:
    critic = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 1))
    prepared = SpectralNormalisation().prepare(critic)
    assert [n for n, m in prepared.named_modules() if parametrize.is_parametrized(m)] == ["0", "2"]
    for _ in range(100):
        prepared(torch.randn(2, 1, 4, 4))
    for layer in (prepared[0], prepared[2]):  # type: ignore[index]
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert float(norm) == pytest.approx(1, abs=1e-3)
    with pytest.raises(UserError, match="`mode` must be one of 'reshaped', 'operator'"):
        SpectralNormalisation("exact")  # type: ignore[arg-type]


def test_orthogonal_regularisation_by_hand() -> None:
    critic = nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2), nn.ConvTranspose1d(1, 2, 2))
    with torch.no_grad():
        critic.get_parameter("0.weight").copy_(torch.tensor([[1.0, 2.0], [3.0, -1.0]]))
        critic.get_parameter("2.weight").copy_(torch.tensor([[[1.0, 0.0], [2.0, 5.0]]]))
    loss = OrthogonalRegularisation(0.5).weight_penalty(critic, 1)
    assert loss is not None
    # Rows' inner products 1 * 3 - 2 * 1 = 1 and 1 * 2 + 0 * 5 = 2, each twice off the diagonal.
    assert loss.value.item() == pytest.approx(0.5 * (2 * 1 + 2 * 4))
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    layer = nn.Linear(4, 3).double()

    def penalty(value: torch.Tensor) -> torch.Tensor:
        del layer.weight
        layer.weight = value
        found = OrthogonalRegularisation().weight_penalty(layer, 1)
        assert found is not None
        return found.value

    assert torch.autograd.gradcheck(penalty, weight)


def test_orthogonal_filters_cost_nothing() -> None:
    layer = nn.Conv2d(2, 6, 2)
    nn.init.orthogonal_(layer.weight)
    loss = OrthogonalRegularisation(1.0).weight_penalty(layer, 1)
    assert loss is not None
    assert loss.value.item() == pytest.approx(0, abs=1e-9)
    assert OrthogonalRegularisation().weight_penalty(nn.ReLU(), 1) is None
