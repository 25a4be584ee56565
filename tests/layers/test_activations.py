from __future__ import annotations

import pytest
import torch

from wgan.errors import UserError
from wgan.layers import GroupSort


def test_maxmin_sorts_pairs_of_opposite_halves() -> None:
    values = torch.tensor([[3.0, 1.0, 2.0, 4.0]])
    assert GroupSort()(values).tolist() == [[2.0, 1.0, 3.0, 4.0]]


def test_full_sort_is_sorting() -> None:
    values = torch.randn(5, 7)
    assert torch.equal(GroupSort(None)(values), values.sort(1).values)


def test_groups_of_three_and_what_is_left_over() -> None:
    values = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 9.0, 8.0]])
    # Groups (6, 4, 2) and (5, 3, 1), then (9, 8) by itself.
    assert GroupSort(3)(values).tolist() == [[2.0, 1.0, 4.0, 3.0, 6.0, 5.0, 8.0, 9.0]]


@pytest.mark.parametrize("size", [2, 3, None])
@pytest.mark.parametrize("shape", [(4, 6), (4, 7), (2, 5, 3), (2, 4, 3, 3), (3, 1)])
def test_permutes_the_channels_of_each_position(size: int | None, shape: tuple[int, ...]) -> None:
    values = torch.randn(shape)
    out = GroupSort(size)(values)
    assert torch.equal(out.sort(1).values, values.sort(1).values)


def test_a_share_is_sorted_and_the_rest_passes() -> None:
    values = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]])
    assert GroupSort(None, share=0.5)(values).tolist() == [[2.0, 3.0, 4.0, 1.0, 0.0]]
    assert GroupSort(2, share=0.8)(values).tolist() == [[2.0, 1.0, 4.0, 3.0, 0.0]]


def test_axis_of_the_channels() -> None:
    values = torch.randn(2, 3, 4)
    moved = GroupSort(2, axis=1)(values.movedim(-1, 1)).movedim(1, -1)
    assert torch.equal(GroupSort(2, axis=-1)(values), moved)


def test_keeps_the_norm_of_a_gradient() -> None:
    values = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((GroupSort()(values) @ weight).sum(), values)
    torch.testing.assert_close(gradient.norm(dim=1), weight.norm().expand(3))


@pytest.mark.parametrize("size", [2, 4, None])
def test_gradcheck(size: int | None) -> None:
    values = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(GroupSort(size), values)
    assert torch.autograd.gradgradcheck(GroupSort(size), values)


def test_a_group_has_at_least_two() -> None:
    with pytest.raises(UserError, match="`size` must be >= 2"):
        GroupSort(1)


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_lies_above_zero_and_up_to_one(share: float) -> None:
    with pytest.raises(UserError, match=r"`share` must be in \(0, 1\]"):
        GroupSort(share=share)
