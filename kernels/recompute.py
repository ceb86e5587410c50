"""Gradients of a kernel through its definition in plain torch, where that is fast enough for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(
    definition: Callable[..., Tensor], given: Sequence[Tensor], needed: Sequence[bool], slope: Tensor
) -> list[Tensor | None]:
    """Gradient of each given tensor that is needed, None for the others; slope is the gradient of the definition's result."""
    with torch.enable_grad():
        leaves = [part.detach().requires_grad_(wanted) for part, wanted in zip(given, needed, strict=False)]
        result = definition(*leaves)
    found = iter(torch.autograd.grad(result, [leaf for leaf in leaves if leaf.requires_grad], slope))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]
