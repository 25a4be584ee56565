"""The matrix product of a layer, by whichever library is fastest at it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def product(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``values weight' + bias`` for ``[n, in]`` and ``[out, in]``, outside of any graph.

    By oneDNN where it is built in: on processors that are not Intel's it has AVX-512 and MKL, which
    torch's own product takes, has not. It was twice as fast on one.
    """
    found: Tensor
    if not (_ONEDNN and values.dtype == weight.dtype == torch.float32):
        return F.linear(values, weight, bias)
    if torch.compiler.is_compiling():
        found = torch.ops.wgan.product(values, weight, bias)
        return found
    if values.device.type == "cpu":
        found = torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
        return found
    return F.linear(values, weight, bias)


_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch._C._has_mkldnn

# Inductor knows oneDNN's product with constant weights alone; this one it calls as it is.
_LIBRARY: Any = torch.library.Library("wgan", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("product(Tensor values, Tensor weight, Tensor? bias) -> Tensor")
_LIBRARY.impl("product", product, "CompositeExplicitAutograd")
torch.library.register_fake(
    "wgan::product",
    lambda values, weight, bias: values.new_empty(len(values), len(weight)),
    lib=_LIBRARY,
)
