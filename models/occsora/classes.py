"""The class of a voxel is the one whose embedding has the largest dot product with the voxel's features."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 1 << 18  # logits that a CPU holds at a time, so that they stay in cache


def class_logits(features: Tensor, table: Tensor) -> Tensor:
    """Logits (..., K) of features (..., E) under the embeddings of the classes, table (K, E)."""
    return features @ table.T


@torch.no_grad()
def best_class(features: Tensor, table: Tensor) -> Tensor:
    """Class of the largest logit, the lowest of equals, uint8 (...), from features (..., E) and table (K, E)."""
    rows, (count, _) = features.reshape(-1, features.shape[-1]), table.shape
    out = torch.empty(len(rows), dtype=torch.uint8, device=rows.device)
    # One row a class: a largest entry and its place are found faster across rows than along them.
    ids = torch.arange(count, dtype=torch.uint8, device=rows.device).unsqueeze(1)
    step = _BLOCK // count if rows.device.type == "cpu" else len(rows)
    for start in range(0, len(rows), max(step, 1)):
        logits = table @ rows[start : start + step].T
        out[start : start + step] = torch.where(logits == logits.amax(0), ids, count - 1).amin(0)
    return out.view(features.shape[:-1])
