"""benchmarks/gpu.py: the whole run on a CPU, what it is asked for, what it says of what it cannot do, and its verdicts."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def run(scripts: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(scripts.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(scripts / "gpu.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_quick_run_writes_its_results(scripts: Path, tmp_path: Path) -> None:
    result = run(
        scripts,
        "--device",
        "cpu",
        "--quick",
        "--seconds",
        "120",
        "--only",
        "lookup,norm,noise,maps,inputs",
        "--out",
        str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["versions"]["torch"]
    assert written["device"] == "cpu"
    assert list(written["parts"]) == ["ceilings", "lookup", "norm", "noise", "inputs", "maps"]
    peaks = written["parts"]["ceilings"]["peaks"]
    assert min(peaks.values()) > 0
    for name in ("lookup", "norm", "noise", "inputs", "maps"):
        for row in written["parts"][name]["rows"]:
            assert row["ms"] > 0, row
            assert row["share"] == pytest.approx(row["floor_ms"] / row["ms"])
            assert row["error"] < (1e-2 if row["type"] == "bfloat16" else 1e-5), row
            assert "meets" not in row, "small sizes are not judged"
            assert all("ms" in rival for rival in row["rivals"].values()), row
    text = (tmp_path / "gpu.txt").read_text()
    assert text == result.stdout
    assert "a quick run" in text
    assert {path.name for path in tmp_path.iterdir()} == {"gpu.json", "gpu.txt"}


def test_what_is_asked_for(scripts: Path) -> None:
    import gpu

    assert gpu.chosen("step") == ["step"]
    assert gpu.chosen("roofline, noise") == ["ceilings", "noise", "roofline"]
    assert gpu.chosen("kernels") == ["ceilings", *gpu.KERNELS]
    assert gpu.chosen("") == [name for name in gpu.PARTS if name not in gpu.COUNTS]
    with pytest.raises(ValueError, match=r"--only: expected some of ceilings.*found wheels"):
        gpu.chosen("step,wheels")


def test_a_missing_gpu_is_said(scripts: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    result = run(scripts)
    assert result.returncode == 2
    assert "--device cpu --quick" in result.stderr


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gpu

    monkeypatch.setitem(gpu.PARTS, "noise", gpu.Part("gpu_noise", 1, ("not_installed_anywhere",)))
    found = gpu.run_part("noise", argparse.Namespace(), tmp_path, 10.0, 10.0)
    assert found == {"skipped": "needs not_installed_anywhere: python -m pip install not_installed_anywhere"}


def test_a_part_that_fails_keeps_what_it_had(scripts: Path, tmp_path: Path) -> None:
    """A worker whose device does not exist fails, and its place in the result says so."""
    file = tmp_path / "ceilings.json"
    file.write_text(json.dumps({"peaks": {"memory": 1.0}}))
    result = run(scripts, "--worker", "ceilings", "--result", str(file), "--device", "cpu:bad", "--out", str(tmp_path))
    assert result.returncode == 1
    found = json.loads(file.read_text())
    assert found["peaks"] == {"memory": 1.0}
    assert "cpu:bad" in found["failed"]


def test_bars_of_a_row() -> None:
    from gpu_rows import Bar, judge

    row: dict[str, Any] = {"ms": 1.0, "share": 0.75, "rivals": {"cdist": {"ms": 5.0}, "compiled": {"failed": "no memory"}}}
    assert judge(row, (Bar("cdist", 5.0), Bar(None, 0.7))) == {
        "bars": {"5x cdist": True, "0.7 of the floor": True},
        "meets": True,
    }
    assert judge(row, (Bar("cdist", 5.1), Bar("compiled", 2.0)))["meets"] is False
    assert judge(row, (Bar("cdist", 5.0), Bar("compiled", 2.0)))["meets"] is None, "a rival without a time decides nothing"
    assert judge(row, ()) == {}


@pytest.mark.parametrize(
    ("ratio", "worlds", "verdict", "meets"),
    [
        (0.94, 1, "loss", False),
        (0.96, 1, "tie", True),
        (0.96, 64, "tie", False),
        (1.01, 64, "tie", True),
        (1.2, 64, "win", True),
    ],
)
def test_the_verdict_on_attention(ratio: float, worlds: int, verdict: str, meets: bool) -> None:
    from gpu_attention import compare

    rivals = {"flash": {"ms": 1.0, "graph_ms": ratio}, "math": {"ms": 9.0, "graph_ms": 8.0}, "cudnn": {"failed": "refused"}}
    found = compare({"ms": 7.0, "graph_ms": 1.0, "worlds": worlds, "rivals": rivals}, decide=True)
    assert found == {"best": "flash", "ratio": ratio, "ratio_of": "graph_ms", "verdict": verdict, "meets": meets}


def test_bars_of_a_step() -> None:
    from gpu_step import judge

    row = {"preset": "base", "way": "kernels, CUDA graph", "worlds": 64, "ms": 60.0, "steps_per_s": 64 / 0.06}
    assert judge(row) == {"meets": True}
    assert judge({**row, "worlds": 1, "ms": 15.1}) == {"meets": False}
    assert judge({**row, "way": "eager torch"}) == {}
