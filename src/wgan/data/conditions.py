"""A finite source with numbers attached to each sample, on which a generator is conditioned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wgan.data.arrays import Moments
from wgan.data.base import Blocks, Source, blocks_of, split_finite
from wgan.errors import UserError
from wgan.types import Batch


class Conditioned:
    """The samples of a source, each with its conditions, standardised.

    Args:
        source: A finite source.
        names: One name per condition.
        own: The conditions in their own units, ``[size, len(names)]``.
    """

    def __init__(self, source: Source, names: tuple[str, ...], own: NDArray[np.float64]) -> None:
        assert own.shape == (source.size, len(names))
        moments = Moments(len(names))
        moments.add(own)
        self.name = source.name
        self.codec = replace(source.codec, condition=names, conditions=moments.standardise())
        self.size = source.size
        hashed = hashlib.sha256(f"{source.fingerprint}{names}".encode())
        hashed.update(np.ascontiguousarray(own, dtype="<f8").data)
        self.fingerprint = hashed.hexdigest()
        self._source = source
        self._encoded = self.codec.encode_condition(own)
        self._range = {
            name: [low, high]
            for name, low, high in zip(
                names, moments.low.tolist(), moments.high.tolist(), strict=True
            )
        }

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample in training units."""
        return self.codec.shape

    @property
    def blocks(self) -> Blocks | None:
        """Those of the source."""
        return blocks_of(self._source)

    def batch(self, indices: Tensor) -> Batch:
        """The samples with these numbers, and their conditions."""
        return Batch(self._source.batch(indices).values, self._encoded[indices])

    def describe(self) -> dict[str, Any]:
        """What the source says, and the range of each condition."""
        return {
            **self._source.describe(),
            "condition": self._range,
            "fingerprint": self.fingerprint,
        }

    def split(self, holdout: float, seed: int) -> tuple[Source, Source]:
        """A training part and a held-out part."""
        return split_finite(self, holdout, seed)


def condition_on(source: Source, arrays: Mapping[str, Any]) -> Conditioned:
    """A source conditioned on arrays ``[n]`` or ``[n, k]``, one number per sample or k of them.

    An array called ``c`` of k > 1 numbers gives the conditions ``c_0`` to ``c_{k-1}``.

    Raises:
        UserError: A source without end, another number of samples, or no finite numbers.
    """
    if source.size is None:
        raise UserError(f"`{source.name}` is synthetic and unlimited: it cannot be conditioned")
    names: list[str] = []
    parts = []
    for name, given in arrays.items():
        own = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
        if own.dtype.kind not in "biuf" or own.ndim not in (1, 2) or len(own) != source.size:
            raise UserError(
                f"condition `{name}` must be numbers of shape [{source.size}] or "
                f"[{source.size}, k], one row per sample; got {own.dtype} {list(own.shape)}"
            )
        with np.errstate(invalid="ignore"):  # of a signalling NaN: the next line has a word for it
            part = own.reshape(len(own), -1).astype(np.float64)
        if wrong := int((~np.isfinite(part)).any(axis=1).sum()):
            raise UserError(f"condition `{name}` is NaN or infinite for {wrong} samples")
        parts.append(part)
        k = part.shape[1]
        names += [name] if k == 1 else [f"{name}_{j}" for j in range(k)]
    return Conditioned(source, tuple(names), np.concatenate(parts, axis=1))
