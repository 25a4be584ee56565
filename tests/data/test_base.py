from __future__ import annotations

import numpy as np
import pytest
import torch

from wgan.data import Order, open_source
from wgan.errors import UserError


def test_every_sample_once_per_epoch_in_its_own_order() -> None:
    order = Order(10, seed=3)
    drawn = order.take(0, 30).reshape(3, 10)
    assert drawn.sort().values.tolist() == [list(range(10))] * 3
    assert drawn[0].tolist() != drawn[1].tolist()


def test_the_order_depends_on_the_place_and_not_on_the_way_there() -> None:
    whole = Order(7, seed=1).take(0, 40)
    order = Order(7, seed=1)
    for start, count in [(31, 9), (0, 5), (5, 20), (25, 6)]:
        assert torch.equal(order.take(start, count), whole[start : start + count])


def test_an_unlimited_source_is_counted_through() -> None:
    assert Order(None, seed=0).take(5, 3).tolist() == [5, 6, 7]


def test_a_split_is_disjoint_complete_and_seeded() -> None:
    source = open_source(np.arange(20.0)[:, None])
    train, held = source.split(0.25, seed=0)
    assert (train.size, held.size) == (15, 5)
    values = [part.batch(torch.arange(part.size or 0)).values for part in (train, held)]
    together = torch.cat(values).flatten().sort().values
    torch.testing.assert_close(together, source.batch(torch.arange(20)).values.flatten())
    again = source.split(0.25, seed=0)[1].batch(torch.arange(5)).values
    other = source.split(0.25, seed=1)[1].batch(torch.arange(5)).values
    assert torch.equal(again, values[1])
    assert not torch.equal(other, values[1])


def test_nothing_held_out_is_allowed_and_everything_is_not() -> None:
    source = open_source(np.arange(4.0))
    train, held = source.split(0.0, seed=0)
    assert (train.size, held.size) == (4, 0)
    with pytest.raises(UserError, match=r"`holdout` must be in \[0, 1\), got 1"):
        source.split(1.0, seed=0)
