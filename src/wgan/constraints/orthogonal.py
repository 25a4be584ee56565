"""A critic that is 1-Lipschitz by construction."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from wgan.constraints.base import Constraint
from wgan.errors import UserError
from wgan.layers import GroupSort, orthogonalise
from wgan.types import Scores

_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh)
_KEPT = (nn.Flatten, nn.Unflatten, nn.Identity, nn.PixelUnshuffle, nn.PixelShuffle, GroupSort)
_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
# What a forward may do to one tensor without raising its slope: move, cut or squash its entries.
_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    torch.flatten,
    torch.reshape,
    torch.squeeze,
    torch.unsqueeze,
    torch.narrow,
    torch.relu,
    torch.tanh,
    F.relu,
    F.tanh,
)
_METHODS = (
    *("flatten", "reshape", "view", "squeeze", "unsqueeze", "contiguous", "narrow"),
    *("relu", "tanh"),
)


@dataclass(frozen=True)
class Orthogonal(Constraint):
    """Every layer orthogonal, every activation GroupSort: no slope of the critic exceeds 1.

    `prepare` makes Linear and convolutional layers orthogonal (:func:`wgan.layers.orthogonalise`)
    and replaces elementwise activations by :class:`wgan.layers.GroupSort`, which loses no slope.
    It first follows the critic's forward and accepts it only if it is a chain: each step has one
    input and is one of these layers, a reshaping, or pooling that does not raise a slope. A
    critic that adds or multiplies branches is refused, because the bound would not hold. A
    condition, where the critic takes one, must be joined to the values and not scale them.

    The scores are then a lower bound of W1 between the batches, in the data's units, up to 1e-5
    per layer.

    Args:
        group: Channels in a group of GroupSort, >= 2 (2: MaxMin).

    Source: Anil, Lucas, Grosse 2019; convolutions: Li et al. 2019.
    """

    group: int = 2

    name: ClassVar[str] = "orthogonal"

    def __post_init__(self) -> None:
        self.require("group", at_least=2)

    def prepare(self, critic: nn.Module) -> nn.Module:
        """Make the critic 1-Lipschitz, in place.

        Raises:
            UserError: Names the layer or operation that cannot be made so.
        """
        holder = nn.Sequential(critic)  # so that a critic that is one layer has a name too
        rng = torch.Generator().manual_seed(0)
        for name, axis in _chain(holder):
            layer = holder.get_submodule(name)
            if isinstance(layer, _LAYERS) and not parametrize.is_parametrized(layer):
                orthogonalise(layer, rng)
            elif isinstance(layer, _ACTIVATIONS):
                parent, _, own = name.rpartition(".")
                setattr(holder.get_submodule(parent), own, GroupSort(self.group, axis))
        return holder[0]


class _Tracer(fx.Tracer):
    """Follows forwards down to torch's own layers and this package's."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_leaf: bool = super().is_leaf_module(m, module_qualified_name)
        return is_leaf or type(m).__module__.startswith("wgan.layers.")


def _chain(network: nn.Module) -> list[tuple[str, int]]:
    """The layers that a forward passes, by name, with the axis of their channels.

    Raises:
        UserError: The forward cannot be followed, or is not a chain of steps that keep the slope.
    """
    already = [n for n, m in network.named_modules() if parametrize.is_parametrized(m)]
    if already:
        raise UserError(f"orthogonal: layer `{_own(already[0])}` has a parametrised weight already")
    try:
        graph = _Tracer().trace(network)
    except (
        Exception
    ) as error:  # tracing runs the user's forward on stand-ins: anything may be raised
        raise UserError(
            f"orthogonal: cannot follow the critic's forward ({error}); use a critic without "
            "branches that depend on the values"
        ) from error
    (output,) = (node for node in graph.nodes if node.op == "output")
    found: dict[str, int] = {}
    done: set[fx.Node] = set()
    waiting = list(output.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node in done:
            continue
        done.add(node)
        inputs = [source for source in node.all_input_nodes if not _is_size(source)]
        _accept(network, node, inputs)
        waiting.extend(inputs)
    for node in graph.nodes:  # in the order of the forward, so that names and draws are too
        if node in done and node.op == "call_module":
            found.setdefault(str(node.target), _channel_axis(network, node))
    return list(found.items())


def _accept(network: nn.Module, node: fx.Node, inputs: list[fx.Node]) -> None:
    """Raise `UserError` unless this step has one input and keeps its slope."""
    if node.op == "placeholder" or node.target is Scores:
        return
    target = str(getattr(node.target, "__name__", node.target))
    if len(inputs) != 1:
        raise UserError(
            f"orthogonal: the critic's forward joins {len(inputs)} tensors by `{target}`, which "
            "can raise the slope; use a critic whose layers form a chain"
        )
    if node.op == "call_module":
        layer = network.get_submodule(str(node.target))
        if not _keeps_slope(layer):
            raise UserError(
                f"orthogonal: cannot make layer `{_own(str(node.target))}` "
                f"({type(layer).__name__}) 1-Lipschitz; leave it out (critic_norm `none`, no "
                "dropout)"
            )
    elif not (node.target in _METHODS if node.op == "call_method" else node.target in _FUNCTIONS):
        raise UserError(
            f"orthogonal: the critic's forward calls `{target}`, which may raise the slope; use "
            "layers, activations and reshapings only"
        )


def _keeps_slope(layer: nn.Module) -> bool:
    if isinstance(layer, _AVERAGES):  # a kernel of sum 1 raises no frequency, if no edge is special
        whole = layer.count_include_pad or max(_numbers(layer.padding)) == 0
        return whole and not layer.ceil_mode and not getattr(layer, "divisor_override", None)
    if isinstance(layer, _MAXIMA):  # overlapping windows would count one entry several times
        apart = min(_numbers(layer.stride)) >= max(_numbers(layer.kernel_size))
        return apart and max(_numbers(layer.dilation)) == 1
    return isinstance(layer, (*_LAYERS, *_ACTIVATIONS, *_KEPT))


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else value


def _channel_axis(network: nn.Module, node: fx.Node) -> int:
    """The axis of the channels that reach a step: the last after Linear, 1 after a convolution."""
    source: fx.Node | None = node
    while source is not None and source.op != "placeholder":
        if source.op == "call_module" and source is not node:
            layer = network.get_submodule(str(source.target))
            if isinstance(layer, _LAYERS):
                return -1 if isinstance(layer, nn.Linear) else 1
        source = next((s for s in source.all_input_nodes if not _is_size(s)), None)
    return 1


def _is_size(node: fx.Node) -> bool:
    """Whether a value is a shape or a number out of one."""
    if node.op == "call_method":
        return node.target in ("size", "dim")
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] == "shape"
    return node.target is operator.getitem and all(map(_is_size, node.all_input_nodes))


def _own(name: str) -> str:
    """A layer's name in the critic, without the holder's."""
    return name.partition(".")[2] or name
