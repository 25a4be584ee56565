"""How steep a critic can be: a certified bound from above, and an attack from below.

:func:`certify` runs the critic's own forward once, on stand-ins without values that carry a shape
and a bound. Every torch function that meets a stand-in is intercepted; it has a rule here, or the
critic is refused. What cannot be intercepted cannot pass either: it leaves a tensor on the `meta`
device that is no stand-in, which the next function or the end of the forward notices.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from wgan.errors import UserError
from wgan.layers import GroupSort
from wgan.layers import convolution as conv
from wgan.types import Scores

_EPSILON = 2.0**-52  # of float64
_ROWS = 5  # samples the forward is shown at least, so that one that mixes samples is noticed
_EXPLICIT = 2**20  # entries up to which a convolution is written out as a matrix: a second
_FINE = 2e8  # multiplications that a finer grid of frequencies may cost: a second
_LONGEST = 1024  # axis up to which a pooling is written out as a matrix


@dataclass(frozen=True)
class Certificate:
    """A proof that no slope of a critic exceeds a number.

    Attributes:
        constant: Upper bound of ``sup |f(x) - f(y)| / |x - y|``, ``|.|`` the Euclidean norm of the
            flat sample, in score per data unit; >= 0, the margin included.
        layers: Module path, and function where the call is not a layer's, with the bound of each
            step that is not 1, in the order of the forward. In a chain their product, times
            ``1 + margin``, is the constant.
        margin: Relative margin for the rounding of this computation, see :func:`certify`.
    """

    constant: float
    layers: tuple[tuple[str, float], ...]
    margin: float

    def explain(self) -> str:
        """What may be concluded, in one paragraph."""
        steepest = sorted(self.layers, key=lambda layer: -layer[1])[:3]
        named = ", ".join(f"`{name}` {bound:.4g}" for name, bound in steepest)
        made = f"{len(self.layers)} steps have a bound other than 1" + (
            f", the largest {named}; " if named else "; "
        )
        return (
            f"No slope of this critic exceeds {self.constant:.6g}, in the Euclidean norm of the "
            "flat sample, with the weights as they stand and in eval mode. "
            f"{made}bounds multiply along a path and add where paths meet. "
            f"A relative margin of {self.margin:.1g} for rounding is included. It is an upper "
            "bound: the steepest slope may be far smaller, and scores divided by it are "
            "1-Lipschitz."
        )


def certify(
    critic: nn.Module, shape: Sequence[int], condition: Tensor | None = None
) -> Certificate:
    """A certified upper bound on the Lipschitz constant of a critic's score.

    ``|f(x) - f(y)| <= constant |x - y|`` for all samples x, y, from a bound per step: products
    along paths, sums where paths are added, the root of the sum of squares where they are joined.

    - Dense layers: the largest singular value in float64, of the weight as the layer uses it
      (spectrally normalised, orthogonal, weight-normalised, ...).
    - Convolutions, plain and transposed: the largest singular value of the explicit matrix where it
      is small, else :func:`wgan.layers.convolution.operator_norm_bound`, both with stride and
      zero padding. Never a power iteration.
    - Activations by their largest slope; GroupSort, sorting, maxima: 1; average pooling by its
      matrix, max pooling by the root of how many windows share an entry; whatever only moves
      entries by the root of how often one entry is copied.
    - Batch norm as the affine map that it is in eval mode.

    The bound is that of :func:`float64_copy`: eval mode, whatever mode the critic is in, weights as
    they stand, exact arithmetic. A float32 critic rounds its scores by about 1e-6 of their size on
    top, so evaluate that copy where it matters. The critic itself is not touched.

    The margin: singular values of an m x n matrix are taken as exact to ``4 max(m, n) eps``, eps =
    2^-52 (LAPACK's driver is backward stable, with a modestly growing factor; the observed error is
    a few eps), those of a convolution's Fourier sums with 64 eps more, and every step adds 8 eps.

    Args:
        critic: Gives :class:`wgan.types.Scores`, ``[batch]`` or ``[batch, 1]``, one sample's score
            independent of the others.
        shape: Of one sample.
        condition: ``[k]`` or ``[n, k]``, handed to the critic beside the values, for a critic that
            takes one. It counts as constant. Where it is only joined to the values, the bound holds
            for every condition; where it scales them, for each of those given.

    Raises:
        UserError: Names the layer or operation without a usable bound: normalisation by a sample's
            own moments, attention, recurrence, products of two values that depend on the sample,
            anything unknown, branches on values, random numbers, samples that mix; also weights
            that are not finite.

    Source: sums and products as Szegedy et al. 2014, section 4.3.
    """
    shape = tuple(shape)
    if not shape or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise UserError(f"`shape` must be the sizes of one sample, each >= 1, got {shape}")
    network = float64_copy(critic).cpu()
    inputs: list[Tensor] = []
    rows = _ROWS
    if condition is not None:
        given = condition.detach().cpu()
        given = given[None] if given.dim() == 1 else given
        if given.dim() != 2 or not len(given):
            raise UserError(f"`condition` must be [k] or [n, k], got {tuple(condition.shape)}")
        given = given.double() if given.is_floating_point() else given
        inputs.append(given.repeat(math.ceil(_ROWS / len(given)), 1))
        rows = len(inputs[0])
    follower = _Follower(network, rows)
    values = follower.track((rows, *shape), 1.0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        try:
            with follower:
                score = _score(network(values, *inputs), rows)
            bound = follower.finish(score)
        except UserError:
            raise
        except Exception as error:  # this runs the user's forward: anything may be raised
            raise UserError(
                f"certify: cannot follow the critic's forward on samples of shape {shape} "
                f"({type(error).__name__}: {error}); check `shape` and `condition`, and write the "
                "forward with torch's layers and functions"
            ) from error
        if not torch.equal(before, torch.get_rng_state()):
            raise UserError(
                "certify: the critic's forward draws random numbers, also in eval mode, so that it "
                "is not one function; leave them out"
            )
    margin = _EPSILON * follower.rounding
    return Certificate(bound * (1 + margin), tuple(follower.layers), margin)


def float64_copy(critic: nn.Module) -> nn.Module:
    """The critic as :func:`certify` takes it: a copy in eval mode and float64.

    A parametrised weight (spectral, orthogonal, ...) is computed once, in its own precision, as it
    stands, and kept; so no power iteration moves on. It takes float64 samples, on the critic's
    device.

    Raises:
        UserError: The critic cannot be copied, stays in training mode after ``eval()``, or has
            weights that are not finite.
    """
    # Weights that a hook of the older `torch.nn.utils.spectral_norm` computed do not copy by
    # themselves; the hook computes them again.
    computed = {
        id(value): value.detach().clone()
        for module in critic.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor)
    }
    try:
        network = deepcopy(critic, computed).eval().requires_grad_(False)
    except Exception as error:
        raise UserError(
            f"cannot copy the critic ({type(error).__name__}: {error}); make it of modules that "
            "`copy.deepcopy` copies, none of them scripted or compiled"
        ) from error
    for name, module in network.named_modules():
        if module.training:
            raise UserError(
                f"layer `{name or type(module).__name__}` stays in training mode after `eval()`, "
                "so that the critic is not one function; let its `train(False)` set `training`"
            )
    for module in network.modules():
        if parametrize.is_parametrized(module):
            _keep_weights(module)
    network = network.double()
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(module, name, value.double())
    for name, weight in (*network.named_parameters(), *network.named_buffers()):
        if not weight.isfinite().all():
            raise UserError(f"the critic's `{name}` is not finite; take an earlier checkpoint")
    return network


def empirical_slope(
    critic: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    condition: Tensor | None = None,
    steps: int = 50,
    seed: int = 0,
) -> float:
    """The steepest slope that an attack finds: a *lower* bound on the Lipschitz constant.

    ``max |f(a) - f(b)| / |a - b|`` over the pairs ``(x_i, y_i)`` themselves, over short steps
    along the gradient at random points of the segments between them, and over such steps at points
    reached from the 64 steepest by ascent: a move along the gradient, against it or in a random
    direction is kept where it is steeper. Every value is a difference quotient in float64 of
    :func:`float64_copy`, so that none exceeds the constant, but for rounding (about 1e-9 relative).
    It certifies nothing: a steeper slope may exist. For that see :func:`certify`.

    Args:
        critic: As for :func:`certify`, except that every layer is allowed that autograd passes.
        x, y: ``[n, *shape]`` each, n >= 1, in the data's units.
        condition: ``[n, k]``, one for each pair, for a critic that takes one.
        steps: Rounds of ascent, >= 0.
        seed: Of the points and directions.

    Returns:
        Score per data unit, in the Euclidean norm of the flat sample.

    Raises:
        UserError: Shapes that do not fit, values or scores that are not finite, ``steps < 0``; as
            :func:`float64_copy`.
    """
    if steps < 0:
        raise UserError(f"`steps` must be >= 0, got {steps}")
    if x.shape != y.shape or x.dim() < 2 or not len(x):
        raise UserError(
            "`x` and `y` must be pairs, both [n, *shape] with n >= 1, got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    if condition is not None and len(condition) != len(x):
        raise UserError(f"`condition` must have one row per pair, {len(x)}, got {len(condition)}")
    network = float64_copy(critic)
    home = next((weight.device for weight in network.parameters()), x.device)
    x, y = (side.detach().to(home, torch.float64) for side in (x, y))
    if not (x.isfinite().all() and y.isfinite().all()):
        raise UserError("`x` and `y` must be finite")
    if condition is not None:
        condition = condition.detach().to(home)
        condition = condition.double() if condition.is_floating_point() else condition
    attack = _Attack(network, x, y, condition, torch.Generator().manual_seed(seed))
    with torch.enable_grad():
        return attack.run(steps)


class _Attack:
    """The search of :func:`empirical_slope`."""

    starts = 64
    per_segment = 4
    chunk = 256

    def __init__(
        self,
        network: nn.Module,
        x: Tensor,
        y: Tensor,
        condition: Tensor | None,
        rng: torch.Generator,
    ) -> None:
        self.network, self.x, self.y, self.condition, self.rng = network, x, y, condition, rng
        apart = (x - y).flatten(1).norm(dim=1)
        apart = apart[apart > 0]
        self.reach = float(apart.median()) if len(apart) else 1.0

    def run(self, steps: int) -> float:
        best = float(self._quotient(self.x, self.y, self.condition).max())
        points: list[Tensor] = []
        pairs: list[Tensor] = []
        slopes: list[Tensor] = []
        for rows in _chunks(self.x, self.chunk):
            for _ in range(self.per_segment):
                share = self._uniform(len(rows), like=self.x)
                points.append(self.x[rows] + share * (self.y[rows] - self.x[rows]))
                slopes.append(self._steepness(points[-1], self._conditions(rows))[0])
                pairs.append(rows)
        at, slope, pair = torch.cat(points), torch.cat(slopes), torch.cat(pairs)
        slope, kept = slope.topk(min(self.starts, len(slope)))
        at, given = at[kept], self._conditions(pair[kept])
        _, direction = self._steepness(at, given)
        for step in range(steps):
            length = self.reach * 10 ** (-4 * self._uniform(len(at), like=at))
            noise = torch.randn(at.shape, generator=self.rng, dtype=at.dtype).to(at)
            way = (direction, _unit(noise), -direction)[step % 3]
            moved = at + length * way
            found, turned = self._steepness(moved, given)
            steeper = (found > slope).view(-1, *[1] * (at.dim() - 1))
            at, direction = torch.where(steeper, moved, at), torch.where(steeper, turned, direction)
            slope = torch.maximum(slope, found)
        return max(best, float(slope.max()))

    def _steepness(self, points: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """The quotient of a short step along the gradient ``[n]``, and the gradient's direction."""
        points = points.detach().requires_grad_(True)
        total = self._scores(points, given).sum()
        gradient = torch.zeros_like(points)
        if total.requires_grad:  # a constant critic has no gradient
            (found,) = torch.autograd.grad(total, points, allow_unused=True)
            gradient = gradient if found is None else found
        direction = _unit(gradient)
        points = points.detach()
        # A quotient and not the gradient's norm, which at a kink may be that of no slope at all.
        step = 1e-4 * self.reach * direction
        return self._quotient(points + step, points - step, given), direction

    def _quotient(self, a: Tensor, b: Tensor, given: Tensor | None) -> Tensor:
        """``|f(a) - f(b)| / |a - b|``, and 0 where a = b; ``[n]``."""
        slopes = []
        with torch.no_grad():
            for rows in _chunks(a, self.chunk):
                few = None if given is None else given[rows]
                rise = (self._scores(a[rows], few) - self._scores(b[rows], few)).abs()
                run = (a[rows] - b[rows]).flatten(1).norm(dim=1)
                slopes.append(torch.where(run > 0, rise / run.clamp_min(1e-300), 0.0))
        return torch.cat(slopes)

    def _scores(self, points: Tensor, given: Tensor | None) -> Tensor:
        points = points.clone()  # a forward may write into its input
        with _InFloat64():
            out = self.network(points) if given is None else self.network(points, given)
        score = _score(out, len(points)).reshape(len(points))
        if not score.isfinite().all():
            raise UserError("the critic's scores on these samples are not finite")
        return score

    def _conditions(self, rows: Tensor) -> Tensor | None:
        return None if self.condition is None else self.condition[rows]

    def _uniform(self, n: int, like: Tensor) -> Tensor:
        uniform = torch.rand(n, generator=self.rng, dtype=like.dtype).to(like)
        return uniform.view(-1, *[1] * (like.dim() - 1))


class _InFloat64(TorchFunctionMode):
    """Makes float64 of what a forward makes float32: constants, conversions of the sample."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if _name(func) == "float":
            return args[0].double()
        args, kwargs = _replaced((args, dict(kwargs or {})), _float64, torch.dtype)
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.dtype == torch.float32:
            return out.double()
        return out


def _chunks(samples: Tensor, size: int) -> tuple[Tensor, ...]:
    """The numbers of the rows, some at a time."""
    return torch.arange(len(samples), device=samples.device).chunk(-(-len(samples) // size))


def _unit(directions: Tensor) -> Tensor:
    length = directions.flatten(1).norm(dim=1).view(-1, *[1] * (directions.dim() - 1))
    return torch.where(length > 0, directions / length.clamp_min(1e-300), 0.0)


def _keep_weights(module: nn.Module) -> None:
    """Replace a module's parametrizations by the values that they give."""
    holder = module.parametrizations
    assert isinstance(holder, nn.ModuleDict)
    with torch.no_grad():
        values = {name: getattr(module, name).detach().clone() for name in holder}
    # Not `remove_parametrizations`: it would spoil the class that the original shares.
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _score(out: Any, rows: int) -> Tensor:
    """The scores ``[batch]`` or ``[batch, 1]`` out of what a critic returned."""
    score = out.score if isinstance(out, Scores) else out
    if not isinstance(score, Tensor) or score.shape not in ((rows,), (rows, 1)):
        given = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
        raise UserError(
            "the critic must return `Scores`, or one number per sample as [batch] or [batch, 1], "
            f"got {given} for {rows} samples"
        )
    return score


# Activations: their largest slope, as a function of their settings.


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


_SLOPES: dict[str, Callable[..., float]] = {
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
_DROPOUTS = _words(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout"
)
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

_SPREAD = (
    "divides a sample by its own moments, so that its slope has no useful bound; use norm `none` "
    "or `batch` (`critic_norm`) in its place"
)
_STEEP = "has no bound on its slope; use an activation of bounded slope in its place"
_JUMPS = "jumps, so that it has no bound on its slope; leave it out"
_PRODUCT = (
    "multiplies two values that both depend on the sample, so that its slope has no bound; use "
    "layers, sums and concatenations in its place"
)
_READS = (
    "reads values of the sample out of their tensor; write the forward without branches or loops "
    "that depend on them"
)
_RANDOM = "draws random numbers, so that the critic is not one function; leave it out"
_MIXES = (
    "mixes the samples of a batch or moves the batch from the first axis; let every step act on "
    "each sample by itself"
)

_NOT_FINITE = "has weights that are not finite; take an earlier checkpoint"

_REFUSED: dict[str, str] = {
    name: reason
    for reason, names in {
        _SPREAD: "layer_norm group_norm rms_norm local_response_norm normalize",
        _STEEP: "square pow __pow__ __rpow__ exp exp2 expm1 log log2 log10 log1p sqrt rsqrt "
        "reciprocal sinh cosh tan asin acos atanh lgamma lp_pool1d lp_pool2d lp_pool3d "
        "__rdiv__ __rtruediv__ prod cumprod",
        _JUMPS: "sign round floor ceil trunc frac fmod remainder __mod__ heaviside hardshrink gt "
        "lt ge le eq ne __gt__ __lt__ __ge__ __le__ __eq__ __ne__ argmax argmin argsort "
        "searchsorted bucketize long int short bool byte half bfloat16 where any all isnan "
        "isfinite isinf",
        _PRODUCT: "bmm baddbmm bilinear einsum glu scaled_dot_product_attention softmax "
        "log_softmax cosine_similarity cdist outer dot tensordot "
        "multi_head_attention_forward",
        _READS: "item tolist numpy __array__ __bool__ __float__ __int__ __index__ __contains__ "
        "nonzero unique allclose equal is_nonzero",
        _RANDOM: "rand_like randn_like randint_like bernoulli multinomial poisson normal "
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


class _Storage:
    """What tensors that share memory have in common: how often it was written to."""

    writes = 0


class _Tracked(Tensor):
    """A stand-in for a tensor that depends on the sample: no values, a shape and a bound.

    Row i depends on sample i alone, with a Lipschitz constant of at most `bound` in the Euclidean
    norm of the flat row. Infinity marks what may only be passed over (the positions of a sort).
    """

    bound: float
    storage_of: _Storage
    writes: int  # to the storage when the bound was found

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


class _Follower(TorchFunctionMode):
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
            elif type(module) in conv.CONVOLUTIONS and _on_the_torus(module):
                module.__dict__["forward"] = partial(self._circular, module)

    def track(self, shape: Sequence[int], bound: float, storage: _Storage | None = None) -> Tensor:
        """A stand-in of this shape and bound."""
        empty = torch.empty(tuple(shape), dtype=torch.float64, device="meta")
        tracked = Tensor._make_subclass(_Tracked, empty)
        assert isinstance(tracked, _Tracked)
        tracked.bound = bound
        tracked.storage_of = storage or _Storage()
        tracked.writes = tracked.storage_of.writes
        return tracked

    def finish(self, score: Tensor) -> float:
        """The bound of the forward's result."""
        if self.failure:  # which the forward caught, to go another way than it does on samples
            raise self.failure
        self._require_known([score])
        if isinstance(score, _Tracked):
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
        name = _name(func)
        if options.get("generator") is not None:
            self._refuse(name, _RANDOM)
        tracked = [tensor for tensor in tensors if isinstance(tensor, _Tracked)]
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
        tracked: list[_Tracked],
    ) -> Any:
        self._require_fresh(tracked)
        in_place = bool(options.pop("inplace", False))
        if name.endswith("_") and not name.endswith("__"):
            name, in_place = name[:-1], True
        first = args[0] if args else None
        alone = len(tracked) == 1 and first is tracked[0]
        if name in _CONSTANTS and alone:
            return func(_zeros(tracked[0]), *args[1:], **options)
        if not isinstance(first, _Tracked) and name in (_TO_THE_SHAPE_OF | _CONVERSIONS):
            shapes = _replaced((args, options), _zeros)
            return func(*shapes[0], **shapes[1])
        if in_place and not (isinstance(first, _Tracked) and name in _WRITERS):
            self._refuse(f"{name}_", "writes into a tensor; build the result anew in its place")
        if name in _REFUSED:
            self._refuse(name, _REFUSED[name])
        if name in _MOVES and isinstance(first, _Tracked):
            return self._move(func, name, first, args, options)
        if name in _CONVERSIONS and isinstance(first, _Tracked):
            return self._convert(name, first, (args[1:], options))
        joins = name in _JOINS
        rule = _JOINS.get(name) or _STEPS.get(name)
        if rule is None and name in _SLOPES:
            rule = partial(_elementwise, _SLOPES[name])
        if rule is None:
            self._refuse(
                name,
                "is unknown to it; write it with layers, activations, reshapings, sums, "
                "concatenations and poolings, or leave it out",
            )
        if not joins and not alone:
            self._refuse(name, _PRODUCT)

        out = func(*_replaced(args, _meta), **_replaced(options, _meta))
        shape = (out if isinstance(out, Tensor) else out[0]).shape
        self._require_rows(name, shape)
        step = _Step(self, name, func, torch.Size(shape))
        try:
            call = inspect.signature(rule).bind(step, *args, **options)
        except TypeError:
            given = ", ".join([*(type(arg).__name__ for arg in args), *options])
            self._refuse(name, f"is unknown to it with these arguments ({given}); leave them out")
        bound = rule(*call.args, **call.kwargs)
        if not math.isfinite(bound):
            self._refuse(
                name, "has no finite bound with these settings; change them or leave it out"
            )
        self._record(name, tracked, bound)
        if in_place:
            assert isinstance(first, _Tracked)
            first.storage_of.writes += 1
            first.writes = first.storage_of.writes
            first.bound = bound
            return first
        if name in _DROPOUTS:  # returns its argument itself
            return self.track(shape, bound, tracked[0].storage_of)
        if isinstance(out, Tensor):
            return self.track(shape, bound)
        positions = self.track(shape, math.inf)
        return type(out)((self.track(shape, bound), positions))

    def _move(
        self,
        func: Callable[..., Any],
        name: str,
        x: _Tracked,
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Run it on the numbers of the entries: the result shows which entry went where."""
        rest = (args[1:], options)
        if name in _TO_THE_SHAPE_OF:
            rest = _replaced(rest, _zeros)
        if any(isinstance(tensor, _Tracked) for tensor in _tensors(rest)):
            self._refuse(name, "uses values of the sample as positions, which jump; leave it out")
        numbers = torch.arange(1, x.numel() + 1, dtype=torch.float64).view(x.shape)
        out = func(numbers, *rest[0], **rest[1])
        whole = isinstance(out, Tensor)
        made = []
        for part in [out] if whole else out:
            factor = self._copies(name, x, part)
            shares = part.untyped_storage().data_ptr() == numbers.untyped_storage().data_ptr()
            self._record(name, [x], x.bound * factor)
            made.append(self.track(part.shape, x.bound * factor, x.storage_of if shares else None))
        return made[0] if whole else tuple(made)

    def _copies(self, name: str, x: Tensor, numbers: Tensor) -> float:
        """The root of how often one entry of x occurs in its own row of the result.

        `numbers` counts the entries of x from 1; 0 stands for a constant.
        """
        self._require_rows(name, numbers.shape)
        if numbers.dtype != torch.float64:
            self._refuse(name, "reads the memory of a tensor as another type; leave it out")
        flat = numbers.reshape(self.rows, -1) - 1
        moved = flat >= 0
        rows = torch.arange(self.rows)[:, None].expand_as(flat)[moved]
        entries = flat[moved].long()
        if not torch.equal(entries // max(1, x[0].numel()), rows):
            self._refuse(name, _MIXES)
        return math.sqrt(int(entries.bincount().max())) if len(entries) else 0.0

    def _convert(self, name: str, x: _Tracked, rest: Any) -> Tensor:
        """Another floating type or device: one rounding, which exact arithmetic does not have."""
        types = [tensor.dtype for tensor in _tensors(rest)]
        types += [given for given in _leaves(rest) if isinstance(given, torch.dtype)]
        if any(given not in (torch.float32, torch.float64) for given in types):
            self._refuse(name, _JUMPS)
        return self.track(x.shape, x.bound, x.storage_of)

    def _sorted(self, layer: GroupSort, values: Tensor) -> Any:
        """A sort is 1-Lipschitz as a whole, which its parts one by one do not show."""
        self._require_known([values])
        if not isinstance(values, _Tracked):
            return type(layer).forward(layer, values)
        self._require_fresh([values])
        if layer.axis % values.dim() == 0:
            self._refuse("sort", _MIXES)
        return self.track(values.shape, values.bound)

    def _circular(self, layer: Any, values: Tensor) -> Any:
        """Circular padding and its convolution are one step, whose norm is not their product's."""
        self._require_known([values])
        if not isinstance(values, _Tracked):
            return type(layer).forward(layer, values)
        self._require_fresh([values])
        shape = torch.Size((self.rows, layer.out_channels, *values.shape[2:]))
        step = _Step(self, "conv", type(layer).forward, shape)
        if values.dim() != layer.weight.dim() or values.shape[1] != layer.in_channels:
            step.refuse(f"takes {layer.in_channels} channels, got shape {tuple(values.shape)}")
        bound = values.bound * _on_any_grid(
            step, layer.weight, layer.stride, layer.dilation, layer.groups
        )
        self._record("conv", [values], bound)
        return self.track(shape, bound)

    def _record(self, name: str, tracked: list[_Tracked], bound: float) -> None:
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

    def _refuse(self, function: str, reason: str) -> NoReturn:
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

    def _require_fresh(self, tracked: Sequence[_Tracked]) -> None:
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
            self._refuse(name, _MIXES)


@dataclass
class _Step:
    """One call of a function without in-place effects, as its rule sees it.

    A rule takes the step and the call's own arguments and returns the result's bound.
    """

    follower: _Follower
    name: str
    func: Callable[..., Any]
    shape: torch.Size  # of the result

    def refuse(self, reason: str) -> NoReturn:
        self.follower._refuse(self.name, reason)

    def norm(self, matrix: Tensor) -> float:
        """The largest singular value; its rounding goes into the margin."""
        self.follower.rounding += 4 * max(matrix.shape)
        matrix = matrix.detach().double()
        if not matrix.isfinite().all():
            self.refuse(_NOT_FINITE)
        return float(torch.linalg.matrix_norm(matrix, 2)) if matrix.numel() else 0.0

    def spread(self, x: Tensor) -> float:
        """The norm of broadcasting x to the result's shape."""
        if x.dim() != len(self.shape) or x.shape[0] != self.shape[0]:
            self.refuse(_MIXES)
        return math.sqrt(math.prod(self.shape) / max(1, x.numel()))

    def reduced(self, x: Tensor, dim: int | Sequence[int] | None) -> int:
        """How many entries a reduction over these axes takes together."""
        axes = [dim] if isinstance(dim, int) else list(dim or ())
        axes = [axis % x.dim() for axis in axes]
        if not axes or 0 in axes:
            self.refuse(_MIXES)
        return math.prod(x.shape[axis] for axis in axes)

    @property
    def dims(self) -> int:
        """The spatial axes, of a function called `...2d`."""
        return int(self.name[-2])

    def window_axes(self, x: Tensor) -> list[int]:
        """The sizes of the spatial axes, the last ones."""
        if x.dim() <= self.dims:
            self.refuse(_MIXES)
        return list(x.shape[-self.dims :])


def _elementwise(slope: Callable[..., float], step: _Step, x: Any, *args: Any, **kw: Any) -> float:
    if step.shape != x.shape:
        step.refuse("changes the shape by broadcasting; expand the values first")
    try:
        settings = inspect.signature(slope).bind(*args, **kw)
    except TypeError:
        step.refuse("is unknown to it with these arguments; leave them out")
    return float(x.bound * slope(*settings.args, **settings.kwargs))


def _linear(step: _Step, x: Any, weight: Tensor, bias: Tensor | None = None) -> float:
    if x.dim() < 2:
        step.refuse(_MIXES)
    return float(x.bound * step.norm(weight))


def _convolution(
    step: _Step,
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
    step: _Step,
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
    step: _Step,
    x: Any,
    weight: Tensor,
    stride: Any,
    dilation: Any,
    groups: int,
    apply: Callable[..., Tensor],
) -> float:
    dims = step.dims
    if x.dim() != dims + 2:
        step.refuse(_MIXES)
    weight = weight.detach().double()
    numbers, outputs = math.prod(x.shape[1:]), math.prod(step.shape[1:])
    if numbers * outputs <= _EXPLICIT:
        matrix = _explicit(partial(apply, weight=weight), x.shape[1:], step.shape[1:])
        return float(x.bound * step.norm(matrix))
    strides, dilations = _each(stride, dims), _each(dilation, dims)
    return float(x.bound * _on_any_grid(step, weight, strides, dilations, groups))


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


def _on_any_grid(
    step: _Step,
    weight: Tensor,
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> float:
    """The bound for every size; on a grid of frequencies as fine as a second allows."""
    if not weight.isfinite().all():
        step.refuse(_NOT_FINITE)
    blocks = [
        math.ceil((gap * (size - 1) + 1) / s)
        for size, gap, s in zip(weight.shape[2:], dilations, strides, strict=True)
    ]
    rows, columns = weight.shape[0] // groups, weight.shape[1] * math.prod(strides)
    step.follower.rounding += 4 * max(rows, columns) + 64
    one = groups * rows * columns * min(rows, columns)
    fine = [n for n in (64, 32, 16) if one * math.prod(conv.frequencies(blocks, n)) <= _FINE]
    return conv.operator_norm_bound(weight, strides, dilations, groups, (*fine, 8)[0])


def _on_the_torus(layer: nn.Module) -> bool:
    """Whether circular padding makes a layer a convolution on the torus."""
    if getattr(layer, "padding_mode", "zeros") != "circular":
        return False
    try:
        conv.require_zero_padding(layer, "")
    except UserError:
        return False
    return True


def _batch_norm(
    step: _Step,
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
    step: _Step,
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
        step.refuse(_SPREAD)
    return _batch_norm(step, x, running_mean, running_var, weight, bias, False, momentum, eps)


def _dropout(step: _Step, x: Any, p: float = 0.5, training: bool = True) -> float:
    if training and p > 0:
        step.refuse(_RANDOM)
    return float(x.bound)


def _pad(
    step: _Step, x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> float:
    numbers = torch.arange(1, x.numel() + 1, dtype=torch.float64).view(x.shape)
    numbers = F.pad(numbers, pad, mode, 0 if mode == "constant" else None)
    return float(x.bound * step.follower._copies(step.name, x, numbers))


def _average_pool(
    step: _Step,
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


def _adaptive_average_pool(step: _Step, x: Any, output_size: Any) -> float:
    total = 1.0
    for size, out in zip(step.window_axes(x), step.shape[-step.dims :], strict=True):
        pool = partial(F.adaptive_avg_pool1d, output_size=out)
        total *= _norm_along(step, size, pool)
    return float(x.bound * total)


def _interpolate(
    step: _Step,
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


def _norm_along(step: _Step, size: int, apply: Callable[[Tensor], Tensor]) -> float:
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
    step: _Step,
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


def _adaptive_max_pool(
    step: _Step, x: Any, output_size: Any, return_indices: bool = False
) -> float:
    shared = 1
    for size, out in zip(step.window_axes(x), step.shape[-step.dims :], strict=True):
        windows = torch.cat(
            [torch.arange(i * size // out, -((i + 1) * size // -out)) for i in range(out)]
        )
        shared *= int(windows.bincount().max())
    return float(x.bound * math.sqrt(shared))


def _sum(step: _Step, x: Any, dim: Any = None, keepdim: bool = False) -> float:
    return float(x.bound * math.sqrt(step.reduced(x, dim)))


def _mean(step: _Step, x: Any, dim: Any = None, keepdim: bool = False) -> float:
    return float(x.bound / math.sqrt(max(1, step.reduced(x, dim))))


def _extreme(step: _Step, x: Any, dim: Any = None, keepdim: bool = False) -> float:
    """A maximum, minimum or soft maximum of groups of entries."""
    step.reduced(x, dim)
    return float(x.bound)


def _norm(
    step: _Step, x: Any, p: Any = None, dim: Any = None, keepdim: bool = False, **other: Any
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


def _sort(step: _Step, x: Any, dim: int = -1, descending: bool = False, **_: Any) -> float:
    step.reduced(x, dim)
    return float(x.bound)


def _topk(
    step: _Step,
    x: Any,
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,  # noqa: A002
) -> float:
    step.reduced(x, dim)
    return float(x.bound)


def _add(step: _Step, a: Any, b: Any, alpha: float = 1) -> float:
    parts = ((a, 1.0), (b, abs(alpha)))
    return sum(
        weight * value.bound * step.spread(value)
        for value, weight in parts
        if isinstance(value, _Tracked)
    )


def _rsub(step: _Step, a: Any, b: Any) -> float:
    return _add(step, a, b)


def _mul(step: _Step, a: Any, b: Any) -> float:
    if isinstance(a, _Tracked) and isinstance(b, _Tracked):
        step.refuse(_PRODUCT)
    x, scale = (a, b) if isinstance(a, _Tracked) else (b, a)
    return float(x.bound * _scaling(step, x, torch.as_tensor(scale).abs().double()))


def _div(step: _Step, a: Any, b: Any) -> float:
    if isinstance(b, _Tracked):
        step.refuse(_STEEP if not isinstance(a, _Tracked) else _PRODUCT)
    return float(a.bound * _scaling(step, a, 1 / torch.as_tensor(b).abs().double()))


def _scaling(step: _Step, x: Tensor, scale: Tensor) -> float:
    """The norm of an entrywise product with a constant, where x may be broadcast to it."""
    step.spread(x)
    square = scale.square().expand(step.shape)
    for axis, size in enumerate(x.shape):
        if size == 1:
            square = square.sum(axis, keepdim=True)
    return math.sqrt(float(square.max())) if square.numel() else 0.0


def _matmul(step: _Step, a: Any, b: Any) -> float:
    if isinstance(a, _Tracked) and isinstance(b, _Tracked):
        step.refuse(_PRODUCT)
    x, weight = (a, b) if isinstance(a, _Tracked) else (b, a)
    if weight.dim() > 2:
        step.refuse("multiplies by several matrices; use one matrix, [k, m]")
    if x.dim() < (2 if x is a else 3):
        step.refuse(_MIXES)
    return float(x.bound * step.norm(weight if weight.dim() == 2 else weight[:, None]))


def _rmatmul(step: _Step, a: Any, b: Any) -> float:
    return _matmul(step, b, a)


def _larger(step: _Step, a: Any, b: Any) -> float:
    """``|max(a, b) - max(c, d)|^2 <= |a - c|^2 + |b - d|^2``."""
    return math.hypot(*(t.bound * step.spread(t) for t in (a, b) if isinstance(t, _Tracked)))


def _max(step: _Step, x: Any, *args: Any, **options: Any) -> float:
    """``max(x, dim)`` or ``max(x, other)``."""
    other = args[0] if args else options.get("other")
    if isinstance(other, Tensor):
        return _larger(step, x, other)
    return _extreme(step, x, *args, **options)


def _cat(step: _Step, tensors: Sequence[Tensor], dim: int = 0) -> float:
    if dim % len(step.shape) == 0:
        step.refuse(_MIXES)
    return math.hypot(*(t.bound for t in tensors if isinstance(t, _Tracked)))


# Rules of functions with one argument that depends on the sample, and of those with several.
_STEPS: dict[str, Callable[..., float]] = {
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
    **dict.fromkeys(_DROPOUTS, _dropout),
    **{f"conv{n}d": _convolution for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _transposed for n in (1, 2, 3)},
    **{f"avg_pool{n}d": _average_pool for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": _adaptive_average_pool for n in (1, 2, 3)},
    **{f"max_pool{n}d": _max_pool for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": _adaptive_max_pool for n in (1, 2, 3)},
}
_JOINS: dict[str, Callable[..., float]] = {
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
_WRITERS = frozenset(_SLOPES) | _DROPOUTS | {"add", "sub", "mul", "div"}


def _name(func: Callable[..., Any]) -> str:
    """What a function is called; for an attribute its name."""
    name = str(getattr(func, "__name__", func))
    if name == "__get__":
        attribute = func.__self__  # type: ignore[attr-defined]
        name = str(getattr(getattr(attribute, "fget", attribute), "__name__", attribute))
    return _SAME_NAME.get(name, name)


def _is_layer(module: nn.Module) -> bool:
    return type(module).__module__.startswith(("torch.nn.", "wgan.layers."))


def _each(value: Any, dims: int) -> tuple[Any, ...]:
    """One number for each axis."""
    if isinstance(value, Sequence):
        return tuple(value) * (dims if len(value) == 1 else 1)
    return (value,) * dims


def _meta(tensor: Tensor) -> Tensor:
    # float64 because a constant that the forward makes is float32, as the critic itself was
    return tensor.to("meta", torch.float64 if tensor.is_floating_point() else tensor.dtype)


def _zeros(tensor: Tensor) -> Tensor:
    """For a stand-in any values of its shape, where only that matters."""
    if not isinstance(tensor, _Tracked):
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


def _float64(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float32 else dtype


def _replaced(structure: Any, change: Callable[[Any], Any], kind: type = Tensor) -> Any:
    """The same nest of tuples, lists and dictionaries, what is of a kind changed."""
    if isinstance(structure, (tuple, list)):
        return type(structure)([_replaced(part, change, kind) for part in structure])
    if isinstance(structure, dict):
        return {name: _replaced(part, change, kind) for name, part in structure.items()}
    return change(structure) if isinstance(structure, kind) else structure
