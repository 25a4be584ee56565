"""How steep a critic is at least: an attack on its slope, a lower bound on its constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wgan.bounds.lipschitz import float64_copy
from wgan.bounds.tracing import name_of, one_score, replaced
from wgan.errors import UserError


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
        score = one_score(out, len(points)).reshape(len(points))
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
        if name_of(func) == "float":
            return args[0].double()
        args, kwargs = replaced((args, dict(kwargs or {})), _float64, torch.dtype)
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


def _float64(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float32 else dtype
