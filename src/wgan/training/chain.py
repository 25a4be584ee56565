"""What a network that is a chain gives, and its gradients, written out by hand.

A critic of linear layers, convolutions and (leaky) ReLUs is linear wherever the signs of its hidden
units stay the same. Its second derivative needs no differentiating twice, and no pass back through
the scores at a penalty's points; and real samples, fakes and points share every matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wgan.layers.product import product
from wgan.layers.thin import is_thin, spread
from wgan.networks import CriticNetwork, Generator
from wgan.types import Scores

Found = TypeVar("Found")

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_backward = torch.ops.aten.convolution_backward
_threshold: Any = torch.ops.aten.threshold_backward.grad_input
_leaky: Any = torch.ops.aten.leaky_relu_backward.grad_input


@dataclass(frozen=True)
class _Stage:
    """A linear layer or a convolution, and the slope below 0 of the ReLU behind it (None: none)."""

    layer: nn.Module
    leak: float | None

    @property
    def parameters(self) -> list[Tensor]:
        """The weight, and the bias where there is one."""
        return [p for p in (self.layer.weight, self.layer.bias) if isinstance(p, Tensor)]

    def taken(self, half: bool) -> _Taken:
        """The stage with its weights as they are now."""
        found = [p.detach().bfloat16() if half else p.detach() for p in self.parameters]
        linear = isinstance(self.layer, nn.Linear)
        return _Taken(self.layer, self.leak, linear, found[0], found[1] if found[1:] else None)


class _Taken(NamedTuple):
    """A stage in one pass. Small networks feel how long Python takes to find a weight."""

    layer: nn.Module
    leak: float | None
    linear: bool
    weight: Tensor
    bias: Tensor | None

    def ahead(self, values: Tensor, *, tangent: bool = False) -> Tensor:
        """The layer without its ReLU; of a `tangent` without its bias."""
        bias = None if tangent else self.bias
        if self.linear:
            return product(values.flatten(1), self.weight, bias)
        assert isinstance(self.layer, _CONVOLUTIONS)
        out: Tensor = self.layer._conv_forward(values, self.weight, bias)
        return out

    def gated_(self, values: Tensor) -> Tensor:
        """The ReLU, in place."""
        if self.leak is None:
            return values
        return F.relu_(values) if self.leak == 0 else F.leaky_relu_(values, self.leak)

    def gate(self, gradient: Tensor, after: Tensor, out: Tensor) -> Tensor:
        """What the ReLU lets through of a gradient, or of a tangent, where it gave `after`.

        Written to `out`, which may be `after`: large ones cost as much to move as to make.
        """
        if self.leak is None:
            return out.copy_(gradient)
        if self.leak == 0:
            _threshold(gradient, after, 0, grad_input=out)
        else:
            _leaky(gradient, after, self.leak, True, grad_input=out)
        return out

    def back(self, gradient: Tensor, inputs: Tensor) -> Tensor:
        """The gradient in the layer's inputs from that in its outputs."""
        if self.linear:
            found = product(gradient, self.weight.mT).view_as(inputs)
            # In the order of the inputs in memory: what goes through both is three times as fast.
            return torch.empty_like(inputs).copy_(found) if inputs.dim() > 2 else found
        return self._convolved(gradient, inputs, 0)

    def in_weight(self, gradient: Tensor, inputs: Tensor) -> Tensor:
        """The gradient in the weight."""
        if self.linear:
            return product(gradient.mT, inputs.flatten(1).mT)
        return self._convolved(gradient, inputs, 1)

    def _convolved(self, gradient: Tensor, inputs: Tensor, wanted: int) -> Tensor:
        layer = self.layer
        assert isinstance(layer, _CONVOLUTIONS)
        assert not isinstance(layer.padding, str)
        if wanted == 0 and _plain(layer) and is_thin(self.weight, gradient):
            return spread(gradient, self.weight, inputs.shape[2:], layer.stride, layer.padding)
        places = [layer.stride, layer.padding, layer.dilation, False, [0] * len(layer.stride)]
        mask = [wanted == 0, wanted == 1, False]
        found: Tensor = _backward(gradient, inputs, self.weight, None, *places, layer.groups, mask)[
            wanted
        ]
        return found


def _plain(layer: Any) -> bool:
    """Whether a convolution has neither groups nor gaps between its taps."""
    return layer.groups == 1 and set(layer.dilation) == {1}


class Chain:
    """A network as stages, each a linear layer or a convolution with its ReLU."""

    def __init__(self, network: CriticNetwork | Generator, stages: Sequence[_Stage]) -> None:
        self.network = network
        self.stages = stages

    @classmethod
    def of(cls, network: nn.Module) -> Chain | None:
        """The chain that a network is; None if a layer of it is of any other kind."""
        if type(network) not in (CriticNetwork, Generator):
            return None
        assert isinstance(network, (CriticNetwork, Generator))
        if type(network.body) is not nn.Sequential:
            return None
        layers = list(network.body)
        if isinstance(network, CriticNetwork):
            layers += [network.features, network.score]
        stages: list[_Stage] = []
        for layer in layers:
            if type(layer) in (nn.ReLU, nn.LeakyReLU):
                leak = getattr(layer, "negative_slope", 0.0)
                if not stages or stages[-1].leak is not None or leak < 0:
                    return None
                stages[-1] = _Stage(stages[-1].layer, leak)
            elif type(layer) is nn.Linear:
                stages.append(_Stage(layer, None))
            elif isinstance(layer, _CONVOLUTIONS) and type(layer) in _CONVOLUTIONS:
                if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
                    return None
                stages.append(_Stage(layer, None))
            elif type(layer) not in (nn.Flatten, nn.Identity):
                return None
        return cls(network, stages) if stages else None

    @property
    def free(self) -> bool:
        """Whether nobody waits for a forward of the network or of a layer."""
        modules = (self.network, *(stage.layer for stage in self.stages))
        return not any(m._forward_hooks or m._forward_pre_hooks for m in modules)

    def judge(
        self,
        values: Tensor,
        points: Tensor | None,
        condition: Tensor | None,
        *,
        fixed: bool = False,
        half: bool = False,
    ) -> tuple[Scores, Tensor]:
        """A critic's scores and features of values, and its slopes at points, in one pass.

        Args:
            values: ``[n, *shape]``; differentiable only without points.
            points: ``[m, *shape]``; None: none.
            condition: ``[b, k]``, repeated where n + m is a multiple of b.
            fixed: Whether the critic's parameters are constants.
            half: Whether weights and hidden units are taken in bfloat16. Scores, slopes and the
                gradients in parameters are float32 all the same.

        Returns:
            ``[n]`` and ``[n, k]``; ``[m, *shape]``.
        """
        both = self._joined(values, points, condition)
        score, features, slope = self._pass(both, len(values), fixed, half)
        return Scores(score.squeeze(1), features), slope[:, : values.shape[1]]

    def differentiate(
        self,
        values: Tensor,
        points: Tensor | None,
        condition: Tensor | None,
        weigh: Callable[[Scores, Tensor], tuple[Tensor, Found]],
        *,
        half: bool = False,
    ) -> tuple[list[Tensor], Found]:
        """The gradient, in the critic's parameters, of a loss of what :meth:`judge` gives.

        The same numbers without a graph, so that torch can compile all of it as one function.

        Args:
            values, points, condition, half: As of :meth:`judge`.
            weigh: From scores and slopes to the loss, and what else is to come back.

        Returns:
            In the order of `parameters`, and what `weigh` gave beside the loss.
        """
        both = self._joined(values, points, condition)
        with torch.no_grad(), torch.autocast(both.device.type, enabled=False):
            kept = _ahead([stage.taken(half) for stage in self.stages], both, len(values))

        def loss(score: Tensor, features: Tensor, slope: Tensor) -> tuple[Tensor, Found]:
            return weigh(Scores(score.squeeze(1), features), slope[:, : values.shape[1]])

        on, found = torch.func.grad(loss, (0, 1, 2), has_aux=True)(*kept.found())
        with torch.no_grad(), torch.autocast(both.device.type, enabled=False):
            on_slope = None if points is None else on[2]
            _, gradients = _back(
                *(kept, on[0], on[1], on_slope), wants_values=False, wants_parameters=True
            )
        return gradients, found

    def differentiate_under(
        self,
        critic: Chain,
        latent: Tensor,
        condition: Tensor | None,
        weigh: Callable[[Tensor, Scores], tuple[Tensor, Found]],
        *,
        half: bool = False,
    ) -> tuple[list[Tensor], Found]:
        """The gradient, in the generator's parameters, of a loss of fakes and their scores.

        Args:
            critic: Who gives the scores.
            latent: ``[n, k]``.
            condition: ``[b, c]``, repeated where n is a multiple of b; None: none.
            weigh: From fakes and scores to the loss, and what else is to come back.
            half: As of :meth:`judge`.

        Returns:
            In the order of `parameters`, and what `weigh` gave beside the loss.
        """
        assert isinstance(self.network, Generator)
        repeated = None if condition is None else condition.repeat(len(latent) // len(condition), 1)
        values = latent if repeated is None else torch.cat([latent, repeated], 1)
        with torch.no_grad(), torch.autocast(latent.device.type, enabled=False):
            made = _ahead([stage.taken(half) for stage in self.stages], values, len(values))
        shaped: Any = torch.func.vjp(self.network.shaped, made.found()[0])
        fakes, back = shaped
        with torch.no_grad(), torch.autocast(latent.device.type, enabled=False):
            both = critic._joined(fakes, None, condition)
            judged = _ahead([stage.taken(half) for stage in critic.stages], both, len(both))

        def loss(fakes: Tensor, score: Tensor, features: Tensor) -> tuple[Tensor, Found]:
            return weigh(fakes, Scores(score.squeeze(1), features))

        score, features, _ = judged.found()
        on, found = torch.func.grad(loss, (0, 1, 2), has_aux=True)(fakes, score, features)
        with torch.no_grad(), torch.autocast(latent.device.type, enabled=False):
            on_values, _ = _back(
                *(judged, on[1], on[2], None), wants_values=True, wants_parameters=False
            )
            assert on_values is not None
            (gradient,) = back(on[0] + on_values[:, : fakes.shape[1]])
            _, gradients = _back(
                *(made, gradient, None, None), wants_values=False, wants_parameters=True
            )
        return gradients, found

    @property
    def parameters(self) -> list[Tensor]:
        """Those of the stages in turn."""
        return [p for stage in self.stages for p in stage.parameters]

    def _joined(self, values: Tensor, points: Tensor | None, condition: Tensor | None) -> Tensor:
        assert isinstance(self.network, CriticNetwork)
        both = values if points is None else torch.cat([values, points])
        if condition is None:
            return both
        return self.network.joined(both, condition.repeat(len(both) // len(condition), 1))

    def generate(self, latent: Tensor, condition: Tensor | None) -> Tensor:
        """A generator's fakes ``[n, *shape]`` from latents ``[n, k]``."""
        assert isinstance(self.network, Generator)
        if condition is not None:
            latent = torch.cat([latent, condition], 1)
        return self.network.shaped(self._pass(latent, len(latent), False, False)[0])

    def _pass(
        self, values: Tensor, n: int, fixed: bool, half: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        parameters = [p.detach() for p in self.parameters] if fixed else self.parameters
        with torch.autocast(values.device.type, enabled=False):
            stages = [stage.taken(half) for stage in self.stages]
            found: tuple[Tensor, Tensor, Tensor] = _Pass.apply(  # type: ignore[no-untyped-call]
                stages, values, n, *parameters
            )
        return found


class _Pass(torch.autograd.Function):
    """Outputs, last hidden units and slopes; their gradient in parameters and values, once.

    With stages ``h' = gate(W h + b)``, ``D`` the gradient of an output in what comes before a gate
    and ``t`` a tangent, for a loss of outputs and slopes::

        slope = W_1' D_1,   D_i = gate(W_{i+1}' D_{i+1})
        dloss/dW_i = sum over values D_i h_{i-1}' + sum over points D_i t_{i-1}'
        t_0 = dloss/dslope,   t_i = gate(W_i t_{i-1})
    """

    @staticmethod
    def forward(
        ctx: Any, stages: Sequence[_Taken], values: Tensor, n: int, *parameters: Tensor
    ) -> Any:
        ctx.kept = _ahead(stages, values, n)
        ctx.set_materialize_grads(False)
        return ctx.kept.found()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *on: Any) -> Any:
        kept, ctx.kept = ctx.kept, None  # overwritten, and let go
        _, wants_values, _, *wants_parameters = ctx.needs_input_grad
        on_values, gradients = _back(
            *(kept, *on), wants_values=wants_values, wants_parameters=any(wants_parameters)
        )
        nothing: list[Tensor | None] = [None] * len(wants_parameters)
        return None, on_values, None, *(gradients or nothing)


class _Kept(NamedTuple):
    """A pass ahead, with what the way back needs.

    Attributes:
        stages: Of the chain.
        n: How many values there are; what follows them are points.
        inputs: Of each stage, and last the outputs.
        gradients: In what comes before each gate, at points, with room for those at values; none
            without points.
        slope: At points, in the chain's inputs.
        wide: The type of what came in, and goes out.
    """

    stages: Sequence[_Taken]
    n: int
    inputs: list[Tensor]
    gradients: list[Tensor]
    slope: Tensor
    wide: torch.dtype

    def found(self) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs and last hidden units of the values, and slopes at the points."""
        outputs, features = self.inputs[-1][: self.n], self.inputs[-2][: self.n].flatten(1)
        return outputs.to(self.wide), features.to(self.wide), self.slope.to(self.wide)


def _ahead(stages: Sequence[_Taken], values: Tensor, n: int) -> _Kept:
    inputs = [values.to(stages[0].weight.dtype)]
    for stage in stages:
        inputs.append(stage.gated_(stage.ahead(inputs[-1])))
    gradients: list[Tensor] = []
    slope = values[n:]
    if len(values) > n:
        gradients = [torch.empty_like(each) for each in inputs[1:]]
        slope = torch.ones_like(inputs[-1][n:])
        for i in range(len(stages) - 1, -1, -1):
            gate = stages[i].gate(slope, inputs[i + 1][n:], gradients[i][n:])
            slope = stages[i].back(gate, inputs[i][n:])
    return _Kept(stages, n, inputs, gradients, slope, values.dtype)


def _back(
    kept: _Kept,
    on_output: Tensor | None,
    on_features: Tensor | None,
    on_slope: Tensor | None,
    *,
    wants_values: bool,
    wants_parameters: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """The gradient in the values, and those in the parameters, in their order.

    What was kept is overwritten.
    """
    stages, n, inputs, gradients, _, wide = kept
    kind = inputs[0].dtype
    if on_slope is None or not gradients:
        on_slope, inputs = None, [each[:n] for each in inputs]
        gradients = [torch.empty_like(each) for each in inputs[1:]]
    gradient = torch.zeros_like(inputs[-1][:n]) if on_output is None else on_output.to(kind)
    for i in range(len(stages) - 1, -1, -1) if n else ():
        gate = stages[i].gate(gradient, inputs[i + 1][:n], gradients[i][:n])
        if i or wants_values:
            gradient = stages[i].back(gate, inputs[i][:n])
            if i == len(stages) - 1 and on_features is not None:
                gradient = gradient + on_features.view_as(gradient).to(kind)
    on_values = gradient.to(wide) if wants_values else None
    if not wants_parameters:
        return on_values, []
    found: list[Tensor] = []
    if on_slope is not None:
        inputs[0][n:] = on_slope
    for i, stage in enumerate(stages):
        found.append(stage.in_weight(gradients[i], inputs[i]).to(wide))
        if stage.bias is not None:
            found.append(gradients[i][:n].sum([0, *range(2, gradients[i].dim())], dtype=wide))
        if on_slope is not None and i + 1 < len(stages):
            ahead = inputs[i + 1][n:]
            stage.gate(stage.ahead(inputs[i][n:], tangent=True), ahead, ahead)
    return on_values, found
