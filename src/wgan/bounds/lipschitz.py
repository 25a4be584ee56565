"""How steep a critic can be: a certified bound from above. From below see `attack`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wgan.bounds.tracing import Follower, one_score
from wgan.errors import UserError

_EPSILON = 2.0**-52  # of float64
_ROWS = 5  # samples the forward is shown at least, so that one that mixes samples is noticed


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
    follower = Follower(network, rows)
    values = follower.track((rows, *shape), 1.0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        try:
            with follower:
                score = one_score(network(values, *inputs), rows)
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
