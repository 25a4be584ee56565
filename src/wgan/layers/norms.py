"""Normalisation of one sample at a time."""

from __future__ import annotations

from torch import Tensor, nn

from wgan.errors import UserError


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
