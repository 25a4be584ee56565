from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.metrics import mode_coverage


@dataclass
class Square:
    centres: NDArray[np.float64]
    standard_deviation: float = 0.1


SQUARE = Square(np.array([[0.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 4.0]]))
rng = np.random.default_rng(0)


def test_all_modes_of_the_distribution_itself() -> None:
    x = SQUARE.centres[rng.integers(0, 4, 4000)] + 0.1 * rng.normal(size=(4000, 2))
    result = mode_coverage(x, SQUARE)
    assert (result.found, result.total) == (4, 4)
    assert result.near == pytest.approx(1 - np.exp(-8), abs=1e-3)  # of a 2-d Gaussian within 4
    np.testing.assert_allclose(result.shares, 0.25, atol=0.03)
    assert mode_coverage(x, SQUARE, deviations=1).near == pytest.approx(1 - np.exp(-0.5), abs=0.03)


def test_lost_modes_and_thresholds() -> None:
    # 90 samples at one mode, 6 at another but .5 away, 4 at a third: shares .90, .06, .04.
    x = np.repeat(SQUARE.centres[:3] + np.array([[0, 0], [0.5, 0], [0, 0]]), [90, 6, 4], axis=0)
    result = mode_coverage(x, SQUARE)
    np.testing.assert_allclose(result.shares, [0.9, 0.06, 0.04, 0])
    assert result.min_share == 0.08
    assert result.found == 1
    assert mode_coverage(x, SQUARE, min_share=0.04).found == 3
    assert mode_coverage(x, SQUARE, min_share=0.04, radius=0.4).found == 2
    assert result.near == 0.94


@pytest.mark.parametrize("change", [{"min_share": 0}, {"radius": 0}, {"deviations": -1}])
def test_bad_values_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must be"):
        mode_coverage([[0.0, 0.0]], SQUARE, **change)


def test_wrong_dimension_is_refused() -> None:
    with pytest.raises(UserError, match="3 features and the modes' centres 2"):
        mode_coverage(np.zeros((1, 3)), SQUARE)
