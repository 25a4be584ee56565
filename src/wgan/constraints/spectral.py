"""Spectral normalisation of every critic layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import nn

from wgan.constraints.base import Constraint
from wgan.layers import SpectralMode, spectral_normalise


@dataclass(frozen=True)
class SpectralNormalisation(Constraint):
    """Every layer's weight is divided by its largest singular value.

    One power iteration per training forward, its vectors in the checkpoint. The same
    function, :func:`wgan.layers.spectral_normalise`, normalises a generator.

    Args:
        mode: `reshaped`: the kernel as a matrix ``[out, -1]``, as published, which does not bound a
            convolution's norm; `operator`: the convolution itself, strided and padded.

    Source: Miyato et al. 2018, algorithm 1.
    """

    mode: SpectralMode = "reshaped"

    name: ClassVar[str] = "spectral-normalisation"

    def __post_init__(self) -> None:
        self.require_choice("mode", get_args(SpectralMode))

    def prepare(self, critic: nn.Module) -> nn.Module:
        """Parametrise the critic in place; raises as :func:`wgan.layers.spectral_normalise`."""
        return spectral_normalise(critic, self.mode)
