"""The 2-Wasserstein distance of Gaussians, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgan.errors import UserError
from wgan.transport.cost import as_points


def gaussian_w2_squared(mean_x: Any, cov_x: Any, mean_y: Any, cov_y: Any) -> float:
    """``W2^2`` of two Gaussians: ``|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))``.

    The trace of the root is the sum of the singular values of ``C_x^(1/2) C_y^(1/2)``, which exists
    and is accurate for singular covariances too (Bures; Dowson and Landau 1982).

    Args:
        mean_x: ``[dim]``.
        cov_x: ``[dim, dim]``, symmetric and positive semi-definite.
        mean_y: ``[dim]``.
        cov_y: ``[dim, dim]``.

    Raises:
        UserError: Shapes that do not fit, or a matrix that is not a covariance.
    """
    mean_x, mean_y = (
        np.atleast_1d(np.asarray(mean_x, float)),
        np.atleast_1d(np.asarray(mean_y, float)),
    )
    return _bures(mean_x, _root(cov_x, len(mean_x)), mean_y, _root(cov_y, len(mean_y)))


def sample_bures_squared(x: Any, y: Any) -> float:
    """``W2^2`` of the Gaussians fitted to two samples (unbiased covariances).

    Works on the centred samples themselves and never forms a covariance, so that fewer samples than
    dimensions are as good as more.

    Args:
        x: ``[n, dim]``, n >= 2.
        y: ``[m, dim]``, m >= 2.
    """
    x, y = as_points(x, "x"), as_points(y, "y")
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise UserError(
            "`x` and `y` must be two or more samples each, of equal dimension, "
            f"got {x.shape} and {y.shape}"
        )
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    return _bures(mean_x, _factor(x - mean_x), mean_y, _factor(y - mean_y))


def _bures(
    mean_x: NDArray[np.float64],
    root_x: NDArray[np.float64],
    mean_y: NDArray[np.float64],
    root_y: NDArray[np.float64],
) -> float:
    """``W2^2`` for covariances given as ``root.T @ root``, roots of any number of rows."""
    if root_x.shape[1] != root_y.shape[1]:
        raise UserError(f"Gaussians of different dimensions: {root_x.shape[1]}, {root_y.shape[1]}")
    difference = mean_x - mean_y
    cross = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    spread = np.square(root_x).sum() + np.square(root_y).sum() - 2 * cross
    return float(difference @ difference + max(spread, 0.0))


def _factor(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix of the fewest rows whose Gram matrix is the sample's covariance."""
    scaled: NDArray[np.float64] = centred / np.sqrt(len(centred) - 1)
    return np.linalg.qr(scaled).R if scaled.shape[0] > scaled.shape[1] else scaled


def _root(cov: Any, dim: int) -> NDArray[np.float64]:
    cov = np.asarray(cov, dtype=np.float64).reshape(dim, -1) if np.size(cov) == dim**2 else cov
    if np.shape(cov) != (dim, dim) or not np.isfinite(cov).all():
        raise UserError(f"a covariance must be a finite [{dim}, {dim}] matrix, got {np.shape(cov)}")
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    tolerance = 1e-9 * max(float(np.abs(values).max()), 1e-300)
    if values.min() < -tolerance or not np.allclose(cov, cov.T, rtol=0, atol=tolerance):
        raise UserError("a covariance must be symmetric and positive semi-definite")
    root: NDArray[np.float64] = np.sqrt(values.clip(0))[:, None] * vectors.T
    return root
