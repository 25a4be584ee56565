"""What nearest neighbours say of two samples: told apart, realistic, complete, copied.

The functions take matrices of distances, so that several measures share one: `xx` among the judged
samples, `yy` among the real ones, `xy` from judged (rows) to real (columns).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wgan.errors import UserError

Matrix = NDArray[np.float64]


def nearest_neighbour_accuracy(xx: Matrix, yy: Matrix, xy: Matrix) -> float:
    """How often a point's nearest other point, of both samples, is of its own sample.

    Leave-one-out 1-nearest-neighbour classification of the pooled sample: 0.5 for equal
    distributions, 1 for samples that can be told apart, and *below* 0.5 for samples that lie on top
    of the real ones, as copies do (Lopez-Paz and Oquab 2017; Xu et al. 2018). A tie counts half.

    Args:
        xx: ``[n, n]``.
        yy: ``[n, n]``; equal sizes, without which 0.5 would mean nothing.
        xy: ``[n, n]``.
    """
    if not xx.shape == yy.shape == xy.shape or len(xx) < 2:
        raise UserError(
            "nearest-neighbour accuracy needs two samples of one size >= 2, "
            f"got {xx.shape[0]} and {yy.shape[0]}"
        )
    own = np.concatenate([nearest_other(xx), nearest_other(yy)])
    other = np.concatenate([xy.min(axis=1), xy.min(axis=0)])
    return float(np.mean((own < other) + 0.5 * (own == other)))


def nearest_other(matrix: Matrix) -> Matrix:
    """The distance of each point of a sample to the nearest other point of it, ``[n]``."""
    return kth_nearest(matrix, 1)


def kth_nearest(matrix: Matrix, k: int) -> Matrix:
    """The distance of each point to its k-th nearest other point, from ``[n, n]``; k < n."""
    if not 1 <= k < len(matrix):
        raise UserError(
            f"`k` must be from 1 to the sample size less one, {len(matrix) - 1}, got {k}"
        )
    matrix = matrix.copy()
    np.fill_diagonal(matrix, -1)  # itself first, whatever its duplicates
    nearest: Matrix = np.partition(matrix, k, axis=1)[:, k]
    return nearest


@dataclass(frozen=True)
class Manifold:
    """How two samples cover each other, with balls to the k-th neighbour as their supports.

    Attributes:
        precision: Share of judged samples inside a ball of a real one.
        recall: Share of real samples inside a ball of a judged one.
        density: Mean number of real balls around a judged sample, over k; may exceed 1.
        coverage: Share of real balls that hold a judged sample.
        k: Which neighbour.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def manifold(xx: Matrix, yy: Matrix, xy: Matrix, k: int = 5) -> Manifold:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    All depend on the sample sizes, and one outlier with a wide ball can feign precision and recall:
    read them beside the same numbers for real samples. For equal distributions and equal sizes the
    expected density is 1 and the expected coverage about ``1 - 2^-k``.

    Args:
        xx: ``[n, n]``, distances among judged samples.
        yy: ``[m, m]``, among real ones.
        xy: ``[n, m]``, from judged to real.
        k: 1 <= k < min(n, m); 3 and 5 are the published choices.
    """
    if xy.shape != (len(xx), len(yy)):
        raise UserError(f"`xy` must be [{len(xx)}, {len(yy)}], got {list(xy.shape)}")
    judged, real = kth_nearest(xx, k), kth_nearest(yy, k)
    in_real = xy <= real
    return Manifold(
        precision=float(in_real.any(axis=1).mean()),
        recall=float((xy <= judged[:, None]).any(axis=0).mean()),
        density=float(in_real.sum(axis=1).mean() / k),
        coverage=float(in_real.any(axis=0).mean()),
        k=k,
    )


@dataclass(frozen=True)
class Memorisation:
    """Whether samples lie closer to the training data than unseen data do.

    Attributes:
        closeness: Probability that a sample is closer to the training data than a held-out one is:
            0.5 if they are alike, 1 for copies, below 0.5 for samples away from all data. Samples
            that keep to where the data are dense are closer too: `copies` tells the two apart.
        p_value: One-sided Mann-Whitney test that samples are closer.
        copies: Share of samples within `threshold` of a training sample.
        heldout_copies: The same share of the held-out data, which is duplicated in the data itself.
        threshold: A tenth of the median distance of the held-out data, in the data's unit.
    """

    closeness: float
    p_value: float
    copies: float
    heldout_copies: float
    threshold: float


def memorisation(samples: Matrix, heldout: Matrix) -> Memorisation:
    """Compare distances to the nearest training sample: of samples against held-out data.

    Args:
        samples: ``[n]``, from each sample to the nearest training sample.
        heldout: ``[m]``, from each held-out sample to the nearest training sample. The held-out
            data must have had no part in training.
    """
    from scipy.stats import mannwhitneyu

    if min(len(samples), len(heldout)) < 1:
        raise UserError("memorisation needs at least one sample and one held-out sample")
    test = mannwhitneyu(samples, heldout, alternative="less", method="asymptotic")
    threshold = float(np.median(heldout)) / 10
    return Memorisation(
        closeness=float(1 - test.statistic / (len(samples) * len(heldout))),
        # Where all distances are equal the test has no variance and gives NaN: no evidence.
        p_value=float(test.pvalue) if np.isfinite(test.pvalue) else 1.0,
        copies=float(np.mean(samples <= threshold)),
        heldout_copies=float(np.mean(heldout <= threshold)),
        threshold=threshold,
    )
