"""The bound of each step: a rule for every function of torch that a critic may call.

A rule takes the step and the call's own arguments and returns the result's bound.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wgan.bounds.standin import MIXES, NOT_FINITE, PRODUCT, RANDOM, SPREAD, STEEP, Step, Tracked
from wgan.errors import UserError
from wgan.layers import convolution as conv

_EXPLICIT = 2**20  # entries up to which a convolution is written out as a matrix: a second
_FINE = 2e8  # multiplications that a finer grid of frequencies may cost: a second
_LONGEST = 1024  # axis up to which a pooling is written out as a matrix


def _one() -> float:
    return 1.0


def _leaky_relu(negative_slope: float = 0.01) -> float:
    return max(1.0, abs(negative_slope))


def _prelu(weight: Tensor) -> float:
    return max(1.0, float(weight.abs().max()))


def _rrelu(lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> float:
    return math.inf if training else max(1.0, abs(lower + upper) / 2)


def _elu(alpha: float = 1.0) -> float:
    return max(1.0, abs(alpha))


def _celu(alpha: float = 1.0) -> float:
    return 1.0 if alpha > 0 else math.inf


def _softplus(beta: float = 1.0, threshold: float = 20.0) -> float:
    # Beyond the threshold torch takes the identity: a jump, of 2e-9 / beta at 20.
    return 1.0 if beta > 0 and threshold >= 20 else math.inf


def _gelu(approximate: str = "none") -> float:
    # At sqrt(2) the derivative is (1 + erf(1)) / 2 + exp(-1) / sqrt(pi) = 1.128904145...
    return 1.12890415 if approximate == "none" else 1.12899307


def _threshold(threshold: float, value: float) -> float:
    return 1.0 if threshold == value else math.inf


def _clamp(*_: Any, **__: Any) -> float:
    return 1.0


# Activations: their largest slope, as a function of their settings.
SLOPES: dict[str, Callable[..., float]] = {
    **dict.fromkeys(("relu", "relu6", "tanh", "tanhshrink", "log_sigmoid", "logsigmoid"), _one),
    **dict.fromkeys(("softsign", "neg", "abs", "sin", "cos", "atan", "arctan", "asinh"), _one),
    **dict.fromkeys(("hardtanh", "clamp", "clamp_min", "clamp_max", "softshrink"), _clamp),
    "sigmoid": lambda: 0.25,
    "hardsigmoid": lambda: 1 / 6,
    "hardswish": lambda: 1.5,
    "selu": lambda: 1.7580993408473773,  # scale alpha, at 0 from below
    "silu": lambda: 1.09983933,  # at 2.399357
    "mish": lambda: 1.08849817,  # at 1.490567
    "erf": lambda: 2 / math.sqrt(math.pi),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "rrelu": _rrelu,
    "elu": _elu,
    "celu": _celu,
    "softplus": _softplus,
    "gelu": _gelu,
    "_threshold": _threshold,
    "threshold": _threshold,
}
DROPOUTS = frozenset(
    [f"dropout{n}" for n in ("", "1d", "2d", "3d")]
    + ["alpha_dropout", "feature_dropout", "feature_alpha_dropout"]
)


def elementwise(slope: Callable[..., float], step: Step, x: Any, *args: Any, **kw: Any) -> float:
    if step.shape != x.shape:
        step.refuse("changes the shape by broadcasting; expand the values first")
    try:
        settings = inspect.signature(slope).bind(*args, **kw)
    except TypeError:
        step.refuse("is unknown to it with these arguments; leave them out")
    return float(x.bound * slope(*settings.args, **settings.kwargs))


def _linear(step: Step, x: Any, weight: Tensor, bias: Tensor | None = None) -> float:
    if x.dim() < 2:
        step.refuse(MIXES)
    return float(x.bound * step.norm(weight))


def _convolution(
    step: Step,
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> float:
    apply = partial(step.func, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return _convolved(step, x, weight, stride, dilation, groups, apply)


def _transposed(
    step: Step,
    x: Any,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> float:
    apply = partial(
        step.func,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        groups=groups,
        dilation=dilation,
    )
    return _convolved(step, x, weight, stride, dilation, groups, apply)


def _convolved(
    step: Step,
    x: Any,
    weight: Tensor,
    stride: Any,
    dilation: Any,
    groups: int,
    apply: Callable[..., Tensor],
) -> float:
    dims = step.dims
    if x.dim() != dims + 2:
        step.refuse(MIXES)
    weight = weight.detach().double()
    numbers, outputs = math.prod(x.shape[1:]), math.prod(step.shape[1:])
    if numbers * outputs <= _EXPLICIT:
        matrix = _explicit(partial(apply, weight=weight), x.shape[1:], step.shape[1:])
        return float(x.bound * step.norm(matrix))
    strides, dilations = _each(stride, dims), _each(dilation, dims)
    return float(x.bound * on_any_grid(step, weight, strides, dilations, groups))


def _explicit(
    apply: Callable[[Tensor], Tensor], shape: Sequence[int], result: Sequence[int]
) -> Tensor:
    """The matrix of a linear map, or its transpose: one row per entry of the smaller side."""
    numbers, outputs = math.prod(shape), math.prod(result)
    if numbers <= outputs:
        unit = torch.eye(numbers, dtype=torch.float64)
        return apply(unit.view(numbers, *shape)).flatten(1)
    with torch.enable_grad():
        start = torch.zeros(outputs, *shape, dtype=torch.float64, requires_grad=True)
        unit = torch.eye(outputs, dtype=torch.float64).view(outputs, *result)
        (rows,) = torch.autograd.grad(apply(start), start, unit)
    return rows.flatten(1)


def on_any_grid(
    step: Step,
    weight: Tensor,
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> float:
    """The bound for every size; on a grid of frequencies as fine as a second allows."""
    if not weight.isfinite().all():
        step.refuse(NOT_FINITE)
    blocks = [
        math.ceil((gap * (size - 1) + 1) / s)
        for size, gap, s in zip(weight.shape[2:], dilations, strides, strict=True)
    ]
    rows, columns = weight.shape[0] // groups, weight.shape[1] * math.prod(strides)
    step.follower.rounding += 4 * max(rows, columns) + 64
    one = groups * rows * columns * min(rows, columns)
    fine = [n for n in (64, 32, 16) if one * math.prod(conv.frequencies(blocks, n)) <= _FINE]
    return conv.operator_norm_bound(weight, strides, dilations, groups, (*fine, 8)[0])


def on_the_torus(layer: nn.Module) -> bool:
    """Whether circular padding makes a layer a convolution on the torus."""
    if getattr(layer, "padding_mode", "zeros") != "circular":
        return False
    try:
        conv.require_zero_padding(layer, "")
    except UserError:
        return False
    return True


def _batch_norm(
    step: Step,
    x: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> float:
    if training or running_var is None:
        step.refuse(
            "takes its moments from the batch also in eval mode, so that the critic is not one "
            "function of a sample; use `track_running_stats=True` or no norm"
        )
    scale = (running_var.double() + eps).rsqrt()
    return float(x.bound * (scale if weight is None else scale * weight.double()).abs().max())


def _instance_norm(
    step: Step,
    x: Any,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> float:
    if use_input_stats:
        step.refuse(SPREAD)
    return _batch_norm(step, x, running_mean, running_var, weight, bias, False, momentum, eps)


def _dropout(step: Step, x: Any, p: float = 0.5, training: bool = True) -> float:
    if training and p > 0:
        step.refuse(RANDOM)
    return float(x.bound)


def _pad(
    step: Step, x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> float:
    numbers = torch.arange(1, x.numel() + 1, dtype=torch.float64).view(x.shape)
    numbers = F.pad(numbers, pad, mode, 0 if mode == "constant" else None)
    return float(x.bound * step.follower.copies(step.name, x, numbers))


def _average_pool(
    step: Step,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> float:
    sizes = step.window_axes(x)
    widths = _each(kernel_size, step.dims)
    strides = widths if stride in (None, (), []) else _each(stride, step.dims)
    total = 1.0
    for size, width, s, edge in zip(sizes, widths, strides, _each(padding, step.dims), strict=True):
        pool = partial(
            F.avg_pool2d,
            kernel_size=(1, width),
            stride=(1, s),
            padding=(0, edge),
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=1 if divisor_override else None,
        )
        total *= _norm_along(step, size, pool)
    return float(x.bound * total / abs(divisor_override or 1))


def _adaptive_average_pool(step: Step, x: Any, output_size: Any) -> float:
    total = 1.0
    for size, out in zip(step.window_axes(x), step.shape[-step.dims :], strict=True):
        pool = partial(F.adaptive_avg_pool1d, output_size=out)
        total *= _norm_along(step, size, pool)
    return float(x.bound * total)


def _interpolate(
    step: Step,
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> float:
    dims = x.dim() - 2
    along = {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode)
    if along not in ("linear", "nearest", "nearest-exact", "area") or antialias:
        step.refuse(
            f"is unknown to it with mode {mode!r} and antialias={antialias}; use 'nearest' or "
            "'linear' modes without antialias"
        )
    total = 1.0
    for axis in range(dims):
        resize = partial(
            F.interpolate,
            size=None if size is None else _each(size, dims)[axis],
            scale_factor=None if scale_factor is None else _each(scale_factor, dims)[axis],
            mode=along,
            align_corners=align_corners,
            recompute_scale_factor=recompute_scale_factor,
        )
        total *= _norm_along(step, x.shape[2 + axis], resize)
    return float(x.bound * total)


def _norm_along(step: Step, size: int, apply: Callable[[Tensor], Tensor]) -> float:
    """The norm of a map of one axis without negative weights: ``[n, 1, size]`` to ``[n, 1, out]``.

    The norm of a map that treats each axis by itself is the product of the axes' norms.
    """
    if size <= _LONGEST:
        return step.norm(apply(torch.eye(size, dtype=torch.float64)[:, None]).flatten(1))
    with torch.enable_grad():  # |A|_2^2 <= |A|_1 |A|_inf, the sums of its columns and rows
        ones = torch.ones(1, 1, size, dtype=torch.float64, requires_grad=True)
        rows = apply(ones)
        (columns,) = torch.autograd.grad(rows.sum(), ones)
    return math.sqrt(float(rows.detach().abs().max()) * float(columns.abs().max()))


def _max_pool(
    step: Step,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> float:
    dims, sizes = step.dims, step.window_axes(x)
    widths = _each(kernel_size, dims)
    strides = widths if stride in (None, (), []) else _each(stride, dims)
    edges, gaps = _each(padding, dims), _each(dilation, dims)
    shared = 1
    for axis, size in enumerate(sizes):
        starts = torch.arange(step.shape[axis - dims]) * strides[axis] - edges[axis]
        taps = starts[:, None] + torch.arange(widths[axis]) * gaps[axis]
        shared *= int(taps[(taps >= 0) & (taps < size)].bincount().max())
    return float(x.bound * math.sqrt(shared))


def _adaptive_max_pool(step: Step, x: Any, output_size: Any, return_indices: bool = False) -> float:
    shared = 1
    for size, out in zip(step.window_axes(x), step.shape[-step.dims :], strict=True):
        windows = torch.cat(
            [torch.arange(i * size // out, -((i + 1) * size // -out)) for i in range(out)]
        )
        shared *= int(windows.bincount().max())
    return float(x.bound * math.sqrt(shared))


def _sum(step: Step, x: Any, dim: Any = None, keepdim: bool = False) -> float:
    return float(x.bound * math.sqrt(step.reduced(x, dim)))


def _mean(step: Step, x: Any, dim: Any = None, keepdim: bool = False) -> float:
    return float(x.bound / math.sqrt(max(1, step.reduced(x, dim))))


def _extreme(step: Step, x: Any, dim: Any = None, keepdim: bool = False) -> float:
    """A maximum, minimum or soft maximum of groups of entries."""
    step.reduced(x, dim)
    return float(x.bound)


def _norm(
    step: Step, x: Any, p: Any = None, dim: Any = None, keepdim: bool = False, **other: Any
) -> float:
    """``||a| - |b|| <= |a - b|``."""
    order = other.pop("ord", p)
    if {name for name, value in other.items() if value is not None}:
        step.refuse("is unknown to it with these arguments; leave them out")
    if order not in (None, "fro", 2, 1, math.inf) or (order == 1 and not isinstance(dim, int)):
        step.refuse(f"is unknown to it with order {order!r}; use the Euclidean norm, or 1 or inf")
    if order == math.inf and not isinstance(dim, int):
        step.refuse("is unknown to it with order inf over several axes; use `amax`")
    entries = step.reduced(x, dim)
    return float(x.bound * (math.sqrt(entries) if order == 1 else 1))


def _sort(step: Step, x: Any, dim: int = -1, descending: bool = False, **_: Any) -> float:
    step.reduced(x, dim)
    return float(x.bound)


def _topk(
    step: Step,
    x: Any,
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,  # noqa: A002
) -> float:
    step.reduced(x, dim)
    return float(x.bound)


def _add(step: Step, a: Any, b: Any, alpha: float = 1) -> float:
    parts = ((a, 1.0), (b, abs(alpha)))
    return sum(
        weight * value.bound * step.spread(value)
        for value, weight in parts
        if isinstance(value, Tracked)
    )


def _rsub(step: Step, a: Any, b: Any) -> float:
    return _add(step, a, b)


def _mul(step: Step, a: Any, b: Any) -> float:
    if isinstance(a, Tracked) and isinstance(b, Tracked):
        step.refuse(PRODUCT)
    x, scale = (a, b) if isinstance(a, Tracked) else (b, a)
    return float(x.bound * _scaling(step, x, torch.as_tensor(scale).abs().double()))


def _div(step: Step, a: Any, b: Any) -> float:
    if isinstance(b, Tracked):
        step.refuse(STEEP if not isinstance(a, Tracked) else PRODUCT)
    return float(a.bound * _scaling(step, a, 1 / torch.as_tensor(b).abs().double()))


def _scaling(step: Step, x: Tensor, scale: Tensor) -> float:
    """The norm of an entrywise product with a constant, where x may be broadcast to it."""
    step.spread(x)
    square = scale.square().expand(step.shape)
    for axis, size in enumerate(x.shape):
        if size == 1:
            square = square.sum(axis, keepdim=True)
    return math.sqrt(float(square.max())) if square.numel() else 0.0


def _matmul(step: Step, a: Any, b: Any) -> float:
    if isinstance(a, Tracked) and isinstance(b, Tracked):
        step.refuse(PRODUCT)
    x, weight = (a, b) if isinstance(a, Tracked) else (b, a)
    if weight.dim() > 2:
        step.refuse("multiplies by several matrices; use one matrix, [k, m]")
    if x.dim() < (2 if x is a else 3):
        step.refuse(MIXES)
    return float(x.bound * step.norm(weight if weight.dim() == 2 else weight[:, None]))


def _rmatmul(step: Step, a: Any, b: Any) -> float:
    return _matmul(step, b, a)


def _larger(step: Step, a: Any, b: Any) -> float:
    """``|max(a, b) - max(c, d)|^2 <= |a - c|^2 + |b - d|^2``."""
    return math.hypot(*(t.bound * step.spread(t) for t in (a, b) if isinstance(t, Tracked)))


def _max(step: Step, x: Any, *args: Any, **options: Any) -> float:
    """``max(x, dim)`` or ``max(x, other)``."""
    other = args[0] if args else options.get("other")
    if isinstance(other, Tensor):
        return _larger(step, x, other)
    return _extreme(step, x, *args, **options)


def _cat(step: Step, tensors: Sequence[Tensor], dim: int = 0) -> float:
    if dim % len(step.shape) == 0:
        step.refuse(MIXES)
    return math.hypot(*(t.bound for t in tensors if isinstance(t, Tracked)))


# Rules of functions with one argument that depends on the sample, and of those with several.
STEPS: dict[str, Callable[..., float]] = {
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "pad": _pad,
    "interpolate": _interpolate,
    "sum": _sum,
    "mean": _mean,
    "norm": _norm,
    "sort": _sort,
    "topk": _topk,
    **dict.fromkeys(("amax", "amin", "logsumexp"), _extreme),
    **dict.fromkeys(DROPOUTS, _dropout),
    **{f"conv{n}d": _convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _average_pool for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _adaptive_average_pool for n in (1, 2, 3)},
    **{f"max_pool{n}d": _max_pool for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _adaptive_max_pool for n in (1, 2, 3)},
}
JOINS: dict[str, Callable[..., float]] = {
    "add": _add,
    "sub": _add,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "matmul": _matmul,
    "__rmatmul__": _rmatmul,
    "cat": _cat,
    "stack": _cat,
    **dict.fromkeys(("maximum", "minimum"), _larger),
    **dict.fromkeys(("max", "min"), _max),
}


def _each(value: Any, dims: int) -> tuple[Any, ...]:
    """One number for each axis."""
    if isinstance(value, Sequence):
        return tuple(value) * (dims if len(value) == 1 else 1)
    return (value,) * dims
