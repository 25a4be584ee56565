"""Follow a critic's forward with bounds in place of values.

The forward runs once, on stand-ins without values that carry a shape and a bound. Every torch
function that meets a stand-in is intercepted; it has a rule, or the critic is refused. What cannot
be intercepted cannot pass either: it leaves a tensor on the `meta` device that is no stand-in,
which the next function or the end of the forward notices.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wgan.bounds.rules import DROPOUTS, JOINS, SLOPES, STEPS, elementwise, on_any_grid, on_the_torus
from wgan.bounds.standin import MIXES, PRODUCT, RANDOM, SPREAD, STEEP, Step, Storage, Tracked
from wgan.errors import UserError
from wgan.layers import GroupSort
from wgan.layers import convolution as conv
from wgan.types import Scores


def one_score(out: Any, rows: int) -> Tensor:
    """The scores ``[batch]`` or ``[batch, 1]`` out of what a critic returned."""
    score = out.score if isinstance(out, Scores) else out
    if not isinstance(score, Tensor) or score.shape not in ((rows,), (rows, 1)):
        given = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
        raise UserError(
            "the critic must return `Scores`, or one number per sample as [batch] or [batch, 1], "
            f"got {given} for {rows} samples"
        )
    return score


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Functions that only move, copy or drop entries.
_MOVES = _words(
    "reshape view flatten unflatten squeeze unsqueeze permute transpose swapaxes swapdims movedim "
    "moveaxis mT narrow select __getitem__ index_select chunk split tensor_split split_with_sizes "
    "unbind expand repeat tile repeat_interleave flip fliplr flipud roll rot90 pixel_shuffle "
    "pixel_unshuffle channel_shuffle unfold clone contiguous detach data diagonal tril triu gather "
    "view_as reshape_as expand_as"
)
_TO_THE_SHAPE_OF = _words("view_as reshape_as expand_as")
_CONVERSIONS = _words("to float double type_as cpu cuda")
_CONSTANTS = _words("zeros_like ones_like full_like new_zeros new_ones new_full new_tensor")
# What a forward may read of a tensor whose values are not known.
_FACTS = _words(
    "shape ndim dtype layout requires_grad is_cuda is_cpu is_nested is_sparse is_quantized names "
    "is_mps is_xla is_xpu size dim ndimension numel nelement is_floating_point is_complex __len__ "
    "is_contiguous __hash__ __repr__ __format__"
)
_SAME_NAME = {
    **dict.fromkeys(("__add__", "__radd__"), "add"),
    **dict.fromkeys(("__sub__", "subtract"), "sub"),
    "__rsub__": "rsub",
    **dict.fromkeys(("__mul__", "__rmul__", "multiply"), "mul"),
    **dict.fromkeys(("__truediv__", "__div__", "divide", "true_divide"), "div"),
    **dict.fromkeys(("__matmul__", "mm", "mv"), "matmul"),
    **dict.fromkeys(("concat", "concatenate"), "cat"),
    **dict.fromkeys(("__neg__", "negative"), "neg"),
    **dict.fromkeys(("__abs__", "absolute"), "abs"),
    "clip": "clamp",
    "linalg_norm": "norm",
    "linalg_vector_norm": "norm",
    **{f"__i{name}__": f"{name}_" for name in ("add", "sub", "mul")},
    **dict.fromkeys(("__itruediv__", "__idiv__"), "div_"),
}
_JUMPS = "jumps, so that it has no bound on its slope; leave it out"
_READS = (
    "reads values of the sample out of their tensor; write the forward without branches or loops "
    "that depend on them"
)
_REFUSED: dict[str, str] = {
    name: reason
    for reason, names in {
        SPREAD: "layer_norm group_norm rms_norm local_response_norm normalize",
        STEEP: "square pow __pow__ __rpow__ exp exp2 expm1 log log2 log10 log1p sqrt rsqrt "
        "reciprocal sinh cosh tan asin acos atanh lgamma lp_pool1d lp_pool2d lp_pool3d "
        "__rdiv__ __rtruediv__ prod cumprod",
        _JUMPS: "sign round floor ceil trunc frac fmod remainder __mod__ heaviside hardshrink gt "
        "lt ge le eq ne __gt__ __lt__ __ge__ __le__ __eq__ __ne__ argmax argmin argsort "
        "searchsorted bucketize long int short bool byte half bfloat16 where any all isnan "
        "isfinite isinf",
        PRODUCT: "bmm baddbmm bilinear einsum glu scaled_dot_product_attention softmax "
        "log_softmax cosine_similarity cdist outer dot tensordot "
        "multi_head_attention_forward",
        _READS: "item tolist numpy __array__ __bool__ __float__ __int__ __index__ __contains__ "
        "nonzero unique allclose equal is_nonzero",
        RANDOM: "rand_like randn_like randint_like bernoulli multinomial poisson normal "
        "gumbel_softmax",
    }.items()
    for name in names.split()
}
_REFUSED_LAYERS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    (
        (nn.RNNBase, nn.RNNCellBase),
        "is recurrent: its gates multiply values that depend on the sample, and no useful bound is "
        "known; use convolutions or dense layers in its place",
    ),
    (
        (nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoderLayer),
        "is attention, which has no Lipschitz constant (Kim, Papamakarios, Mnih 2021); use "
        "convolutions or dense layers in its place",
    ),
)


class Follower(TorchFunctionMode):
    """Intercepts every torch function of a forward and gives its result a bound."""

    def __init__(self, network: nn.Module, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.layers: list[tuple[str, float]] = []
        self.rounding = 8.0  # in units of eps: the last product
        self.stack: list[tuple[str, nn.Module]] = []
        self.failure: Exception | None = None
        for name, module in network.named_modules():
            module.register_forward_pre_hook(partial(self._enter, name), prepend=True)
            module.register_forward_hook(self._leave)
            if vars(module).keys() & {"forward", "_conv_forward"}:
                continue  # not the layer that its class says
            if type(module) is GroupSort:
                module.__dict__["forward"] = partial(self._sorted, module)
            elif type(module) in conv.CONVOLUTIONS and on_the_torus(module):
                module.__dict__["forward"] = partial(self._circular, module)

    def track(self, shape: Sequence[int], bound: float, storage: Storage | None = None) -> Tensor:
        """A stand-in of this shape and bound."""
        empty = torch.empty(tuple(shape), dtype=torch.float64, device="meta")
        tracked = Tensor._make_subclass(Tracked, empty)
        assert isinstance(tracked, Tracked)
        tracked.bound = bound
        tracked.storage_of = storage or Storage()
        tracked.writes = tracked.storage_of.writes
        return tracked

    def finish(self, score: Tensor) -> float:
        """The bound of the forward's result."""
        if self.failure:  # which the forward caught, to go another way than it does on samples
            raise self.failure
        self._require_known([score])
        if isinstance(score, Tracked):
            self._require_fresh([score])
            return score.bound
        return 0.0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        tensors = list(_tensors((args, options)))
        self._require_known(tensors)
        name = name_of(func)
        if options.get("generator") is not None:
            self.refuse(name, RANDOM)
        tracked = [tensor for tensor in tensors if isinstance(tensor, Tracked)]
        if not tracked:
            return func(*args, **options)
        if name in ("device", "is_meta"):
            return torch.device("cpu") if name == "device" else False
        if name in _FACTS:
            return func(*args, **options)
        if not args and "input" in options:
            args = (options.pop("input"),)
        for own, numpy in (("dim", "axis"), ("keepdim", "keepdims")):
            if numpy in options:
                options[own] = options.pop(numpy)
        try:
            return self._follow(func, name, args, options, tracked)
        except Exception as error:
            self.failure = self.failure or error
            raise

    def _follow(
        self,
        func: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        options: dict[str, Any],
        tracked: list[Tracked],
    ) -> Any:
        self._require_fresh(tracked)
        in_place = bool(options.pop("inplace", False))
        if name.endswith("_") and not name.endswith("__"):
            name, in_place = name[:-1], True
        first = args[0] if args else None
        alone = len(tracked) == 1 and first is tracked[0]
        if name in _CONSTANTS and alone:
            return func(_zeros(tracked[0]), *args[1:], **options)
        if not isinstance(first, Tracked) and name in (_TO_THE_SHAPE_OF | _CONVERSIONS):
            shapes = replaced((args, options), _zeros)
            return func(*shapes[0], **shapes[1])
        if in_place and not (isinstance(first, Tracked) and name in _WRITERS):
            self.refuse(f"{name}_", "writes into a tensor; build the result anew in its place")
        if name in _REFUSED:
            self.refuse(name, _REFUSED[name])
        if name in _MOVES and isinstance(first, Tracked):
            return self._move(func, name, first, args, options)
        if name in _CONVERSIONS and isinstance(first, Tracked):
            return self._convert(name, first, (args[1:], options))
        joins = name in JOINS
        rule = JOINS.get(name) or STEPS.get(name)
        if rule is None and name in SLOPES:
            rule = partial(elementwise, SLOPES[name])
        if rule is None:
            self.refuse(
                name,
                "is unknown to it; write it with layers, activations, reshapings, sums, "
                "concatenations and poolings, or leave it out",
            )
        if not joins and not alone:
            self.refuse(name, PRODUCT)

        out = func(*replaced(args, _meta), **replaced(options, _meta))
        shape = (out if isinstance(out, Tensor) else out[0]).shape
        self._require_rows(name, shape)
        step = Step(self, name, func, torch.Size(shape))
        try:
            call = inspect.signature(rule).bind(step, *args, **options)
        except TypeError:
            given = ", ".join([*(type(arg).__name__ for arg in args), *options])
            self.refuse(name, f"is unknown to it with these arguments ({given}); leave them out")
        bound = rule(*call.args, **call.kwargs)
        if not math.isfinite(bound):
            self.refuse(
                name, "has no finite bound with these settings; change them or leave it out"
            )
        self._record(name, tracked, bound)
        if in_place:
            assert isinstance(first, Tracked)
            first.storage_of.writes += 1
            first.writes = first.storage_of.writes
            first.bound = bound
            return first
        if name in DROPOUTS:  # returns its argument itself
            return self.track(shape, bound, tracked[0].storage_of)
        if isinstance(out, Tensor):
            return self.track(shape, bound)
        positions = self.track(shape, math.inf)
        return type(out)((self.track(shape, bound), positions))

    def _move(
        self,
        func: Callable[..., Any],
        name: str,
        x: Tracked,
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Run it on the numbers of the entries: the result shows which entry went where."""
        rest = (args[1:], options)
        if name in _TO_THE_SHAPE_OF:
            rest = replaced(rest, _zeros)
        if any(isinstance(tensor, Tracked) for tensor in _tensors(rest)):
            self.refuse(name, "uses values of the sample as positions, which jump; leave it out")
        numbers = torch.arange(1, x.numel() + 1, dtype=torch.float64).view(x.shape)
        out = func(numbers, *rest[0], **rest[1])
        whole = isinstance(out, Tensor)
        made = []
        for part in [out] if whole else out:
            factor = self.copies(name, x, part)
            shares = part.untyped_storage().data_ptr() == numbers.untyped_storage().data_ptr()
            self._record(name, [x], x.bound * factor)
            made.append(self.track(part.shape, x.bound * factor, x.storage_of if shares else None))
        return made[0] if whole else tuple(made)

    def copies(self, name: str, x: Tensor, numbers: Tensor) -> float:
        """The root of how often one entry of x occurs in its own row of the result.

        `numbers` counts the entries of x from 1; 0 stands for a constant.
        """
        self._require_rows(name, numbers.shape)
        if numbers.dtype != torch.float64:
            self.refuse(name, "reads the memory of a tensor as another type; leave it out")
        flat = numbers.reshape(self.rows, -1) - 1
        moved = flat >= 0
        rows = torch.arange(self.rows)[:, None].expand_as(flat)[moved]
        entries = flat[moved].long()
        if not torch.equal(entries // max(1, x[0].numel()), rows):
            self.refuse(name, MIXES)
        return math.sqrt(int(entries.bincount().max())) if len(entries) else 0.0

    def _convert(self, name: str, x: Tracked, rest: Any) -> Tensor:
        """Another floating type or device: one rounding, which exact arithmetic does not have."""
        types = [tensor.dtype for tensor in _tensors(rest)]
        types += [given for given in _leaves(rest) if isinstance(given, torch.dtype)]
        if any(given not in (torch.float32, torch.float64) for given in types):
            self.refuse(name, _JUMPS)
        return self.track(x.shape, x.bound, x.storage_of)

    def _sorted(self, layer: GroupSort, values: Tensor) -> Any:
        """A sort is 1-Lipschitz as a whole, which its parts one by one do not show."""
        self._require_known([values])
        if not isinstance(values, Tracked):
            return type(layer).forward(layer, values)
        self._require_fresh([values])
        if layer.axis % values.dim() == 0:
            self.refuse("sort", MIXES)
        return self.track(values.shape, values.bound)

    def _circular(self, layer: Any, values: Tensor) -> Any:
        """Circular padding and its convolution are one step, whose norm is not their product's."""
        self._require_known([values])
        if not isinstance(values, Tracked):
            return type(layer).forward(layer, values)
        self._require_fresh([values])
        shape = torch.Size((self.rows, layer.out_channels, *values.shape[2:]))
        step = Step(self, "conv", type(layer).forward, shape)
        if values.dim() != layer.weight.dim() or values.shape[1] != layer.in_channels:
            step.refuse(f"takes {layer.in_channels} channels, got shape {tuple(values.shape)}")
        bound = values.bound * on_any_grid(
            step, layer.weight, layer.stride, layer.dilation, layer.groups
        )
        self._record("conv", [values], bound)
        return self.track(shape, bound)

    def _record(self, name: str, tracked: list[Tracked], bound: float) -> None:
        self.rounding += 8
        before = tracked[0].bound
        if len(tracked) == 1 and before > 0 and bound != before:
            self.layers.append((self._path(name), bound / before))

    def _path(self, function: str) -> str:
        """The running layer's path; the function too where it is not one of a layer's own."""
        if not self.stack:
            return function
        path, module = self.stack[-1]
        if _is_layer(module):
            return path or type(module).__name__
        return f"{path}.{function}" if path else function

    def _enter(self, name: str, module: nn.Module, _inputs: Any) -> None:
        self.stack.append((name, module))
        for kinds, reason in _REFUSED_LAYERS:
            if isinstance(module, kinds):
                self._stop(reason)

    def _leave(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self.stack.pop()

    def _where(self) -> str:
        path, module = self.stack[-1] if self.stack else ("", None)
        if module is not None and path:
            return f"layer `{path}` ({type(module).__name__})"
        return f"the critic ({type(module).__name__})" if module is not None else "the critic"

    def refuse(self, function: str, reason: str) -> NoReturn:
        self._stop(f"calls `{function}`, which {reason}")

    def _stop(self, reason: str) -> NoReturn:
        self.failure = self.failure or UserError(f"certify: {self._where()} {reason}")
        raise self.failure

    def _require_known(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            if tensor.is_meta and not hasattr(tensor, "bound"):
                self._stop(
                    "handles the sample by something that is no function "
                    "or method of torch (a scripted or compiled one, `torch.tensor(x)`, ...); "
                    "write it with torch's own"
                )

    def _require_fresh(self, tracked: Sequence[Tracked]) -> None:
        for tensor in tracked:
            if tensor.writes != tensor.storage_of.writes:
                self._stop(
                    "reads a tensor after another that shares its memory "
                    "was changed in place; use `inplace=False`"
                )
            if math.isinf(tensor.bound):
                self._stop(
                    "uses the positions of a sort or a maximum, which "
                    "jump, so that they have no bound on their slope; leave them out"
                )

    def _require_rows(self, name: str, shape: Sequence[int]) -> None:
        if not shape or shape[0] != self.rows:
            self.refuse(name, MIXES)


_WRITERS = frozenset(SLOPES) | DROPOUTS | {"add", "sub", "mul", "div"}


def name_of(func: Callable[..., Any]) -> str:
    """What a function is called; for an attribute its name."""
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        attribute = func.__self__  # type: ignore[attr-defined]
        name = str(getattr(getattr(attribute, "fget", attribute), "__name__", attribute))
    return _SAME_NAME.get(name, name)


def _is_layer(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.nn.", "wgan.layers."))


def _meta(tensor: Tensor) -> Tensor:
    # float64 because a constant that the forward makes is float32, as the critic itself was
    return tensor.to("meta", torch.float64 if tensor.is_floating_point() else tensor.dtype)


def _zeros(tensor: Tensor) -> Tensor:
    """For a stand-in any values of its shape, where only that matters."""
    if not isinstance(tensor, Tracked):
        return tensor
    return torch.zeros(tensor.shape, dtype=tensor.dtype)


def _leaves(structure: Any) -> Iterator[Any]:
    if isinstance(structure, (tuple, list)):
        for part in structure:
            yield from _leaves(part)
    elif isinstance(structure, dict):
        yield from _leaves(list(structure.values()))
    else:
        yield structure


def _tensors(structure: Any) -> Iterator[Tensor]:
    return (leaf for leaf in _leaves(structure) if isinstance(leaf, Tensor))


def replaced(structure: Any, change: Callable[[Any], Any], kind: type = Tensor) -> Any:
    """The same nest of tuples, lists and dictionaries, what is of a kind changed."""
    if isinstance(structure, (tuple, list)):
        return type(structure)([replaced(part, change, kind) for part in structure])
    if isinstance(structure, dict):
        return {name: replaced(part, change, kind) for name, part in structure.items()}
    return change(structure) if isinstance(structure, kind) else structure
