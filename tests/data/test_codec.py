from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from wgan.data.codec import Codec, Scale


def pictures(layout: str, shape: tuple[int, ...]) -> Codec:
    return Codec(
        kind="image",
        shape=shape,
        layout=layout,  # type: ignore[arg-type]
        dtype="uint8",
        values=Scale.between(0, 255),
        low=0.0,
        high=255.0,
        bounded=True,
    )


@pytest.mark.parametrize(
    ("layout", "shape", "own_shape"),
    [
        ("channels-first", (3, 4, 6), (3, 4, 6)),
        ("channels-last", (3, 4, 6), (4, 6, 3)),
        ("no-channels", (1, 4, 6), (4, 6)),
    ],
)
def test_every_byte_survives_the_round_trip(
    layout: str, shape: tuple[int, ...], own_shape: tuple[int, ...]
) -> None:
    codec = pictures(layout, shape)
    own = np.random.default_rng(0).integers(0, 256, (40, *own_shape), dtype=np.uint8)
    values = codec.encode(own)
    assert codec.own_shape == own_shape
    assert values.shape == (40, *shape)
    assert values.dtype == torch.float32
    assert values.min() == -1
    assert values.max() == 1
    back = codec.decode(values)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, own)


def test_channels_last_puts_each_channel_where_it_belongs() -> None:
    own = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    own[0, 1, 0, 2] = 255
    values = pictures("channels-last", (3, 2, 2)).encode(own)
    assert values[0, 2, 1, 0] == 1
    assert values.sum() == 1 - 11


def test_what_a_generator_overshoots_is_clipped_and_rounded() -> None:
    codec = pictures("no-channels", (1, 1, 3))
    own = codec.decode(torch.tensor([-1.5, 1.5, 0.001]).reshape(1, 1, 1, 3))
    assert own.tolist() == [[[0, 255, 128]]]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "uint64"])
def test_integers_stay_within_their_type(dtype: str) -> None:
    codec = Codec(kind="rows", shape=(2,), dtype=dtype)
    low, high = codec.decode(torch.tensor([[-1e30, 1e30]]))[0].tolist()
    if dtype == "bool":
        assert (low, high) == (False, True)
    else:
        assert low == np.iinfo(dtype).min
        assert high == pytest.approx(np.iinfo(dtype).max)


def test_a_table_rounds_its_integer_columns_only() -> None:
    codec = Codec(
        kind="rows",
        shape=(3,),
        dtype="float64",
        values=Scale((10.0, 0.0, 0.0), (2.0, 1.0, 1.0)),
        columns=("age", "height", "member"),
        dtypes=("int64", "float64", "bool"),
    )
    own = codec.decode(torch.tensor([[0.3, 0.3, 3.0]]))
    assert own.dtype == np.float64
    np.testing.assert_allclose(own, [[11.0, 0.3, 1.0]], atol=1e-7)


def test_flattened_rows_come_back_in_their_own_shape() -> None:
    own = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    scale = Scale(tuple(range(6)), (1.0,) * 6)
    codec = Codec(kind="rows", shape=(6,), flattened=(2, 3), values=scale)
    assert codec.encode(own).tolist() == [[0] * 6, [6] * 6]
    np.testing.assert_array_equal(codec.decode(codec.encode(own)), own)


def test_a_codec_survives_json() -> None:
    codec = Codec(
        kind="rows",
        shape=(2,),
        values=Scale((1.0, 2.0), (3.0, 1 / 3)),
        flattened=(1, 2),
        columns=("a", "b"),
        dtypes=("int32", "float64"),
        condition=("c",),
        conditions=Scale((0.1,), (0.2,)),
    )
    assert Codec.from_json(json.loads(json.dumps(codec.to_json()))) == codec


def test_a_range_of_one_point_goes_to_zero() -> None:
    scale = Scale.between(7, 7)
    assert scale.encode(np.full(3, 7.0)).tolist() == [0, 0, 0]


def test_the_whole_range_of_float64_does_not_overflow() -> None:
    top = float(np.finfo(np.float64).max)
    assert Scale.between(-top, top).encode(np.array([-top, 0, top])).tolist() == [-1, 0, 1]
