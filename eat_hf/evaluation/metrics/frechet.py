"""Fréchet distance between two sets of features, each taken for a Gaussian; FID, where the features are Inception's."""

import numpy as np
from scipy.linalg import svdvals
from scipy.linalg.lapack import dpstrf

from ...errors import UserError


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), A and B the sample covariances (divided by n - 1).

    With A = F F^T and B = G G^T the eigenvalues of A B are the squared singular values of F^T G, so the trace of the
    root is their sum. No root of a near-singular matrix is taken: sets smaller than the number of features lose no
    accuracy, and equal sets give 0 but for rounding.

    Args:
        a: (n, d) features of one set, n >= 2.
        b: (m, d) of the other, m >= 2.

    Raises:
        UserError: fewer than two rows, widths that differ, or values that are not finite.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UserError(f"Features must be (n, d) and (m, d), not {a.shape} and {b.shape}.")
    if min(len(a), len(b)) < 2:
        raise UserError(
            f"A Fréchet distance needs at least two pictures on either side, not {len(a)} and {len(b)}; add clips."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UserError("Features for a Fréchet distance must be finite; leave out frames without a face.")
    shift = a.mean(0) - b.mean(0)
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    root = svdvals(_factor(a).T @ _factor(b)).sum()
    return max(0.0, float(shift @ shift + np.vdot(a, a) + np.vdot(b, b) - 2 * root))


def _factor(samples: np.ndarray) -> np.ndarray:
    """F (d, r), r <= min(n, d), with F F^T = samples^T samples, for samples (n, d)."""
    count, width = samples.shape
    if count <= width:
        return samples.T
    lower, pivots, rank, _ = dpstrf(samples.T @ samples, lower=1)  # Cholesky, pivoted: covariances may be singular
    factor = np.empty((width, rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor
