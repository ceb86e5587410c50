"""The Fréchet distance between two sets of features (Heusel et al., 2017): both are taken to be normally distributed."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between the normal distributions fitted to features a (N, D) and b (M, D), any float type; 0 or more.

    In double precision. It grows as N or M shrinks, so only figures of the same numbers compare. With fewer than D + 1 features
    the covariance has no full rank, which is allowed. Raises ValueError below two features, or where D differs.
    """
    for name, features in (("a", a), ("b", b)):
        if features.ndim != 2 or len(features) < 2 or features.shape[1] != a.shape[1]:
            found = f"a {tuple(a.shape)}, b {tuple(b.shape)}"
            raise ValueError(f"frechet_distance: {name}: expected two features or more, (N, D) of one D, found {found}")
    return frechet_distance_of_moments(*moments(a), *moments(b))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), float64."""
    features = features.to(torch.float64)
    return features.mean(0), torch.cov(features.T).reshape(features.shape[1], features.shape[1])


def frechet_distance_of_moments(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) for means (D,) and covariances A and B (D, D), float64.

    The product in the root is symmetric, unlike A B, so its eigenvalues are real and none is negative but by rounding, which is
    cut off; singular covariances need no jitter.
    """
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ covariance_b @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * cross
    return max(float(distance), 0.0)
