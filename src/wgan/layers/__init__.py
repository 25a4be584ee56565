"""Layers that constraints and networks share."""

from wgan.layers.activations import GroupSort
from wgan.layers.dropout import Dropout, bind_rng
from wgan.layers.norms import PixelNorm
from wgan.layers.orthogonal import OrthogonalKernel, SemiOrthogonal, orthogonalise
from wgan.layers.spectral import SpectralMode, SpectralNorm, paused_iterations, spectral_normalise

__all__ = [
    "Dropout",
    "GroupSort",
    "OrthogonalKernel",
    "PixelNorm",
    "SemiOrthogonal",
    "SpectralMode",
    "SpectralNorm",
    "bind_rng",
    "orthogonalise",
    "paused_iterations",
    "spectral_normalise",
]
