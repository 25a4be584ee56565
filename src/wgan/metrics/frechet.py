"""The Frechet distance between features, as FID reports it."""

from __future__ import annotations

from typing import Any

from wgan.transport import sample_bures_squared


def frechet_distance(x: Any, y: Any) -> float:
    """``|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))`` of means and covariances of features.

    The squared W2 of the fitted Gaussians. It sees nothing beyond two moments, and is biased
    upwards by a term that falls as 1 / n: compare only values at equal sizes and in one feature
    space. Computed from singular values of the samples, so that it is as accurate with fewer
    samples than features, where the root of a product of covariances fails.

    Args:
        x: Features ``[n, k]``, n >= 2.
        y: Features ``[m, k]``, m >= 2.

    Returns:
        A number >= 0, in the squared unit of the features (Heusel et al. 2017, equation 6).
    """
    return sample_bures_squared(x, y)
