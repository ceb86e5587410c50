"""Precision and recall of generated features, by two definitions that the field calls by one name.

Precision is the share of generated samples that lie where true ones do, recall the share of true samples that lie where
generated ones do. Both functions give the share inside for each clip, so that means and intervals over clips can be taken;
precision is inside(generated, true), recall inside(true, generated).
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.fidelity.frechet import moments
from models.fidelity.kernel_distance import one_of_each

CONFIDENCE = 0.95  # of the ellipsoid; DynamicCity names the test and not the level
NEIGHBOURS = 3  # as Kynkäänniemi et al. take it
DRAWS = 8  # of one frame a clip
_DEGENERATE = 1e-6  # of the mean variance: below it a direction counts as one in which nothing varies


class TooFewClips(ValueError):
    """The reference is too small to say where its features lie."""


def inside_ellipsoid(features: Tensor, reference: Tensor, confidence: float = CONFIDENCE) -> Tensor:
    """Share of each clip's features (N, S, D) in the ellipsoid that holds `confidence` of a normal reference, float64 (N,).

    As DynamicCity's appendix 7.2 has it: (f - mean)^T covariance^-1 (f - mean) below the chi-square quantile of D degrees of
    freedom; mean and covariance of the reference (M, T, D). Directions in which the reference does not vary are no degrees of
    freedom, and a feature that differs there is outside. Raises TooFewClips unless the reference has more than D clips, and it
    takes several times as many until a true clip is inside as often as it should.
    """
    from scipy.special import chdtri

    if len(reference) <= reference.shape[-1]:
        raise TooFewClips(f"inside_ellipsoid: expected more than {reference.shape[-1]} reference clips, found {len(reference)}")
    mean, covariance = moments(reference.flatten(0, 1))
    values, vectors = torch.linalg.eigh(covariance)
    least = (_DEGENERATE * values.mean()).clamp(min=torch.finfo(torch.float64).tiny)
    limit = float(chdtri(max(int((values > least).sum()), 1), 1 - confidence))
    along = (features.to(torch.float64) - mean) @ vectors
    return ((along.square() / values.clamp(min=least)).sum(-1) <= limit).to(torch.float64).mean(1)


def inside_neighbours(
    features: Tensor, reference: Tensor, neighbours: int = NEIGHBOURS, draws: int = DRAWS, seed: int = 0
) -> Tensor:
    """Share of draws in which each clip lies in the reference's manifold, float64 (N,), from features (N, S, D), (M, T, D).

    As Kynkäänniemi et al. (2019): a sample is inside if it is no farther from some reference sample than that one's k-th
    nearest neighbour among the reference. Each draw takes one frame of each clip, since the nearest neighbours of a frame are
    the frames beside it. Raises TooFewClips unless the reference has more than `neighbours` clips.
    """
    if len(reference) <= neighbours:
        raise TooFewClips(f"inside_neighbours: expected more than {neighbours} reference clips, found {len(reference)}")
    generator = torch.Generator().manual_seed(seed)
    hits = torch.zeros(len(features), dtype=torch.float64)
    for _ in range(draws):
        true = one_of_each(reference, len(reference), generator).to(torch.float64)
        frames = torch.randint(features.shape[1], (len(features),), generator=generator)
        sample = features[torch.arange(len(features)), frames].to(torch.float64)
        # The smallest of the k + 1 distances is that of a sample to itself.
        radius = _distances(true, true).topk(neighbours + 1, largest=False).values[:, -1]
        hits += (_distances(sample, true) <= radius).any(1)
    return hits / draws


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M), computed by differences: equal features are 0 apart."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
