from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from wgan.errors import UserError
from wgan.layers import Dropout, bind_rng


def test_masks_come_from_the_bound_generator_and_from_nothing_else() -> None:
    layer = nn.Sequential(nn.Identity(), Dropout(0.5))
    values = torch.ones(100, 10)
    bind_rng(layer, torch.Generator().manual_seed(1))
    before = torch.random.get_rng_state()
    first, second = layer(values), layer(values)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(first, second)
    bind_rng(layer, torch.Generator().manual_seed(1))
    assert torch.equal(layer(values), first)
    assert set(first.unique().tolist()) == {0.0, 2.0}


def test_keeps_the_mean_and_drops_the_share() -> None:
    layer = Dropout(0.2)
    bind_rng(layer, torch.Generator().manual_seed(0))
    out = layer(torch.ones(100_000))
    assert float((out == 0).float().mean()) == pytest.approx(0.2, abs=0.005)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)


def test_identity_in_eval_and_at_zero() -> None:
    values = torch.randn(3, 4)
    assert Dropout(0.9).eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_a_deep_copy_does_not_use_up_the_masks_of_the_original() -> None:
    layer = Dropout(0.5)
    rng = torch.Generator().manual_seed(3)
    bind_rng(layer, rng)
    state = rng.get_state()
    deepcopy(layer)(torch.ones(10))
    assert torch.equal(rng.get_state(), state)


def test_refuses_an_unbound_pass_and_a_share_of_one() -> None:
    with pytest.raises(UserError, match="bind_rng"):
        Dropout()(torch.ones(2))
    with pytest.raises(UserError, match=r"`p` must be in \[0, 1\), got 1"):
        Dropout(1.0)
