"""Constants on the device: made once, since a step that copied them from the host each time could not run as a CUDA graph."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The values as a tensor (N,), which nobody may write to."""
    return torch.tensor(values, dtype=dtype, device=device)
