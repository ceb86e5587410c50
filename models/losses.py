"""Losses of the tokenizer: weighted cross entropy and a soft Jaccard index, both mindful of rare classes."""

from __future__ import annotations

import torch
from torch import Tensor


def class_weights(frequency: Tensor, power: float = 0.33, largest: float = 12.0) -> Tensor:
    """Weights (C,) of the cross entropy, (mean frequency / frequency)^power up to `largest`, from class shares (C,)."""
    present = frequency > 0
    mean = frequency[present].mean()
    weights = (mean / frequency.clamp(min=1e-9)).pow(power).clamp(max=largest)
    return torch.where(present, weights, torch.ones_like(weights))


def voxel_loss(logits: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy and soft Jaccard loss of logits (N, C) against class ids target (N,); ids of C and above are ignored.

    Jaccard: 1 - mean over the classes present of I / U, where I sums the probability given to the true class and
    U = sum of probabilities + number of voxels - I.
    """
    classes = logits.shape[-1]
    known = target < classes
    index = torch.where(known, target, 0).long()
    log_probability = logits.float().log_softmax(-1)
    right = log_probability.gather(-1, index.unsqueeze(-1)).squeeze(-1)
    weight = weights.to(right)[index] * known
    cross_entropy = -(right * weight).sum() / weight.sum().clamp(min=1)

    probability = log_probability.exp() * known.unsqueeze(-1)
    overlap = torch.zeros(classes, device=logits.device).index_add(0, index, right.exp() * known)
    count = torch.zeros(classes, device=logits.device).index_add(0, index, known.float())
    jaccard = overlap / (probability.sum(0) + count - overlap).clamp(min=1e-6)
    present = count > 0
    return cross_entropy, 1 - (jaccard * present).sum() / present.sum().clamp(min=1)
