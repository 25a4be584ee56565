import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.metrics import manifold, memorisation, nearest_neighbour_accuracy
from wgan.metrics.neighbours import kth_nearest
from wgan.metrics.two_sample import nearest
from wgan.transport import cost_matrix

Points = NDArray[np.float64]
rng = np.random.default_rng(0)


def matrices(x: Points, y: Points) -> tuple[Points, Points, Points]:
    return cost_matrix(x, x), cost_matrix(y, y), cost_matrix(x, y)


def test_accuracy_by_hand() -> None:
    # 0 and 1 are neighbours of one sample; 10 is nearer to 9 than to its own 5.
    x, y = np.array([[0.0], [1.0], [10.0]]), np.array([[9.0], [5.0], [4.5]])
    assert nearest_neighbour_accuracy(*matrices(x, y)) == pytest.approx(4 / 6)


def test_accuracy_agrees_with_scikit_learn() -> None:
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    x, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 3)) + 0.5
    pooled, labels = np.concatenate([x, y]), np.repeat([0, 1], 60)
    expected = cross_val_score(KNeighborsClassifier(1), pooled, labels, cv=LeaveOneOut()).mean()
    assert nearest_neighbour_accuracy(*matrices(x, y)) == pytest.approx(expected)


def test_accuracy_of_equal_far_and_copied_samples() -> None:
    x, y = rng.normal(size=(1000, 2)), rng.normal(size=(1000, 2))
    assert nearest_neighbour_accuracy(*matrices(x, y)) == pytest.approx(0.5, abs=0.04)
    assert nearest_neighbour_accuracy(*matrices(x, y + 100)) == 1
    assert nearest_neighbour_accuracy(*matrices(x, x)) == 0
    assert nearest_neighbour_accuracy(*matrices(np.zeros((5, 1)), np.zeros((5, 1)))) == 0.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(0.01, 100))
def test_accuracy_is_symmetric_and_has_no_unit(seed: int, scale: float) -> None:
    local = np.random.default_rng(seed)
    x, y = local.normal(size=(15, 2)), local.normal(size=(15, 2)) + 0.3
    value = nearest_neighbour_accuracy(*matrices(x, y))
    assert nearest_neighbour_accuracy(*matrices(y, x)) == value
    assert nearest_neighbour_accuracy(*matrices(scale * x + 1, scale * y + 1)) == value


def test_kth_nearest_by_sorting() -> None:
    x = rng.normal(size=(20, 3))
    x[1] = x[0]  # a duplicate is a neighbour at distance 0
    matrix = cost_matrix(x, x)
    for k in (1, 3, 19):
        np.testing.assert_array_equal(kth_nearest(matrix, k), np.sort(matrix, axis=1)[:, k])
    rounded = matrix + 1e-3 * np.eye(20)  # a point's distance to itself plays no part
    np.testing.assert_array_equal(kth_nearest(rounded, 1), kth_nearest(matrix, 1))
    with pytest.raises(UserError, match="from 1 to the sample size less one, 19, got 20"):
        kth_nearest(matrix, 20)


def test_manifold_by_hand() -> None:
    # Real balls (k = 1): radius 1 around 0 and 1, radius 4 around 5. Judged: radius 2 around both.
    x, y = np.array([[1.5], [3.5]]), np.array([[0.0], [1.0], [5.0]])
    result = manifold(*matrices(x, y), k=1)
    assert result.precision == 1  # 1.5 is within 1 of 1, and 3.5 within 4 of 5
    assert result.recall == 1  # 0 and 1 within 2 of 1.5, 5 within 2 of 3.5
    assert result.density == 1.5  # 1.5 lies in two balls, 3.5 in one
    assert result.coverage == pytest.approx(2 / 3)  # the ball of 0 holds none


def test_manifold_of_equal_distributions_and_of_a_lost_mode() -> None:
    y = np.concatenate([rng.normal(size=(500, 2)), rng.normal(size=(500, 2)) + 50])
    x = np.concatenate([rng.normal(size=(500, 2)), rng.normal(size=(500, 2)) + 50])
    same = manifold(*matrices(x, y), k=5)
    assert same.density == pytest.approx(1, abs=0.06)
    assert same.coverage == pytest.approx(1 - 2**-5, abs=0.02)
    assert min(same.precision, same.recall) > 0.95
    lost = manifold(*matrices(rng.normal(size=(1000, 2)), y), k=5)
    assert lost.precision > 0.95
    assert lost.recall == pytest.approx(0.5, abs=0.03)
    assert lost.coverage == pytest.approx(0.5, abs=0.03)
    away = manifold(*matrices(x + 1000, y), k=5)
    assert away.precision == away.recall == away.density == away.coverage == 0


def test_memorisation_of_copies_and_of_fresh_samples() -> None:
    train, heldout, fresh = (rng.normal(size=(400, 5)) for _ in range(3))
    copies = train[:300] + 0.001 * rng.normal(size=(300, 5))

    def distance(points: Points) -> Points:
        return nearest(points, train, None)

    copied = memorisation(distance(copies), distance(heldout))
    assert copied.closeness > 0.99
    assert copied.p_value < 1e-50
    assert copied.copies == 1
    honest = memorisation(distance(fresh), distance(heldout))
    assert honest.closeness == pytest.approx(0.5, abs=0.06)
    assert honest.p_value > 0.01
    assert honest.copies == 0
    away = memorisation(distance(fresh + 10), distance(heldout))
    assert away.closeness < 0.01
    assert away.p_value > 0.99


def test_memorisation_without_any_difference_is_no_evidence() -> None:
    result = memorisation(np.zeros(5), np.zeros(7))
    assert (result.closeness, result.p_value, result.copies, result.heldout_copies) == (
        0.5,
        1,
        1,
        1,
    )


@pytest.mark.parametrize("dim", [2, 20])  # by tree, and by matrix
def test_nearest_reads_blocks(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points, among = rng.normal(size=(7, dim)), rng.normal(size=(50, dim))
    scale = rng.uniform(1, 3, size=dim)
    expected = cost_matrix(points, among / scale).min(axis=1)
    np.testing.assert_allclose(nearest(points, among.reshape(50, dim, 1), scale), expected)
    monkeypatch.setattr("wgan.metrics.two_sample._BLOCK_ELEMENTS", 3 * dim)
    np.testing.assert_allclose(nearest(points, among, scale), expected)
    with pytest.raises(UserError, match="`train` must be finite"):
        nearest(points, np.full((3, dim), np.nan), None)


def test_bad_input_is_refused() -> None:
    x, y = rng.normal(size=(5, 2)), rng.normal(size=(6, 2))
    with pytest.raises(UserError, match="one size >= 2, got 5 and 6"):
        nearest_neighbour_accuracy(*matrices(x, y))
    with pytest.raises(UserError, match=r"`xy` must be \[5, 6\]"):
        manifold(cost_matrix(x, x), cost_matrix(y, y), cost_matrix(y, x))
    with pytest.raises(UserError, match="at least one"):
        memorisation(np.zeros(0), np.zeros(3))
