"""The class of a voxel is the one whose embedding has the largest dot product with the voxel's features."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.classify import largest_row

_BLOCK = 1 << 18  # logits that a CPU holds at a time, so that they stay in cache


def class_logits(features: Tensor, table: Tensor) -> Tensor:
    """Logits (..., K) of features (..., E) under the embeddings of the classes, table (K, E)."""
    return features @ table.T


@torch.no_grad()
def best_class(features: Tensor, table: Tensor) -> Tensor:
    """Class of the largest logit, the lowest of equals, uint8 (...), from features (..., E) and table (K, E).

    Logits are float32, whatever the features are: rounded further, many would be equal, and the lowest class win.
    """
    rows, table = features.reshape(-1, features.shape[-1]), table.float()
    out = torch.empty(len(rows), dtype=torch.uint8, device=rows.device)
    step = _BLOCK // len(table) if rows.device.type == "cpu" else len(rows)
    with torch.autocast(rows.device.type, enabled=False):
        for start in range(0, len(rows), max(step, 1)):
            part = slice(start, start + step)
            out[part] = largest_row(table @ rows[part].float().T)
    return out.view(features.shape[:-1])
