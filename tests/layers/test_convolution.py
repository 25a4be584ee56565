from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wgan.errors import UserError
from wgan.layers import convolution as conv

Explicit = Callable[[nn.Module, tuple[int, ...]], Tensor]

LAYERS = [
    (nn.Conv1d(2, 3, 5, padding=2), (2, 24)),
    (nn.Conv1d(2, 3, 4, stride=3, dilation=2), (2, 40)),
    (nn.Conv2d(2, 3, 3, padding=1), (2, 14, 14)),
    (nn.Conv2d(2, 4, 4, stride=2, padding=1), (2, 16, 16)),
    (nn.Conv2d(3, 2, 3, stride=(2, 1), padding=1), (3, 15, 12)),
    (nn.Conv2d(4, 6, 3, stride=2, groups=2), (4, 15, 15)),
    (nn.Conv3d(1, 2, 2, stride=2), (1, 4, 4, 4)),
    (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (3, 7, 7)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (4, 20)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_bound_against_the_explicit_matrix(
    layer: nn.Module, shape: tuple[int, ...], explicit: Explicit
) -> None:
    norm = float(torch.linalg.matrix_norm(explicit(layer, shape), 2))
    assert isinstance(layer, (*conv.CONVOLUTIONS, *conv.TRANSPOSED))
    bounds = [
        conv.operator_norm_bound(layer.weight, layer.stride, layer.dilation, layer.groups, n)
        for n in (8, 64)
    ]
    assert norm <= bounds[1] * (1 + 1e-9) <= bounds[0] * (1 + 2e-9)
    assert bounds[0] <= 1.2 * norm


def test_bound_is_the_norm_on_a_torus_without_overlap() -> None:
    weight = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    expected = float(torch.linalg.matrix_norm(weight.flatten(1), 2))
    assert conv.operator_norm_bound(weight, (2, 2), (1, 1)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("stride", "dilation"), [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((2, 1), (3, 2))]
)
def test_polyphase_is_the_same_convolution(
    stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    kernel = torch.randn(4, 3, 3, 4, dtype=torch.float64)
    values = torch.randn(1, 3, 24, 24, dtype=torch.float64)
    expected = F.conv2d(values, kernel, stride=stride, dilation=dilation)
    phases = conv.polyphase(kernel, stride, dilation)
    s, t = stride
    blocks = values.reshape(1, 3, 24 // s, s, 24 // t, t).permute(0, 1, 3, 5, 2, 4)
    actual = F.conv2d(blocks.reshape(1, 3 * s * t, 24 // s, 24 // t), phases)
    rows, columns = (min(a, b) for a, b in zip(actual.shape[2:], expected.shape[2:], strict=True))
    assert min(rows, columns) > 1
    torch.testing.assert_close(actual[..., :rows, :columns], expected[..., :rows, :columns])


@pytest.mark.parametrize(
    ("taps", "groups"),
    [((), 1), ((3,), 1), ((3,), 2), ((2, 3), 1), ((2, 3), 2), ((2, 1, 2), 2)],
)
def test_adjoint(taps: tuple[int, ...], groups: int) -> None:
    kernel = torch.randn(6, 4 // groups, *taps, dtype=torch.float64)
    grid = (4,) * len(taps)
    v = torch.randn(1, 4, *grid, dtype=torch.float64)
    u = torch.randn(1, 6, *grid, dtype=torch.float64)
    left = (u * conv.circular(kernel, v, groups)).sum()
    right = (v * conv.circular_adjoint(kernel, u, groups)).sum()
    torch.testing.assert_close(left, right)


def test_padding_that_repeats_samples_is_refused() -> None:
    conv.require_zero_padding(nn.Conv2d(1, 1, 3, padding=1), "it")
    conv.require_zero_padding(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), "it")
    conv.require_zero_padding(nn.Conv1d(1, 1, 4, padding="same", padding_mode="circular"), "it")
    for layer in (
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 1, 3, padding=2, padding_mode="circular"),
        nn.Conv2d(1, 1, 3, stride=2, padding=1, padding_mode="circular"),
    ):
        with pytest.raises(UserError, match="repeats samples"):
            conv.require_zero_padding(layer, "it")


def test_too_few_frequencies_are_refused() -> None:
    with pytest.raises(UserError, match="`oversampling`"):
        conv.operator_norm_bound(torch.ones(1, 1, 3), (1,), (1,), oversampling=2)
