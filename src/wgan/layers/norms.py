"""Normalisation of one sample at a time, and over a batch that processes share out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wgan.errors import UserError
from wgan.shares import current, summed


class PixelNorm(nn.Module):
    """``x / sqrt(mean_c x^2 + epsilon)`` at every position, c the channels.

    Args:
        epsilon: > 0, in squared units of `x`.

    Source: Karras et al. 2018, section 4.2.
    """

    def __init__(self, epsilon: float = 1e-8) -> None:
        super().__init__()
        if not epsilon > 0:
            raise UserError(f"PixelNorm: `epsilon` must be > 0, got {epsilon}")
        self.epsilon = epsilon

    def forward(self, values: Tensor) -> Tensor:
        """``[batch, c, *space]`` to the same shape."""
        return values * (values.square().mean(1, keepdim=True) + self.epsilon).rsqrt()

    def extra_repr(self) -> str:
        return f"epsilon={self.epsilon}"


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes, differentiable on any device.

    ``(x - m) / sqrt(v + eps)``, m and v the mean and the variance of the whole batch over all axes
    but the channels'. Values ``[batch, c, *space]`` of any number of axes. Alone it is
    `nn.BatchNorm1d` and its kin to the bit; the names of its weights are theirs.

    Source: Ioffe and Szegedy 2015, algorithm 1.
    """

    def _check_input_dim(self, values: Tensor) -> None:
        if values.dim() < 2:
            raise ValueError(f"expected [batch, c, *space], got {values.dim()} axes")

    def forward(self, batch: Tensor) -> Tensor:
        share = current()
        if share.of == 1 or not self.training:
            return super().forward(batch)
        self._check_input_dim(batch)
        values = batch.to(torch.promote_types(batch.dtype, torch.float32))
        axes = [0, *range(2, values.dim())]
        count = share.of * values.numel() // values.shape[1]
        across = (1, -1, *[1] * (values.dim() - 2))
        mean = summed(values.sum(axes)) / count
        centred = values - mean.view(across)
        variance = summed(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        out = centred * (variance + self.eps).rsqrt().view(across)
        if self.weight is not None:
            out = out * self.weight.view(across) + self.bias.view(across)
        return out.to(batch.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum
        if share is None:
            share = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


def share_batch_norm(network: nn.Module) -> nn.Module:
    """The network with every batch norm in it a :class:`SharedBatchNorm` of the same weights."""
    for name, layer in network.named_children():
        setattr(network, name, share_batch_norm(layer))
    if not isinstance(network, nn.modules.batchnorm._BatchNorm):
        return network
    shared = SharedBatchNorm(
        network.num_features,
        network.eps,
        network.momentum,
        network.affine,
        network.track_running_stats,
    )
    for name, tensor in (*network._parameters.items(), *network._buffers.items()):
        setattr(shared, name, tensor)
    return shared.train(network.training)
