"""The inception score (Salimans et al., 2016), of any classifier's posteriors."""

from __future__ import annotations

import torch
from torch import Tensor


def inception_score(posterior: Tensor) -> float:
    """exp of the mean Kullback-Leibler divergence of each posterior from their mean: 1 to K, from probabilities (..., K).

    Higher where each sample is of one clear class and all classes occur. It knows nothing of the reference, so the score of
    true clips belongs beside it. Raises ValueError where rows are no probabilities.
    """
    posterior = posterior.to(torch.float64).reshape(-1, posterior.shape[-1])
    if not len(posterior) or bool((posterior < 0).any()):
        raise ValueError(f"inception_score: expected probabilities (..., K), at least one row, found {tuple(posterior.shape)}")
    if not torch.allclose(posterior.sum(1), torch.ones(len(posterior), dtype=torch.float64), atol=1e-4):
        raise ValueError("inception_score: expected rows that sum to 1")
    entropy_of_mean = torch.special.entr(posterior.mean(0)).sum()
    mean_entropy = torch.special.entr(posterior).sum(1).mean()
    return float((entropy_of_mean - mean_entropy).exp())
