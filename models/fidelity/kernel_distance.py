"""The kernel distance between two sets of features (KID; Bińkowski et al., "Demystifying MMD GANs", 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

SUBSETS, SUBSET_SIZE = 100, 1000  # as in the paper's code


def squared_mmd(a: Tensor, b: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of features a (N, D) and b (M, D), a float64 scalar.

    Kernel (x . y / D + 1)^3. Unbiased where the features of a set are independent: 0 on average, and so below 0 every other
    time, where both sets come from one distribution. Raises ValueError below two features.
    """
    if min(len(a), len(b)) < 2 or a.shape[1:] != b.shape[1:] or a.ndim != 2:
        found = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"squared_mmd: expected two features or more, (N, D) of one D, found {found}")
    a, b = a.to(torch.float64), b.to(torch.float64)
    within = sum(_mean_off_diagonal(_kernel(x, x)) for x in (a, b))
    return within - 2 * _kernel(a, b).mean()


def kernel_distance(
    a: Tensor, b: Tensor, *, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation over subsets of the unbiased squared MMD between clips.

    a, b: features (N, S, D) and (M, T, D) of their frames, or of whole clips with S = T = 1.

    A subset has `size` clips of each set, or as many as the smaller set has, and one feature of each: frames of one clip are
    alike, and counting them as independent would bias the estimate upwards.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(size, len(a), len(b))
    found = torch.stack([squared_mmd(one_of_each(a, size, generator), one_of_each(b, size, generator)) for _ in range(subsets)])
    return float(found.mean()), float(found.std()) if subsets > 1 else 0.0


def one_of_each(features: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """One feature of each of `size` different clips, (size, D), drawn from features (N, S, D)."""
    clips = torch.randperm(len(features), generator=generator)[:size]
    frames = torch.randint(features.shape[1], (size,), generator=generator)
    return features[clips, frames]


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_off_diagonal(gram: Tensor) -> Tensor:
    count = len(gram)
    return (gram.sum() - gram.trace()) / (count * (count - 1))
