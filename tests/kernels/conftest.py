"""Fixtures of the kernel tests: the device they run on, and memory that shows what nobody wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def device() -> str:
    """Where Triton kernels run: the GPU, or the CPU under Triton's interpreter (see the top conftest)."""
    pytest.importorskip("triton")
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what torch.empty returns with NaN, or -1 for integers, so that a result that was not written shows."""
    empty = torch.empty

    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        memory = empty(*args, **kwargs)
        return memory.fill_(torch.nan if memory.is_floating_point() else -1)

    monkeypatch.setattr(torch, "empty", poisoned)


@pytest.fixture
def rounds_to_nearest(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Triton's interpreter round float32 to the nearest bfloat16, as GPUs do; by itself it cuts the last bits off."""
    if device != "cpu":
        return
    from triton.runtime import interpreter

    cut = interpreter._convert_float

    def rounded(data: np.ndarray, source: Any, target: Any, mode: Any) -> np.ndarray:
        if (str(source), str(target)) != ("fp32", "bf16"):
            return cut(data, source, target, mode)
        bits = np.ascontiguousarray(data, dtype=np.float32).view(np.uint32).astype(np.uint64)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return np.where(np.isnan(data), 0x7FC0, nearest).astype(np.uint16)

    monkeypatch.setattr(interpreter, "_convert_float", rounded)
