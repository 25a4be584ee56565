"""The adjoint of a convolution with few inputs: the last layer of a generator of pictures.

oneDNN spreads many channels over one or three at an eighth of its usual speed. As one matrix
product, whose columns are then added where they overlap, it takes a quarter to two thirds of the
time (in bfloat16, a third for one channel and nearly all of it for three).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wgan.layers.product import product

_FEW = 3  # channels; of four in bfloat16, the columns take longer to add up than the product saves


def is_thin(weight: Tensor, values: Tensor) -> bool:
    """Whether :func:`spread` gives what a transposed convolution with this weight would, sooner.

    Args:
        weight: ``[in, out, *taps]`` of the transposed convolution.
        values: What it is of.
    """
    return (
        weight.dim() == 4
        and weight.shape[1] <= _FEW
        and type(values) is Tensor  # what traces sees a convolution
        and values.device.type == "cpu"
        and not torch.compiler.is_compiling()
    )


def spread(
    values: Tensor,
    weight: Tensor,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> Tensor:
    """A transposed convolution, outside of any graph: each value puts its weights around its place.

    Args:
        values: ``[n, in, h, w]``.
        weight: ``[in, out, *taps]``.
        size: Height and width of what comes out.
        stride, padding: Of the convolution, per axis.

    Returns:
        ``[n, out, *size]``.
    """
    n, inputs, height, width = values.shape
    # A fold in bfloat16 would round after each term, and is no faster.
    by_place = values.float() if values.dtype == torch.bfloat16 else values
    by_place = by_place.permute(0, 2, 3, 1).reshape(-1, inputs)
    columns = product(by_place, weight.to(by_place.dtype).reshape(inputs, -1).mT)
    columns = columns.view(n, height * width, -1).mT
    found = F.fold(columns, size, tuple(weight.shape[2:]), padding=padding, stride=stride)
    return found.to(values.dtype)


class ThinConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution to few channels; faster than its parent where nobody differentiates.

    The same numbers but for rounding.
    """

    def forward(self, values: Tensor, output_size: list[int] | None = None) -> Tensor:
        if torch.is_grad_enabled() or output_size is not None or not is_thin(self.weight, values):
            out: Tensor = super().forward(values, output_size)
            return out
        if torch.is_autocast_enabled("cpu"):
            values = values.to(torch.get_autocast_dtype("cpu"))
        assert not isinstance(self.padding, str)
        sides = zip(values.shape[2:], self.stride, self.padding, self.kernel_size, strict=True)
        size = tuple((side - 1) * step - 2 * edge + taps for side, step, edge, taps in sides)
        found = spread(values, self.weight, size, self.stride, self.padding)
        return found if self.bias is None else found.add_(self.bias.view(1, -1, 1, 1))
