"""What `auto` takes for pictures without a GPU, and that it leaves other data alone."""

from typing import Any

import numpy as np
import pytest

from wgan.config import Config, resolve
from wgan.data import open_source


def config(side: int, channels: int = 1, **given: Any) -> Config:
    rng = np.random.default_rng(0)
    shape = (80, side, side) if channels == 1 else (80, side, side, channels)
    source = open_source(rng.integers(0, 256, shape, dtype=np.uint8))
    return resolve({"device": "cpu", **given}, source, "pictures")[0]


def test_small_pictures_learn_fast_and_come_to_rest() -> None:
    hyper = config(28).hyper
    assert (hyper.n_critic, hyper.schedule, hyper.width) == (1, "linear", 32)
    assert hyper.generator_lr == hyper.critic_lr == 4e-3
    assert hyper == config(32, 3).hyper
    given = config(28, lr=1e-4, schedule="constant", n_critic=3).hyper
    assert (given.critic_lr, given.schedule, given.n_critic) == (1e-4, "constant", 3)


def test_large_pictures_and_other_critics_are_moved_more_carefully() -> None:
    for hyper in (config(64, 3).hyper, config(28, recipe="wgan-sn").hyper):
        assert (hyper.n_critic, hyper.critic_lr, hyper.schedule) == (2, 5e-4, "linear")
    assert config(28, recipe="wgan").hyper.critic_lr == 5e-5  # clipped critics as published
    assert config(28, recipe="r3gan").hyper.schedule == "cosine"  # it has its own


@pytest.mark.parametrize("side", [8, 28])
def test_published_settings_and_rows_keep_their_rates(side: int) -> None:
    published = config(side, settings="published")
    assert published.hyper.schedule == "constant"
    assert published.hyper.critic_lr == 1e-4
    assert published.precision == "fp32"
    assert config(8).hyper.schedule == "constant"  # no convolutions
    assert config(8).hyper.critic_lr == 1e-3
