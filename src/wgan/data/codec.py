"""From the data's own units to training units and back, without the data.

A codec is small, frozen and written into every run, so that a checkpoint can be sampled on a
machine that has never seen the data.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Kind = Literal["image", "volume", "rows"]
Layout = Literal["channels-first", "channels-last", "no-channels"]


@dataclass(frozen=True)
class Scale:
    """An affine map, ``training = (own - offset) / scale``, per feature or for all.

    Attributes:
        offset: One number, or one per feature.
        scale: The same length as `offset`; never 0 (a constant column has scale 1).
    """

    offset: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)

    @classmethod
    def between(cls, low: float, high: float) -> Scale:
        """The map of [low, high] onto [-1, 1]; a single point goes to 0."""
        # Halved before it is added, so that a float64 range cannot overflow.
        return cls((low / 2 + high / 2,), ((high / 2 - low / 2) if high > low else 1.0,))

    def encode(self, own: NDArray[Any]) -> NDArray[np.float32]:
        """Own units to training units, elementwise along the last axis."""
        if len(self.offset) == 1 and own.dtype.kind in "iub" and own.dtype.itemsize <= 2:
            # Small integers are exact in float32, and pictures are read at every training step.
            training: NDArray[np.float32] = own.astype(np.float32)
            training -= np.float32(self.offset[0])
            training /= np.float32(self.scale[0])
            return training
        wide: NDArray[np.float64] = own.astype(np.float64)
        wide -= np.asarray(self.offset)
        wide /= np.asarray(self.scale)
        return wide.astype(np.float32)

    def decode(self, training: NDArray[Any]) -> NDArray[np.float64]:
        """Training units to own units."""
        own: NDArray[np.float64] = training.astype(np.float64)
        own *= np.asarray(self.scale)
        own += np.asarray(self.offset)
        return own


@dataclass(frozen=True)
class Codec:
    """How one source's values and conditions are written.

    Attributes:
        kind: What a sample is: an image ``[c, h, w]``, a volume ``[c, d, h, w]``, or a row ``[k]``
            (the shapes are those in training units).
        shape: Shape of one sample in training units.
        layout: Where the channels stand in the data's own arrays.
        flattened: Own shape of a sample that training sees as a flat row, or None where `layout`
            says it all.
        dtype: The own dtype (of all, or the widest one for tables).
        values: Scale of the values; per feature only for rows.
        low, high: The own range, to which decoded samples are clipped, or None where the range is
            not known. For pictures it is the range of the type, not the one observed.
        bounded: Whether training units are [-1, 1], so that a generator should end in tanh.
        columns: Column names of a table, else empty.
        dtypes: Own dtype of each column, else empty.
        condition: Names of the conditions, else empty.
        conditions: Scale of the conditions.
    """

    kind: Kind
    shape: tuple[int, ...]
    layout: Layout = "channels-first"
    flattened: tuple[int, ...] | None = None
    dtype: str = "float32"
    values: Scale = Scale()
    low: float | None = None
    high: float | None = None
    bounded: bool = False
    columns: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    condition: tuple[str, ...] = ()
    conditions: Scale = Scale()

    @property
    def own_shape(self) -> tuple[int, ...]:
        """Shape of one sample in the data's own arrays."""
        if self.flattened is not None:
            return self.flattened
        if self.layout == "channels-last":
            return (*self.shape[1:], self.shape[0])
        if self.layout == "no-channels":
            return self.shape[1:]
        return self.shape

    def encode(self, own: NDArray[Any]) -> Tensor:
        """Own arrays ``[batch, *own_shape]`` to training values ``[batch, *shape]``, float32."""
        if self.layout == "channels-last":
            # Moved before the numbers get wide: four times as fast for pictures.
            own = np.ascontiguousarray(np.moveaxis(own, -1, 1))
        values = self.values.encode(own.reshape(len(own), *self.shape))
        return torch.from_numpy(np.ascontiguousarray(values))

    def decode(self, values: Tensor) -> NDArray[Any]:
        """Training values ``[batch, *shape]`` to own arrays ``[batch, *own_shape]``.

        Clipped to the own range; where the own dtype is an integer, rounded and clipped to what
        the dtype can hold. Tables come back as float64 ``[batch, columns]`` with integer columns
        rounded; `wgan.data.write_table` gives every column its own dtype.
        """
        own = self.values.decode(values.detach().to("cpu", torch.float64).numpy())
        if self.low is not None:
            own = np.maximum(own, self.low)
        if self.high is not None:
            own = np.minimum(own, self.high)
        if self.columns:
            for j, dtype in enumerate(self.dtypes):
                own[:, j] = _representable(own[:, j], np.dtype(dtype))
            return own
        if self.layout == "channels-last":
            own = np.moveaxis(own, 1, -1)
        own = own.reshape(len(own), *self.own_shape)
        return _representable(own, np.dtype(self.dtype)).astype(self.dtype)

    def encode_condition(self, own: NDArray[Any]) -> Tensor:
        """Own conditions ``[batch, k]`` to training units, float32."""
        return torch.from_numpy(np.ascontiguousarray(self.conditions.encode(own)))

    def to_json(self) -> dict[str, Any]:
        """Plain data for a run directory."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Codec:
        """The inverse of :meth:`to_json`, after a trip through JSON."""

        def scale(part: dict[str, Any]) -> Scale:
            return Scale(tuple(part["offset"]), tuple(part["scale"]))

        fields = dict(plain)
        fields["values"] = scale(fields["values"])
        fields["conditions"] = scale(fields["conditions"])
        for name in ("shape", "columns", "dtypes", "condition"):
            fields[name] = tuple(fields[name])
        if fields["flattened"] is not None:
            fields["flattened"] = tuple(fields["flattened"])
        codec = cls(**fields)
        codec._check()
        return codec

    def _check(self) -> None:
        """Raise `ValueError` for what no source has; the JSON may be a stranger's."""
        flat = self.flattened or self.shape
        sizes = (*self.shape, *flat)
        if self.kind not in ("image", "volume", "rows") or self.layout not in (
            "channels-first",
            "channels-last",
            "no-channels",
        ):
            raise ValueError(f"it is of kind {self.kind!r} and layout {self.layout!r}")
        if not self.shape or not all(type(n) is int and n > 0 for n in sizes):
            raise ValueError(f"its shape is {self.shape}")
        if math.prod(flat) != math.prod(self.shape):
            raise ValueError(f"its shapes are {self.shape} and {flat}")
        for scale, lengths in (
            (self.values, {1, self.shape[0]}),
            (self.conditions, {1, len(self.condition)}),
        ):
            numbers = (*scale.offset, *scale.scale)
            if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
                raise ValueError("its scale is not of finite numbers")
            if {len(scale.offset), len(scale.scale)} - lengths or 0 in scale.scale:
                raise ValueError("its scale does not fit its shape")
        for bound in (self.low, self.high):
            if bound is not None and type(bound) not in (int, float):
                raise ValueError(f"its range is {self.low!r} to {self.high!r}")
        if any(np.dtype(dtype).kind not in "biuf" for dtype in (self.dtype, *self.dtypes)):
            raise ValueError(f"it holds {self.dtype}")
        names = (*self.columns, *self.condition)
        if not all(isinstance(name, str) for name in names) or (
            len(self.columns) != len(self.dtypes)
            or (self.columns and len(self.columns) != self.shape[0])
        ):
            raise ValueError("its columns do not fit its shape")


def _representable(own: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """The nearest numbers that a cast to `dtype` keeps: whole for integers, within its range."""
    if dtype.kind == "f":
        return own.clip(-float(np.finfo(dtype).max), float(np.finfo(dtype).max))
    own = np.rint(own) + 0.0  # no negative zeros
    if dtype.kind == "b":
        return own.clip(0, 1)
    low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    if int(high) > np.iinfo(dtype).max:  # 2**63 - 1 becomes 2**63, which would wrap around
        high = float(np.nextafter(high, 0))
    return own.clip(low, high)
