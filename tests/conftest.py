"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must be set before triton is first imported
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks a server
settings.register_profile("occsora", deadline=None, derandomize=True)  # a busy machine is no failure, and runs repeat
settings.load_profile("occsora")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real recorded scenes; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no recorded scenes at {SHARED_DATA}")
    return SHARED_DATA
