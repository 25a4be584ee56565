"""Spectral normalisation of any network's layers."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wgan.errors import UnknownNameError, UserError
from wgan.layers import convolution as conv

SpectralMode = Literal["reshaped", "operator"]

_EPSILON = 1e-12
_FIRST_ITERATIONS = 15  # so that a critic that has not been trained yet has about the right norm
_OVERSAMPLING = 8
_MATRICES = (nn.Linear, nn.Embedding)
_REFUSED = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Bilinear)


class SpectralNorm(nn.Module):
    """A parametrization ``W / sigma(W)``; sigma the largest singular value by power iteration.

    ``sigma = u' W v``; each *training* forward of the layer moves ``v = W'u / |W'u|``,
    ``u = W v / |W v|`` once, whether or not the weight is read in between, and no gradient flows
    through u and v. Both are buffers, so that a checkpoint holds them and a resumed run goes on
    with them. They are read as copies: several forwards may come before one backward.

    Mode `reshaped` takes W as the kernel reshaped to ``[out, -1]``, as published. That number does
    not bound a convolution's operator norm, from either side. Mode `operator` iterates with the
    convolution itself, stride and dilation included, on a torus of 8 (k - 1) blocks per axis, and
    multiplies by 1.04 per axis for what lies between its frequencies (see
    :func:`wgan.layers.convolution.operator_norm_bound`). Once the iteration has converged the
    layer's norm is at most 1 for every picture size and zero padding. Either way a power iteration
    is an estimate from below, not a certificate.

    Source: Miyato et al. 2018, algorithm 1. As there, a bias and the gain of norms stay free.
    """

    u: Tensor
    v: Tensor

    def __init__(self, layer: nn.Module, mode: SpectralMode, rng: torch.Generator) -> None:
        super().__init__()
        self.mode = mode
        self.transposed = isinstance(layer, conv.TRANSPOSED)
        self.groups = 1
        self.stride: tuple[int, ...] = ()
        self.dilation: tuple[int, ...] = ()
        if mode == "operator" and isinstance(layer, (*conv.CONVOLUTIONS, *conv.TRANSPOSED)):
            self.groups, self.stride, self.dilation = layer.groups, layer.stride, layer.dilation
        self.excess = 1.0
        weight = layer.weight
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            kernel = self._kernel(weight)
            blocks = kernel.shape[2:]
            grid = conv.frequencies(blocks, _OVERSAMPLING)
            self.excess = conv.grid_excess(blocks, _OVERSAMPLING)
            start = torch.randn(1, kernel.shape[0], *grid, generator=rng)
            self.register_buffer("u", _unit(start.to(weight)))
            self.register_buffer("v", conv.circular_adjoint(kernel, self.u, self.groups))
            for _ in range(_FIRST_ITERATIONS):
                self.advance(weight)

    def _kernel(self, weight: Tensor) -> Tensor:
        if self.stride:
            return conv.polyphase(weight, self.stride, self.dilation)
        return (weight.transpose(0, 1) if self.transposed else weight).flatten(1)

    @torch.no_grad()
    def advance(self, weight: Tensor) -> None:
        """One power iteration."""
        with torch.autocast(weight.device.type, enabled=False):
            kernel = self._kernel(weight)
            self.v.copy_(_unit(conv.circular_adjoint(kernel, self.u, self.groups), self.v))
            self.u.copy_(_unit(conv.circular(kernel, self.v, self.groups), self.u))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            # Scaled again: a running average of networks averages u and v to less than unit length.
            u, v = _unit(self.u), _unit(self.v)
            sigma = (u * conv.circular(self._kernel(weight), v, self.groups)).sum()
            return weight / (sigma * self.excess).clamp_min(_EPSILON)


def spectral_normalise(network: nn.Module, mode: SpectralMode = "reshaped") -> nn.Module:
    """Parametrise every Linear, Conv, ConvTranspose and Embedding layer of a network, in place.

    Works on a critic, a generator or a single layer. The vectors u start from a fixed seed, so
    that equal networks stay equal.

    Args:
        network: Its weights become ``parametrizations.weight.original``.
        mode: `reshaped`, as published, or `operator`; see :class:`SpectralNorm`.

    Returns:
        The same network.

    Raises:
        UserError: A layer is parametrised already, or has weights that this cannot reach
            (recurrent layers, `nn.MultiheadAttention`, `nn.Bilinear`), or there is none to
            parametrise.
    """
    if mode not in get_args(SpectralMode):
        raise UnknownNameError("spectral-normalisation mode", mode, get_args(SpectralMode))
    kinds = (*_MATRICES, *conv.CONVOLUTIONS, *conv.TRANSPOSED)
    for name, layer in network.named_modules():
        named = f"layer `{name or type(layer).__name__}` ({type(layer).__name__})"
        if isinstance(layer, _REFUSED):
            raise UserError(f"spectral normalisation does not reach the weights of {named}")
        if isinstance(layer, kinds) and parametrize.is_parametrized(layer, "weight"):
            raise UserError(f"spectral normalisation: {named} has a parametrised weight already")
        if isinstance(layer, kinds) and mode == "operator":
            conv.require_zero_padding(layer, "spectral normalisation in mode `operator`")
    layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
    if not layers:
        raise UserError("spectral normalisation found no layer with a weight to normalise")
    rng = torch.Generator().manual_seed(0)
    for layer in layers:
        parametrization = SpectralNorm(layer, mode, rng)
        parametrize.register_parametrization(layer, "weight", parametrization, unsafe=True)
        layer.register_forward_pre_hook(_advance)
    return network


class paused_iterations:  # noqa: N801
    """A context in which training forwards leave u and v alone.

    For passes that are not the training's own: a compiled one under `torch.func` could not move a
    buffer, and the same network should take the same number of iterations, compiled or not.
    """

    depth = 0

    def __enter__(self) -> None:
        paused_iterations.depth += 1

    def __exit__(self, *exception: object) -> None:
        paused_iterations.depth -= 1


def _advance(layer: nn.Module, inputs: Any) -> None:
    """Forward pre-hook: the power iteration belongs to the forward, not to reading the weight."""
    if layer.training and not paused_iterations.depth:
        holder = layer.parametrizations["weight"]  # type: ignore[index]
        holder[0].advance(holder.original)  # type: ignore[union-attr]


def _unit(vector: Tensor, otherwise: Tensor | None = None) -> Tensor:
    """`vector` at unit length; `otherwise` where it is 0, so that a weight born 0 can grow."""
    length = torch.linalg.vector_norm(vector)
    unit = vector / length.clamp_min(_EPSILON)
    return unit if otherwise is None else torch.where(length > _EPSILON, unit, otherwise)
