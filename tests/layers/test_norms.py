from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from wgan.errors import UserError
from wgan.layers import PixelNorm
from wgan.layers.norms import SharedBatchNorm, share_batch_norm


def test_every_position_has_unit_mean_square() -> None:
    out = PixelNorm()(torch.randn(2, 5, 3, 3) * 10)
    torch.testing.assert_close(out.square().mean(1), torch.ones(2, 3, 3))


def test_by_hand() -> None:
    out = PixelNorm(1.0)(torch.tensor([[1.0, 7.0]]))
    torch.testing.assert_close(out, torch.tensor([[1.0, 7.0]]) / 26**0.5)


def test_refuses_no_epsilon() -> None:
    with pytest.raises(UserError, match="`epsilon`"):
        PixelNorm(0.0)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(3), (6, 3)),
        (nn.BatchNorm2d(3, momentum=None), (4, 3, 2, 2)),
        (nn.BatchNorm3d(3, affine=False), (4, 3, 2, 1, 2)),
        (nn.BatchNorm2d(3, track_running_stats=False), (4, 3, 2, 2)),
    ],
)
def test_a_shared_batch_norm_alone_is_torch_s_own(layer: nn.Module, shape: tuple[int, ...]) -> None:
    one, shared = nn.Sequential(layer), share_batch_norm(nn.Sequential(deepcopy(layer)))
    assert isinstance(shared.get_submodule("0"), SharedBatchNorm)
    assert shared.state_dict().keys() == one.state_dict().keys()
    for _ in range(2):
        values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        assert torch.equal(shared(values), one(values))
    assert torch.equal(shared.eval()(values), one.eval()(values))
    for name, tensor in one.state_dict().items():
        assert torch.equal(shared.state_dict()[name], tensor)


def test_a_shared_batch_norm_keeps_the_weights_that_an_optimizer_may_have() -> None:
    layer = nn.BatchNorm1d(2)
    shared = share_batch_norm(layer)
    assert shared is not layer
    assert next(iter(shared.parameters())) is layer.weight
