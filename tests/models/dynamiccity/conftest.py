"""The plain model of benchmarks/ is what the tests here compare with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folder of the benchmarks, on the path of imports."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
