"""Pairs of populations whose W1 is known, to check estimates of it against.

Every pair is a base population and a map that moves its points along the gradient of a 1-Lipschitz
function u by amounts that u grows by: the coupling (y, T(y)) is then optimal,
``W1 = E |y - T(y)|``, and the optimal critic is ``f = -u`` or ``u``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wgan.transport import exact

_STREAM = 10**6  # samples behind an expectation that has no closed form
_CHUNK = 50_000
_FUNNEL_STREAM = 20_221_128
_FAR = 1e-12  # below which a component of a direction counts as 0

DIMS = (2, 4, 8, 16, 32, 64, 128)
FUNNELS = (4, 16, 64, 256)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two populations P (scored high) and Q.

    Attributes:
        name: A short name.
        family: ``cones``, ``translation``, ``radial``, ``mixture``, ``ball`` or ``discrete``.
        dim: Numbers in a sample.
        w1: Their W1, Euclidean.
        w1_error: Standard error of that value; 0 where it is a closed form.
        draw: ``(rng, n)`` to independent ``(x, y)`` of P and Q, float64 ``[n, dim]``.
        gradient: Of the optimal critic at points of P, ``[n, dim]``; None where not known.
    """

    name: str
    family: str
    dim: int
    w1: float
    w1_error: float
    draw: Callable[[torch.Generator, int], tuple[Tensor, Tensor]]
    gradient: Callable[[Tensor], Tensor] | None


@dataclass(frozen=True, eq=False)
class Cones:
    """The funnels of one published pair (Korotin, Kolesov, Burnaev 2022).

    ``u(x) = min_n (|x - a_n| + b_n)`` on the cube ``[-2.5, 2.5]^D``.

    Attributes:
        centres: ``[N, dim]``, uniform in the cube.
        offsets: ``[N]``, 0.1 times standard normal.
        power: p of the map: the share t of a ray becomes t^p.
    """

    centres: Tensor
    offsets: Tensor
    power: int = 8

    @classmethod
    def seeded(cls, dim: int, n: int, seed: int = 0) -> Cones:
        """The funnels of dimension and number from a seed."""
        # A stream of its own: samples from the same one would begin with the centres.
        rng = torch.Generator().manual_seed(_FUNNEL_STREAM + seed)
        centres = 5 * torch.rand(n, dim, generator=rng, dtype=torch.float64) - 2.5
        return cls(centres, 0.1 * torch.randn(n, generator=rng, dtype=torch.float64))

    def base(self, rng: torch.Generator, n: int) -> Tensor:
        """Uniform points of the cube, ``[n, dim]``."""
        dim = self.centres.shape[1]
        return 5 * torch.rand(n, dim, generator=rng, dtype=torch.float64) - 2.5

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which funnel holds each point, the unit vector from its centre, and the distance."""
        # The product only ranks the funnels; what is used of the distance is a difference.
        squares = self._squares(x)
        k = (squares.clamp(min=0).sqrt() + self.offsets).argmin(1)
        away = x - self.centres[k]
        distance = away.norm(dim=1)
        return k, away / distance[:, None].clamp(min=1e-300), distance

    def move(self, x: Tensor) -> Tensor:
        """``T(x) = a_k + t^p L v``: towards the centre along the ray, ``[n, dim]``."""
        k, v, r = self.nearest(x)
        steep = v.abs() > _FAR
        faces = torch.where(steep, (2.5 * v.sign() - x) / torch.where(steep, v, 1.0), math.inf)
        beta = (r + self.offsets[k])[:, None] - self.offsets
        along = (x * v).sum(1)[:, None] - v @ self.centres.T
        others = (self._squares(x) - beta.square()) / (2 * (beta - along))
        kept = (others > 0) & (beta + others > 0)
        kept[torch.arange(len(x)), k] = False
        others = torch.where(kept, others, math.inf)
        length = r + torch.minimum(faces.amin(1), others.amin(1))
        t = torch.where(r > 0, r / length, 0.0)  # a centre stays where it is
        length = torch.where(r > 0, length, 0.0)
        return self.centres[k] + (t**self.power * length)[:, None] * v

    def w1(self) -> tuple[float, float]:
        """``(p - 1) / (D + p) E |x - a_k|`` and its standard error, from 10^6 points."""
        rng = torch.Generator().manual_seed(1)
        found = torch.cat(
            [self.nearest(self.base(rng, _CHUNK))[2] for _ in range(_STREAM // _CHUNK)]
        )
        share = (self.power - 1) / (self.centres.shape[1] + self.power)
        return share * float(found.mean()), share * float(found.std()) / math.sqrt(_STREAM)

    def _squares(self, x: Tensor) -> Tensor:
        return x.square().sum(1)[:, None] + self.centres.square().sum(1) - 2 * x @ self.centres.T


def cones(dim: int, n: int, seed: int = 0) -> Pair:
    """A pair of the published benchmark: `n` funnels in `dim` dimensions."""
    funnels = Cones.seeded(dim, n, seed)
    w1, error = funnels.w1()

    def draw(rng: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        return funnels.move(funnels.base(rng, count)), funnels.base(rng, count)

    return Pair(f"cones-{dim}-{n}", "cones", dim, w1, error, draw, lambda x: -funnels.nearest(x)[1])


def benchmark() -> list[tuple[int, int]]:
    """Dimension and number of funnels of the 28 published pairs."""
    return [(dim, n) for dim in DIMS for n in FUNNELS]


def translation(dim: int) -> Pair:
    """N(0, I) moved by a vector of length 1: W1 = 1."""
    shift = torch.zeros(dim, dtype=torch.float64)
    shift[:2] = torch.tensor([0.6, 0.8], dtype=torch.float64)

    def draw(rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        return _normal(rng, n, dim) + shift, _normal(rng, n, dim)

    return Pair(
        f"translation-{dim}", "translation", dim, 1.0, 0.0, draw, lambda x: shift.expand_as(x)
    )


def radial(dim: int, scale: float = 2.0) -> Pair:
    """N(0, s^2 I) and N(0, I): ``W1 = (s - 1) E |y|``, E |y| = sqrt 2 G((D + 1)/2) / G(D/2)."""
    mean = math.sqrt(2) * math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))

    def draw(rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        return scale * _normal(rng, n, dim), _normal(rng, n, dim)

    return Pair(
        f"radial-{dim}",
        "radial",
        dim,
        (scale - 1) * mean,
        0.0,
        draw,
        lambda x: x / x.norm(dim=1, keepdim=True),
    )


def mixture(dim: int, modes: int = 10) -> Pair:
    """A mixture of Gaussians moved along one direction by amounts that grow along it.

    ``T(y) = y + (1 + tanh(y . e)) e`` for a unit vector e: u(x) = x . e and
    ``W1 = E 1 + tanh(y . e)``, over the mixture by quadrature of its one-dimensional law.
    """
    rng = torch.Generator().manual_seed(dim)
    centres = 2 * torch.randn(modes, dim, generator=rng, dtype=torch.float64)
    unit = torch.ones(dim, dtype=torch.float64) / math.sqrt(dim)
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    at = (centres @ unit).numpy()[:, None] + 0.5 * nodes
    w1 = float(((1 + np.tanh(at)) * weights / weights.sum()).sum(1).mean())

    def base(rng: torch.Generator, n: int) -> Tensor:
        return centres[torch.randint(modes, (n,), generator=rng)] + 0.5 * _normal(rng, n, dim)

    def draw(rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        x = base(rng, n)
        return x + (1 + (x @ unit).tanh())[:, None] * unit, base(rng, n)

    return Pair(f"mixture-{dim}", "mixture", dim, w1, 0.0, draw, lambda x: unit.expand_as(x))


def ball(dim: int) -> Pair:
    """Points outside a ball moved away from it: u is the distance to the ball.

    ``T(y) = y + u / (1 + u) v``, v the unit vector from the ball's centre e_1, radius sqrt(D) / 2,
    y ~ N(0, I); points inside stay. ``W1 = E u / (1 + u)`` from 10^6 samples.
    """
    centre = torch.zeros(dim, dtype=torch.float64)
    centre[0] = 1.0
    radius = math.sqrt(dim) / 2

    def parts(y: Tensor) -> tuple[Tensor, Tensor]:
        away = y - centre
        r = away.norm(dim=1)
        return (r - radius).clamp(min=0), away / r[:, None]

    def draw(rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        y = _normal(rng, n, dim)
        u, v = parts(y)
        return y + (u / (1 + u))[:, None] * v, _normal(rng, n, dim)

    rng = torch.Generator().manual_seed(1)
    found = torch.cat([parts(_normal(rng, _CHUNK, dim))[0] for _ in range(_STREAM // _CHUNK)])
    moves = found / (1 + found)
    return Pair(
        f"ball-{dim}",
        "ball",
        dim,
        float(moves.mean()),
        float(moves.std()) / math.sqrt(_STREAM),
        draw,
        lambda x: torch.where((parts(x)[0] > 0)[:, None], parts(x)[1], torch.zeros(())),
    )


def discrete(dim: int, atoms: int = 50) -> Pair:
    """Two weighted sets of normal points; their W1 by the network simplex."""
    rng = torch.Generator().manual_seed(dim)
    first, second = (_normal(rng, atoms, dim) for _ in range(2))
    weights = [torch.rand(atoms, generator=rng, dtype=torch.float64) + 0.1 for _ in range(2)]
    a, b = (w / w.sum() for w in weights)
    plan = exact(first.numpy(), second.numpy(), a=a.numpy(), b=b.numpy())

    def draw(rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        return (
            first[torch.multinomial(a, n, True, generator=rng)],
            second[torch.multinomial(b, n, True, generator=rng)],
        )

    return Pair(f"discrete-{dim}", "discrete", dim, plan.primal, 0.0, draw, None)


def outside() -> dict[str, Callable[[], Pair]]:
    """Pairs outside the published family, by name."""
    makers: dict[str, Callable[[int], Pair]] = {
        "translation": translation,
        "radial": radial,
        "mixture": mixture,
        "ball": ball,
    }

    def made(maker: Callable[[int], Pair], dim: int) -> Callable[[], Pair]:
        return lambda: maker(dim)

    found = {
        f"{name}-{dim}": made(maker, dim)
        for name, maker in makers.items()
        for dim in (2, 8, 32, 64, 128)
    }
    return found | {f"discrete-{dim}": made(discrete, dim) for dim in (2, 8)}


def _normal(rng: torch.Generator, n: int, dim: int) -> Tensor:
    return torch.randn(n, dim, generator=rng, dtype=torch.float64)
