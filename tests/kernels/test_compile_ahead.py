"""Every kernel compiles for the GPUs in use, without one in the machine, and keeps its numbers in registers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALLEST_SHARED_MEMORY = 99 * 1024  # bytes a block may have on consumer cards since Ampere


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_no_kernel_spills(architecture: int) -> None:
    pytest.importorskip("triton.backends.nvidia")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    program = [sys.executable, str(Path(__file__).with_name("compile_ahead.py")), str(architecture)]
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    print(report)
    assert len(report) == 77
    for name, kernel in report.items():
        assert kernel["code"] > 0, name
        assert kernel["spilled"] == 0, (name, kernel)
        assert 0 < kernel["registers"] <= 255, (name, kernel)
        assert kernel["shared"] <= SMALLEST_SHARED_MEMORY, (name, kernel)
