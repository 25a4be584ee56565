"""Pairs with a known W1: the coupling, the optimal critic and the distance agree."""

import math

import pytest
import torch

from wgan.experiments.w1_pairs import Cones, Pair, benchmark, cones, outside
from wgan.transport import exact


@pytest.mark.parametrize(("dim", "n"), [(2, 4), (8, 16), (64, 64)])
def test_the_optimal_critic_of_cones_separates_them_by_the_closed_form(dim: int, n: int) -> None:
    pair = cones(dim, n)
    funnels = Cones.seeded(dim, n)
    x, y = pair.draw(torch.Generator().manual_seed(5), 20_000)

    def critic(points: torch.Tensor) -> torch.Tensor:
        return -(torch.cdist(points, funnels.centres) + funnels.offsets).amin(1)

    scores = critic(x), critic(y)
    error = math.sqrt(sum(float(s.var()) for s in scores) / 20_000)
    assert float(scores[0].mean() - scores[1].mean()) == pytest.approx(pair.w1, abs=4 * error)
    assert pair.w1_error < 0.001 * pair.w1


@pytest.mark.parametrize(("dim", "n"), [(2, 16), (16, 64)])
def test_the_map_of_cones_stays_on_its_ray_and_in_the_cube(dim: int, n: int) -> None:
    funnels = Cones.seeded(dim, n)
    y = funnels.base(torch.Generator().manual_seed(2), 5_000)
    moved = funnels.move(y)
    assert moved.abs().max() <= 2.5
    k, v, r = funnels.nearest(y)
    k_after, v_after, r_after = funnels.nearest(moved)
    assert torch.equal(k, k_after)
    far = r_after > 1e-6  # nearer to a centre the direction is rounding
    torch.testing.assert_close(v[far], v_after[far], rtol=0, atol=1e-8)
    assert (r_after <= r).all()
    cost = (y - moved).norm(dim=1)
    w1, _ = funnels.w1()
    assert float(cost.mean()) == pytest.approx(w1, abs=4 * float(cost.std()) / math.sqrt(5_000))


def test_the_share_of_a_ray_follows_its_beta_law() -> None:
    """Cells are star-shaped about their centres: t^D is uniform."""
    funnels = Cones.seeded(4, 16)
    y = funnels.base(torch.Generator().manual_seed(3), 20_000)
    _, _, r = funnels.nearest(y)
    after = funnels.nearest(funnels.move(y))[2]
    uniform = (after / r) ** (4 / 7)  # t^(p - 1) to t^D
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(uniform.var()) == pytest.approx(1 / 12, abs=0.003)


@pytest.mark.parametrize("name", [name for name in outside() if name.split("-")[1] in "2 8"])
def test_known_distances_outside_the_family(name: str) -> None:
    """The plug-in distance is above it by chance alone, the optimal critic's steps at it."""
    pair = outside()[name]()
    x, y = pair.draw(torch.Generator().manual_seed(1), 1_500)
    found = exact(x.numpy(), y.numpy()).value
    again = exact(x[:750].numpy(), x[750:].numpy()).value
    assert pair.w1 * 0.93 < found < pair.w1 + 1.5 * again


@pytest.mark.parametrize("pair", [cones(8, 16), *(outside()[n]() for n in ("ball-8", "radial-8"))])
def test_optimal_critics_have_slope_one_where_mass_moves(pair: Pair) -> None:
    x, _ = pair.draw(torch.Generator().manual_seed(0), 200)
    assert pair.gradient is not None
    norms = pair.gradient(x).norm(dim=1)
    # not inside the ball, nor at the very centres, where a little mass arrives
    assert ((norms - 1).abs() < 1e-9).double().mean() > 0.8


def test_there_are_28_published_pairs() -> None:
    assert len(set(benchmark())) == 28


def test_the_funnels_are_not_the_first_samples_of_a_seed() -> None:
    """They would be from a shared stream; at a centre the ray has no direction."""
    funnels = Cones.seeded(3, 4)
    x = funnels.base(torch.Generator().manual_seed(0), 4)
    assert not torch.allclose(x, funnels.centres)
    torch.testing.assert_close(funnels.move(funnels.centres), funnels.centres)
