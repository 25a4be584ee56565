from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wgan.data import DataOptions, open_source
from wgan.data.conditions import condition_on
from wgan.errors import UserError


def test_one_array_has_no_conditions(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((40, 3)))
    with pytest.raises(UserError, match="is one array, without conditions: put it and them into"):
        open_source(tmp_path / "a.npy", DataOptions(condition=("b",)))


def test_conditions_are_standardised_and_stay_with_their_samples() -> None:
    own = np.arange(10.0)
    source = open_source(own[:, None], condition=100 + own)
    train, held = source.split(0.3, seed=0)
    for part in (source, train, held):
        batch = part.batch(torch.arange(part.size or 0))
        assert batch.condition is not None
        assert batch.condition.shape == (part.size, 1)
        torch.testing.assert_close(batch.condition, batch.values)
    assert source.codec.condition == ("condition",)
    given = source.codec.encode_condition(np.array([[104.5]]))
    assert given.tolist() == [[0.0]]
    assert source.describe()["condition"] == {"condition": [100.0, 109.0]}


def test_several_numbers_per_sample_are_several_conditions() -> None:
    source = open_source(np.zeros((4, 2)), condition=torch.arange(8).reshape(4, 2))
    assert source.codec.condition == ("condition_0", "condition_1")
    condition = source.batch(torch.arange(4)).condition
    assert condition is not None
    assert condition.shape == (4, 2)


def test_a_constant_condition_is_harmless() -> None:
    condition = open_source(np.zeros((4, 2)), condition=np.full(4, 0.1)).batch(torch.arange(4))[1]
    assert condition is not None
    assert condition.tolist() == [[0.0]] * 4


def test_conditions_change_the_fingerprint() -> None:
    data = np.zeros((4, 2))
    prints = {
        open_source(data).fingerprint,
        open_source(data, condition=np.arange(4)).fingerprint,
        open_source(data, condition=np.arange(4)[::-1]).fingerprint,
    }
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (np.arange(3), r"must be numbers of shape \[4\] .* got int64 \[3\]"),
        (np.array(["a", "b", "c", "d"]), "must be numbers"),
        (np.zeros((4, 1, 1)), "must be numbers of shape"),
        (np.array([0, np.nan, np.inf, 1]), "NaN or infinite for 2 samples"),
    ],
)
def test_bad_conditions_are_refused(condition: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(np.zeros((4, 2)), condition=condition)


def test_a_signalling_nan_is_refused_like_any() -> None:
    signalling = np.array([0x7FA00000, 0], dtype=np.uint32).view(np.float32)
    source = open_source(np.zeros((2, 3), dtype=np.float32))
    with pytest.raises(UserError, match="is NaN or infinite for 1 samples"):
        condition_on(source, {"c": signalling})


def test_synthetic_sources_take_none() -> None:
    with pytest.raises(UserError, match="unlimited"):
        open_source("gaussians8", condition=np.zeros(4))


def test_a_condition_by_name_and_by_array_is_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((4, 2)), c=np.arange(4))
    with pytest.raises(UserError, match="given twice"):
        open_source(path, DataOptions(condition=("c",)), condition=np.arange(4))
