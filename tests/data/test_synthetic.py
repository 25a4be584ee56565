from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from wgan.data import DataOptions, Source, Synthetic, open_source
from wgan.data.synthetic import SYNTHETIC, SwissRoll
from wgan.errors import UserError


def source(name: str, seed: int = 0) -> Synthetic:
    opened = open_source(name, DataOptions(seed=seed))
    assert isinstance(opened, Synthetic)
    return opened


def sample(of: Source, n: int = 20_000) -> np.ndarray:
    return of.batch(torch.arange(n)).values.numpy()


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_sample_is_a_function_of_the_seed_and_its_number(name: str) -> None:
    whole = source(name).batch(torch.arange(1000)).values
    assert torch.equal(source(name).batch(torch.arange(700, 764)).values, whole[700:764])
    scattered = torch.tensor([5, 6, 7, 3, 3, 999, 0, 1])
    assert torch.equal(source(name).batch(scattered).values, whole[scattered])
    assert not torch.equal(source(name, seed=1).batch(torch.arange(1000)).values, whole)
    assert source(name).batch(torch.arange(0)).values.shape == (0, 2)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_far_samples_can_be_read(name: str) -> None:
    values = source(name).batch(torch.arange(2**62, 2**62 + 3)).values
    assert values.isfinite().all()
    assert len(np.unique(values.numpy(), axis=0)) == 3


@pytest.mark.parametrize("name", SYNTHETIC)
def test_the_parts_of_a_split_are_other_samples(name: str) -> None:
    whole = source(name)
    parts = [*whole.split(0.1, seed=0), *whole.split(0.1, seed=1)]
    prints = {part.fingerprint for part in (whole, *parts)}
    assert len(prints) == 5
    seen = [sample(part, 500) for part in (whole, *parts)]
    for i, a in enumerate(seen):
        for b in seen[i + 1 :]:
            # parallel-lines shares its first coordinate, which is always 0
            assert abs(stats.pearsonr(a[:, 1], b[:, 1]).statistic) < 0.2
    again = whole.split(0.1, seed=0)[1]
    np.testing.assert_array_equal(sample(again, 500), seen[2])
    assert again.size is None


@pytest.mark.parametrize("name", SYNTHETIC)
def test_modes_are_equally_probable_and_near_their_centres(name: str) -> None:
    of = source(name)
    points = sample(of)
    modes = of.modes(points)
    counts = np.bincount(modes, minlength=len(of.centres))
    assert stats.chisquare(counts).pvalue > (0 if name == "swissroll" else 1e-4)
    assert counts.min() > 0.5 * len(points) / len(of.centres)
    distance = np.linalg.norm(points - of.centres[modes], axis=1)
    assert (distance < 4 * of.standard_deviation).mean() > 0.99
    np.testing.assert_array_equal(of.modes(of.centres), np.arange(len(of.centres)))


@pytest.mark.parametrize(("name", "radius", "noise"), [("gaussians8", 2 / 1.414, 0.02 / 1.414)])
def test_eight_gaussians_on_a_circle(name: str, radius: float, noise: float) -> None:
    of = source(name)
    np.testing.assert_allclose(np.linalg.norm(of.centres, axis=1), radius)
    points = sample(of)
    offsets = (points - of.centres[of.modes(points)]) / noise
    assert stats.kstest(offsets[:, 0], "norm").pvalue > 1e-3
    assert stats.kstest(offsets[:, 1], "norm").pvalue > 1e-3
    assert abs(stats.pearsonr(*offsets.T).statistic) < 0.03
    # Around each centre alone, too: the choice of the centre says nothing about the offset.
    for mode in range(8):
        assert stats.kstest(offsets[of.modes(points) == mode, 0], "norm").pvalue > 1e-3


def test_twenty_five_gaussians_on_a_grid() -> None:
    of = source("gaussians25")
    assert sorted({round(x * 2.828) for x in of.centres.flatten().tolist()}) == [-4, -2, 0, 2, 4]
    assert len(np.unique(of.centres, axis=0)) == 25
    points = sample(of)
    offsets = points - of.centres[of.modes(points)]
    assert offsets.std() == pytest.approx(0.05 / 2.828, rel=0.02)


def test_the_swiss_roll_is_that_of_scikit_learn() -> None:
    from sklearn.datasets import make_swiss_roll

    theirs = make_swiss_roll(5000, noise=0.25, random_state=0)[0][:, [0, 2]] / 7.5
    ours = sample(source("swissroll"), 5000)
    for direction in np.random.default_rng(0).normal(size=(4, 2)):
        assert stats.ks_2samp(theirs @ direction, ours @ direction).pvalue > 1e-3
    # The place on the arm says nothing about the offset, either.
    of = source("swissroll")
    place = of._uniform(np.arange(5000))[:, 0]
    offsets = (ours - SwissRoll.arm(place)) / of.standard_deviation
    for axis in range(2):
        assert stats.kstest(offsets[:, axis], "norm").pvalue > 1e-3
        assert abs(stats.spearmanr(place, offsets[:, axis]).statistic) < 0.05
    # Turning outwards: the modes are counted along the arm.
    assert (np.diff(np.linalg.norm(source("swissroll").centres, axis=1)) > 0).all()


def test_parallel_lines_is_the_line_of_example_1() -> None:
    points = sample(source("parallel-lines"))
    assert (points[:, 0] == 0).all()
    assert stats.kstest(points[:, 1], "uniform").pvalue > 1e-3
    of = source("parallel-lines")
    assert of.modes(np.array([[0.3, 0.05], [9.0, 0.95]])).tolist() == [0, 9]
    assert of.standard_deviation == pytest.approx(0.1 / math.sqrt(12))


def test_units_are_their_own() -> None:
    of = source("gaussians8")
    values = of.batch(torch.arange(8)).values
    np.testing.assert_array_equal(of.codec.decode(values), values.numpy())


def test_describe_says_what_it_is() -> None:
    told = source("gaussians25").describe()
    assert told["modes"] == 25
    assert told["size"] is None
    assert told["shape"] == [2]


def test_a_bad_share_is_refused() -> None:
    with pytest.raises(UserError, match="holdout"):
        source("gaussians8").split(1.5, seed=0)
