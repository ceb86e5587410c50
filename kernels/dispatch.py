"""Which path a call takes: the Triton kernel, or the definition in plain torch."""

from __future__ import annotations

import importlib.util
from functools import cache

from torch import Tensor


@cache
def has_triton() -> bool:
    """Whether triton can be imported; it is not imported to find out."""
    return importlib.util.find_spec("triton") is not None


def on_triton(tensor: Tensor) -> bool:
    """Whether work on this tensor goes to a Triton kernel: it lies on a GPU and triton is installed."""
    return tensor.is_cuda and has_triton()
