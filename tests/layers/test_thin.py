"""A transposed convolution to few channels as a product: torch's own numbers."""

from typing import Any

import pytest
import torch
from torch import nn

from wgan.layers import thin
from wgan.layers.thin import ThinConvTranspose2d, is_thin, spread


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("taps", "stride", "padding", "size"), [(4, 2, 1, (5, 7)), (3, 1, 0, (4, 4)), (5, 3, 2, (6, 3))]
)
def test_spread_is_a_transposed_convolution(
    channels: int, taps: int, stride: int, padding: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(6, channels, taps, stride, padding, bias=False)
    values = torch.randn(3, 6, *size).to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = layer(values)
        at = (stride, stride), (padding, padding)
        found = spread(values, layer.weight, tuple(expected.shape[2:]), *at)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("half", [False, True])
def test_the_layer_is_its_parent(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, parent = ThinConvTranspose2d(8, 3, 4, 2, 1), nn.ConvTranspose2d(8, 3, 4, 2, 1)
    parent.load_state_dict(layer.state_dict())
    values = torch.randn(2, 8, 5, 6)
    seen = []

    def watched(*arguments: Any) -> torch.Tensor:
        seen.append(arguments)
        return spread(*arguments)

    monkeypatch.setattr(thin, "spread", watched)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        found, expected = layer(values), parent(values)
    assert len(seen) == 1
    assert found.dtype == expected.dtype
    tolerance = 2e-2 if half else 1e-6
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    layer(values).sum().backward()  # in a graph it is its parent altogether
    assert len(seen) == 1
    assert layer.weight.grad is not None


def test_many_channels_are_left_to_convolutions() -> None:
    values = torch.zeros(1, 8, 4, 4)
    assert is_thin(torch.zeros(8, 3, 4, 4), values)
    assert not is_thin(torch.zeros(8, 4, 4, 4), values)
    assert not is_thin(torch.zeros(8, 1, 4), torch.zeros(1, 8, 4))
