from __future__ import annotations

import numpy as np
import pytest
import torch

from wgan.data import DataOptions, arrays, open_source
from wgan.errors import UserError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("own", "layout", "kind", "shape", "where"),
    [
        ((), None, "rows", (1,), "no-channels"),
        ((5,), None, "rows", (5,), "channels-first"),
        ((6, 7), None, "image", (1, 6, 7), "no-channels"),
        ((3, 6, 7), None, "image", (3, 6, 7), "channels-first"),
        ((6, 7, 3), None, "image", (3, 6, 7), "channels-last"),
        ((6, 7, 1), None, "image", (1, 6, 7), "channels-last"),
        ((6, 7, 8), None, "volume", (1, 6, 7, 8), "no-channels"),
        ((4, 6, 60), "volumes", "volume", (1, 4, 6, 60), "no-channels"),
        ((2, 6, 7, 8), None, "volume", (2, 6, 7, 8), "channels-first"),
        ((6, 7, 8, 3), None, "volume", (3, 6, 7, 8), "channels-last"),
        ((6, 7, 8, 2), "volumes-last", "volume", (2, 6, 7, 8), "channels-last"),
        ((6, 7, 5), "images-last", "image", (5, 6, 7), "channels-last"),
        ((6, 7, 5), "images", "image", (6, 7, 5), "channels-first"),
        ((6, 7), "rows", "rows", (42,), "channels-first"),
        ((2, 2, 2, 2, 2), "rows", "rows", (32,), "channels-first"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64", "bool"])
def test_every_layout_goes_there_and_back(
    own: tuple[int, ...],
    layout: str | None,
    kind: str,
    shape: tuple[int, ...],
    where: str,
    dtype: str,
) -> None:
    data = (RNG.random((9, *own)) * 200).astype(dtype)
    source = open_source(data, DataOptions(layout=layout))
    assert (source.codec.kind, source.shape, source.codec.layout) == (kind, shape, where)
    assert source.codec.own_shape == own
    indices = torch.tensor([4, 0, 8, 4])
    values = source.batch(indices).values
    assert values.shape == (4, *shape)
    assert values.dtype == torch.float32
    back = source.codec.decode(values)
    assert back.dtype == data.dtype
    assert back.shape == (4, *own)
    np.testing.assert_allclose(back, data[indices.numpy()], rtol=1e-5, atol=1e-4)


def test_channels_that_may_stand_first_or_last_are_asked_about() -> None:
    data = np.zeros((5, 3, 8, 3), dtype=np.uint8)
    with pytest.raises(UserError, match=r"first or last; insist on a layout"):
        open_source(data)
    assert open_source(data, DataOptions(layout="images-last")).shape == (3, 3, 8)


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ((5, 4), "images", r"layout `images` means .*; the array has shape \(5, 4\)"),
        ((5, 4, 4), "images-last", r"means \[n, height, width, channels\]"),
        ((5, 4, 4), "volumes", "layout `volumes` means"),
        ((5, 2, 2, 2, 2, 2), None, "insist on layout `rows`"),
        ((0, 4), None, "no samples"),
        ((5, 0), None, "no samples"),
        ((), None, "no samples"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], layout: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_source(np.zeros(shape), DataOptions(layout=layout))


@pytest.mark.parametrize(
    "data",
    [
        np.array([{}, []], dtype=object),
        np.array(["a", "b"]),
        np.zeros(3, dtype=complex),
        np.zeros(3, dtype="datetime64[s]"),
        np.zeros(3, dtype=[("a", float)]),
    ],
)
def test_only_numbers_are_learnt(data: np.ndarray) -> None:
    with pytest.raises(UserError, match="not numbers"):
        open_source(data)


def test_bytes_of_images_keep_the_range_of_their_type() -> None:
    codec = open_source(np.full((3, 4, 4), 7, dtype=np.uint8)).codec
    assert (codec.low, codec.high, codec.bounded) == (0, 255, True)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_other_images_take_the_range_they_have(dtype: str) -> None:
    data = np.zeros((3, 4, 4), dtype=dtype)
    data[0, 0, 0], data[2, 3, 3] = -30, 50
    source = open_source(data)
    assert (source.codec.low, source.codec.high, source.codec.bounded) == (-30, 50, True)
    values = source.batch(torch.arange(3)).values
    assert values[0, 0, 0, 0] == -1
    assert values[2, 0, 3, 3] == 1
    assert "-30..50" in source.describe()["scaled"]


def test_rows_are_standardised_by_column() -> None:
    data = RNG.normal([5, -100, 0], [0.1, 50, 1e-6], (1000, 3))
    values = open_source(data).batch(torch.arange(1000)).values.double()
    torch.testing.assert_close(values.mean(0), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.std(0, unbiased=False), torch.ones(3).double())
    assert not open_source(data).codec.bounded


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, -7])
@pytest.mark.parametrize("shape", [(11, 3), (11, 4, 4)])
def test_a_constant_is_harmless(value: float, shape: tuple[int, ...]) -> None:
    data = np.full(shape, value)
    source = open_source(data)
    values = source.batch(torch.arange(11)).values
    assert (values == 0).all()
    np.testing.assert_array_equal(source.codec.decode(values), data)


def test_values_that_are_not_finite_are_counted_and_placed() -> None:
    data = np.zeros((5, 3, 2), dtype=np.float32)
    data[2, 1, 0], data[4, 0, 1] = np.nan, np.inf
    with pytest.raises(UserError, match=r"2 values that are NaN or infinite, the first at \[2, 1,"):
        open_source(data)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = RNG.normal(3, 2, (1000, 5)).astype(np.float32)
    whole = open_source(data)
    monkeypatch.setattr(arrays.blocks, "__defaults__", (77,))
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 0)
    parts = open_source(data)
    assert parts.fingerprint == whole.fingerprint
    np.testing.assert_allclose(parts.codec.values.scale, whole.codec.values.scale, rtol=1e-12)
    indices = torch.randperm(1000)[:64]
    torch.testing.assert_close(parts.batch(indices).values, whole.batch(indices).values)
    data[990, 0] = np.nan
    with pytest.raises(UserError, match=r"1 values .* at \[990, 0\]"):
        open_source(data)


def test_the_fingerprint_knows_content_and_reading() -> None:
    data = RNG.integers(0, 255, (6, 4, 4)).astype(np.uint8)
    changed = data.copy()
    changed[5, 3, 3] ^= 1
    assert open_source(data).fingerprint == open_source(data.copy()).fingerprint
    assert open_source(data).fingerprint == open_source(np.asfortranarray(data)).fingerprint
    others = [
        open_source(changed),
        open_source(data, DataOptions(layout="rows")),
        open_source(data.reshape(6, 2, 8)),
        open_source(data.astype(np.int16)),
    ]
    assert len({source.fingerprint for source in (open_source(data), *others)}) == 5


def test_byte_order_is_not_content() -> None:
    data = RNG.normal(size=(6, 4))
    assert open_source(data).fingerprint == open_source(data.astype(">f8")).fingerprint
    assert open_source(data.astype(">f8")).codec.dtype == "float64"


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bfloat16, torch.int64])
def test_tensors_are_arrays(dtype: torch.dtype) -> None:
    data = torch.arange(32).reshape(8, 4).to(dtype)
    source = open_source(data)
    assert source.shape == (4,)
    assert source.name == "array"
    own = source.codec.decode(source.batch(torch.arange(8)).values)
    np.testing.assert_allclose(own, data.float().numpy(), atol=1e-5)


def test_a_tensor_with_a_gradient_is_read_all_the_same() -> None:
    assert open_source(torch.ones(4, 2, requires_grad=True)).size == 4
