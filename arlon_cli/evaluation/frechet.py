"""The Fréchet distance between two sets of features, each taken as a Gaussian (Heusel et al., 2017)."""

import numpy as np


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½) of features (N, D) and (M, D).

    Raises ValueError for a set of fewer than two.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"Sets of {len(first)} and {len(second)} features have no covariance; each takes at least 2.")
    mean_1, cov_1 = _gaussian(first)
    mean_2, cov_2 = _gaussian(second)
    # (Σ₁ Σ₂)^½ has the trace of the root of the symmetric Σ₁^½ Σ₂ Σ₁^½
    root = _root(cov_1)
    shared = np.linalg.eigvalsh(root @ cov_2 @ root)
    trace = np.trace(cov_1) + np.trace(cov_2) - 2 * np.sqrt(shared.clip(min=0)).sum()
    return float(np.square(mean_1 - mean_2).sum() + max(trace, 0.0))  # rounding may pass 0


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    features = features.astype(np.float64)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def _root(matrix: np.ndarray) -> np.ndarray:
    """The root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
