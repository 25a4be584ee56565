"""From the data's own units to training units and back, without the data.

A codec is small, frozen and written into every run, so that a checkpoint can be sampled on a
machine that has never seen the data.
"""

from __future__ import annotations

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

    def encode(self, own: NDArray[Any]) -> NDArray[np.float32]:
        """Own units to training units, elementwise along the last axis."""
        centred = own.astype(np.float64) - np.asarray(self.offset)
        return (centred / np.asarray(self.scale)).astype(np.float32)

    def decode(self, training: NDArray[Any]) -> NDArray[np.float64]:
        """Training units to own units."""
        return training.astype(np.float64) * np.asarray(self.scale) + np.asarray(self.offset)


@dataclass(frozen=True)
class Codec:
    """How one source's values and conditions are written.

    Attributes:
        kind: What a sample is: an image ``[c, h, w]``, a volume ``[c, d, h, w]``, or a row ``[k]``
            (the shapes are those in training units).
        shape: Shape of one sample in training units.
        layout: Where the channels stand in the data's own arrays.
        dtype: The own dtype (of all, or the widest one for tables).
        values: Scale of the values.
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
        if self.layout == "channels-last":
            return (*self.shape[1:], self.shape[0])
        if self.layout == "no-channels":
            return self.shape[1:]
        return self.shape

    def encode(self, own: NDArray[Any]) -> Tensor:
        """Own arrays ``[batch, *own_shape]`` to training values ``[batch, *shape]``, float32."""
        values = torch.from_numpy(np.ascontiguousarray(self.values.encode(own)))
        if self.layout == "channels-last":
            values = values.movedim(-1, 1).contiguous()
        return values.reshape(len(own), *self.shape)

    def decode(self, values: Tensor) -> NDArray[Any]:
        """Training values ``[batch, *shape]`` to own arrays ``[batch, *own_shape]``.

        Clipped to the own range; rounded where the own dtype is an integer. Tables come back as
        float64 ``[batch, columns]`` with integer columns rounded.
        """
        array = values.detach().to("cpu", torch.float64).numpy()
        if self.layout == "channels-last":
            array = np.moveaxis(array, 1, -1)
        own = self.values.decode(array.reshape(len(array), *self.own_shape))
        if self.low is not None or self.high is not None:
            own = own.clip(self.low, self.high)
        if self.columns:
            for j, dtype in enumerate(self.dtypes):
                if np.dtype(dtype).kind in "iub":
                    own[:, j] = np.rint(own[:, j])
            return own
        if np.dtype(self.dtype).kind in "iub":
            own = np.rint(own)
        return own.astype(self.dtype)

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
        return cls(**fields)
