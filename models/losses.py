"""Losses of the tokenizers: weighted cross entropy and two soft forms of the Jaccard index, all mindful of rare classes."""

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


def lovasz_softmax(logits: Tensor, target: Tensor) -> Tensor:
    """Lovasz-softmax loss of logits (N, C) against class ids target (N,), a float32 scalar in [0, 1].

    The convex closure of 1 - IoU as a function of which voxels are wrong (Berman et al. 2018, equations 9 and 11), averaged
    over the classes present; ids of C and above are ignored, and without any other voxel the loss is zero. A sort for each
    class present: seconds for some ten million voxels on a CPU.
    """
    classes = logits.shape[-1]
    known = target < classes
    if not bool(known.all()):
        logits, target = logits[known], target[known]
    probability = logits.float().softmax(-1)
    counts = torch.bincount(target.int(), minlength=classes)
    present = counts.nonzero().flatten().tolist()
    losses = [_lovasz_of_class(probability[:, name], target == name, counts[name]) for name in present]
    return torch.stack(losses).mean() if losses else probability.sum()


def _lovasz_of_class(probability: Tensor, inside: Tensor, count: Tensor) -> Tensor:
    """Sum over voxels of their error times what it costs in IoU, taken in falling order of the errors."""
    error, order = torch.where(inside, 1 - probability, probability).sort(descending=True)
    missed = inside[order].cumsum(0)
    rank = torch.arange(1, len(order) + 1, device=order.device)
    # One voxel of millions moves the index by less than float32 can tell.
    jaccard = 1 - (count - missed).double() / (count + rank - missed)
    cost = jaccard.diff(prepend=jaccard.new_zeros(1)).float()
    return (error * cost).sum()
