"""Fixtures of the kernel tests: the device they run on, and memory that shows what nobody wrote."""

from __future__ import annotations

from typing import Any

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
