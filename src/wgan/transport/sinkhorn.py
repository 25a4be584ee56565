"""Entropic transport in the log domain, balanced or not, and the divergence made from it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wgan.errors import UserError
from wgan.transport.cost import distances, squared_distances


class Entropic(NamedTuple):
    """The value of an entropic transport problem, and where its iterations ended.

    Attributes:
        value: A scalar, differentiable in the samples with the potentials held fixed, which is the
            gradient of the optimum (envelope theorem) once the iterations have converged.
        phi: ``[n]``, potential at the first sample, signed as a critic is; detached.
        psi: ``[m]``, potential at the second: the plan is
            ``exp((phi_i - psi_j - c_ij) / epsilon) / (n m)``.
        marginal_error: Sum of the absolute errors of the plan's marginals (relative to its own
            relaxed marginals if unbalanced): 0 when converged; detached scalar.
    """

    value: Tensor
    phi: Tensor
    psi: Tensor
    marginal_error: Tensor


def entropic_transport(
    x: Tensor,
    y: Tensor,
    *,
    blur: float,
    p: Literal[1, 2] = 2,
    reach: float | None = None,
    iterations: int = 100,
) -> Entropic:
    """``min_P <P, c> + epsilon KL(P | a b) + rho KL(P 1 | a) + rho KL(P' 1 | b)``.

    With cost ``c = |x - y|^p / p``, uniform weights a and b, ``epsilon = blur^p``, and
    ``rho = reach^p``, or without slack in the marginals if `reach` is None. Solved in the dual,
    ``<a, F(f)> + <b, F(g)> - epsilon <a b, exp((f + g - c) / epsilon) - 1>`` with
    ``F(f) = rho (1 - exp(-f / rho))``, or f if balanced, by averaged Sinkhorn updates, of
    which the first half lowers epsilon geometrically from the diameter^p. The value is that of the
    dual: from below, whatever the number of iterations.

    Args:
        x: ``[n, *shape]``.
        y: ``[m, *shape]``.
        blur: The length below which detail is smoothed, > 0, in the data's unit.
        p: 1 or 2.
        reach: The length beyond which mass is rather destroyed than moved, > 0; None: never.
        iterations: Updates of both potentials, >= 2. A fixed number, so that the work does not
            depend on the data; see `marginal_error` for whether it is enough.

    Raises:
        UserError: A value out of its range, or shapes that differ.
    """
    x, y = _check(x, y, blur, p, reach, iterations)
    return _solve(x, y, blur, p, reach, iterations, _diameter(x, y))


def sinkhorn_divergence(
    x: Tensor,
    y: Tensor,
    *,
    blur: float,
    p: Literal[1, 2] = 2,
    reach: float | None = None,
    iterations: int = 100,
) -> Tensor:
    """``OT(x, y) - (OT(x, x) + OT(y, y)) / 2`` with OT the entropic transport above.

    Not negative at convergence and 0 only for equal samples; between half the squared W2 (p = 2;
    W1 for p = 1) as blur falls to 0 and a kernel distance as it grows (Feydy et al. 2019; Sejourne
    et al. 2019 for `reach`, where the term in the difference of the masses is 0 here). As a loss
    its gradient in `x` is that of the optimum, with the potentials detached.

    Args:
        x: ``[n, *shape]``.
        y: ``[m, *shape]``.
        blur: As in :func:`entropic_transport`, and so the others.
        p: 1 or 2.
        reach: > 0, or None for balanced transport.
        iterations: >= 2.

    Returns:
        A scalar, in the data's unit to the power p.
    """
    x, y = _check(x, y, blur, p, reach, iterations)
    # One diameter for the three problems, so that equal samples give exactly 0.
    diameter = _diameter(x, y)
    across, within_x, within_y = (
        _solve(u, v, blur, p, reach, iterations, diameter).value
        for u, v in ((x, y), (x, x), (y, y))
    )
    return across - (within_x + within_y) / 2


def _check(
    x: Tensor, y: Tensor, blur: float, p: int, reach: float | None, iterations: int
) -> tuple[Tensor, Tensor]:
    if not blur > 0 or not math.isfinite(blur):
        raise UserError(f"`blur` must be a number > 0, got {blur}")
    if reach is not None and not reach > 0:
        raise UserError(f"`reach` must be > 0, or None for balanced transport, got {reach}")
    if p not in (1, 2):
        raise UserError(f"`p` must be 1 or 2, got {p}")
    if iterations < 2:
        raise UserError(f"`iterations` must be >= 2, got {iterations}")
    if x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 1:
        raise UserError(f"samples must share a shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return x.flatten(1), y.flatten(1)


def _diameter(x: Tensor, y: Tensor) -> Tensor:
    """The diagonal of the box around both samples."""
    both = torch.cat([x.detach(), y.detach()])
    sides = both.amax(0) - both.amin(0)
    return sides.square().sum().sqrt()


def _solve(
    x: Tensor,
    y: Tensor,
    blur: float,
    p: Literal[1, 2],
    reach: float | None,
    iterations: int,
    diameter: Tensor,
) -> Entropic:
    cost = distances(x, y) if p == 1 else squared_distances(x, y) / 2
    epsilon = blur**p
    rho = None if reach is None else reach**p
    with torch.no_grad():
        f, g = _potentials(cost.detach(), epsilon, rho, iterations, diameter**p)
        new_f, new_g = _update(cost.detach(), f, g, epsilon, rho)
        error = ((f - new_f) / epsilon).expm1().abs().mean() + (
            (g - new_g) / epsilon
        ).expm1().abs().mean()
    mass = ((f[:, None] + g - cost) / epsilon).exp().mean()
    value = _relaxed(f, rho).mean() + _relaxed(g, rho).mean() - epsilon * (mass - 1)
    return Entropic(value, f, -g, error)


def _relaxed(f: Tensor, rho: float | None) -> Tensor:
    return f if rho is None else -rho * (-f / rho).expm1()


def _potentials(
    cost: Tensor, epsilon: float, rho: float | None, iterations: int, widest: Tensor
) -> tuple[Tensor, Tensor]:
    f, g = cost.new_zeros(cost.shape[0]), cost.new_zeros(cost.shape[1])
    # Kept on the device and of fixed length: nothing here waits for the data.
    excess = (widest / epsilon).clamp(min=1.0)
    annealed = iterations // 2
    for k in range(iterations):
        current = epsilon * excess ** max(0.0, 1 - (k + 1) / annealed)
        new_f, new_g = _update(cost, f, g, current, rho)
        # The mean of old and new keeps the roles of the samples exchangeable (Feydy et al. 2019).
        f, g = (f + new_f) / 2, (g + new_g) / 2
    return f, g


def _update(
    cost: Tensor, f: Tensor, g: Tensor, epsilon: Tensor | float, rho: float | None
) -> tuple[Tensor, Tensor]:
    """Each potential's best answer to the other."""
    n, m = cost.shape
    new_f = -epsilon * (((g - cost) / epsilon).logsumexp(1) - math.log(m))
    new_g = -epsilon * (((f[:, None] - cost) / epsilon).logsumexp(0) - math.log(n))
    damping = 1.0 if rho is None else rho / (rho + epsilon)
    return damping * new_f, damping * new_g
