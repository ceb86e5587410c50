"""The scripts of benchmarks/ import each other as they do when one of them is run."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the scripts, on the path of imports."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return BENCHMARKS
