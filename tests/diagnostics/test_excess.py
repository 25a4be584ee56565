"""The excess: 0 for the data itself, the truth for a translation, intervals that cover."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from wgan.diagnostics import Space, Yardstick, choose_space
from wgan.diagnostics.excess import raw, slices
from wgan.errors import UserError
from wgan.transport import random_directions, sliced_potentials, sliced_wasserstein

Points = NDArray[np.float64]
RAW = Space("raw", "", raw)


def normal(rng: np.random.Generator, n: int, dim: int, shift: float = 0.0) -> Points:
    points = rng.normal(size=(n, dim))
    points[:, 0] += shift
    return points


def test_data_against_themselves_have_no_excess_on_average() -> None:
    rng = np.random.default_rng(0)
    found = [Yardstick(normal(rng, 80, 2), RAW)(normal(rng, 80, 2)).value for _ in range(60)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 3 * error
    assert Yardstick(normal(rng, 80, 2), RAW).between.value > 0.2  # what is taken off is not small


def test_far_from_the_data_it_is_the_distance() -> None:
    # On a line a translation moves every quantile alike, and floors are small beside it.
    rng = np.random.default_rng(1)
    found = Yardstick(normal(rng, 400, 1), RAW)(normal(rng, 400, 1, 20.0))
    assert found.value == pytest.approx(20.0, abs=0.5)
    assert found.low < 20.0 < found.high


@pytest.mark.parametrize(("dim", "shift"), [(2, 0.0), (2, 0.5), (20, 1.0)])
def test_the_interval_covers_the_mean_excess(dim: int, shift: float) -> None:
    rng = np.random.default_rng(2)
    space = RAW if dim == 2 else Space("slices", "", slices(dim))
    found = [
        Yardstick(normal(rng, 100, dim), space)(normal(rng, 100, dim, shift)) for _ in range(60)
    ]
    mean = np.mean([excess.value for excess in found])
    covered = np.mean([excess.low <= mean <= excess.high for excess in found])
    assert covered >= 0.88  # 95% but for the noise of 60 trials
    spread = np.std([excess.value for excess in found])
    assert np.mean([excess.error for excess in found]) < 2.5 * spread  # and not by being vast


def test_differences_on_shared_data_are_sharper_than_apart() -> None:
    rng = np.random.default_rng(3)
    yardstick = Yardstick(normal(rng, 400, 2), RAW)
    near, far = yardstick(normal(rng, 400, 2, 0.2)), yardstick(normal(rng, 400, 2, 0.8))
    value, low, high = far.minus(near)
    assert value == pytest.approx(far.value - near.value)
    assert 0 < low < value < high
    assert high - low < (far.high - far.low) + (near.high - near.low)
    other = Yardstick(normal(rng, 400, 2), RAW)(normal(rng, 400, 2))
    with pytest.raises(UserError, match="same held-out data"):
        far.minus(other)


def test_the_space_is_raw_only_where_chance_leaves_room() -> None:
    rng = np.random.default_rng(4)
    assert choose_space(normal(rng, 200, 2), normal(rng, 200, 2)).name == "raw"
    wide = choose_space(normal(rng, 200, 50), normal(rng, 200, 50))
    assert wide.name == "slices"
    assert "from a single point" in wide.reason


def test_in_many_dimensions_slices_see_a_collapse_that_raw_distances_reward() -> None:
    rng = np.random.default_rng(5)
    held, collapsed = normal(rng, 200, 60), np.zeros((200, 60))
    assert Yardstick(held, RAW)(collapsed).value < 0
    assert Yardstick(held, Space("slices", "", slices(60)))(collapsed).low > 0


def test_too_few_held_out_samples_are_refused() -> None:
    with pytest.raises(UserError, match="at least 20 held-out samples, got 19"):
        Yardstick(np.zeros((19, 2)))


@pytest.mark.parametrize(("n", "m"), [(40, 30), (25, 25), (1, 7)])
def test_sliced_potentials_add_up_to_the_sliced_distance(n: int, m: int) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    y = torch.randn(m, 3, generator=rng, dtype=torch.float64) + 0.5
    lines = random_directions(rng, 20, 3).double()
    value, phi, psi = sliced_potentials(x, y, lines)
    assert value == pytest.approx(float(sliced_wasserstein(x, y, lines)), rel=1e-12)
    assert phi.mean() - psi.mean() == pytest.approx(value)
    assert (phi.shape, psi.shape) == ((n,), (m,))
    # Along one line they are 1-Lipschitz potentials.
    _, phi, psi = sliced_potentials(x, y, lines[:1])
    gaps = phi[:, None] - psi
    reach = (x @ lines[0])[:, None] - y @ lines[0]
    assert (gaps <= np.abs(reach.numpy()) + 1e-12).all()


def test_p_values_of_equals_are_rarely_small_and_of_others_nearly_always() -> None:
    rng = np.random.default_rng(4)
    chances: dict[float, list[float]] = {0.0: [], 0.6: []}
    for _ in range(60):
        yardstick = Yardstick(normal(rng, 100, 2), RAW)
        first = yardstick(normal(rng, 100, 2, 0.5))
        for shift, found in chances.items():
            found.append(yardstick(normal(rng, 100, 2, 0.5 + shift)).p_value(first))
    assert np.mean(np.array(chances[0.0]) < 0.05) <= 0.12  # 5% but for the noise of 60 trials
    assert 0.25 < np.median(chances[0.0]) < 0.85
    assert np.mean(np.array(chances[0.6]) < 0.05) > 0.9
