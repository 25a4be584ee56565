from __future__ import annotations

import pytest
import torch

from wgan.errors import UserError
from wgan.layers import PixelNorm


def test_every_position_has_unit_mean_square() -> None:
    out = PixelNorm()(torch.randn(2, 5, 3, 3) * 10)
    torch.testing.assert_close(out.square().mean(1), torch.ones(2, 3, 3))


def test_by_hand() -> None:
    out = PixelNorm(1.0)(torch.tensor([[1.0, 7.0]]))
    torch.testing.assert_close(out, torch.tensor([[1.0, 7.0]]) / 26**0.5)


def test_refuses_no_epsilon() -> None:
    with pytest.raises(UserError, match="`epsilon`"):
        PixelNorm(0.0)
