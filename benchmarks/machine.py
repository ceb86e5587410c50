"""What every benchmark prints beside its figures: the machine, the versions and the commit; and how it prints them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "numpy", "gymnasium", "triton", "libsumo", "stable-baselines3")
_GIB = 1 << 30


def describe(device: str = "cpu") -> dict[str, Any]:
    """Machine, versions and commit, as a dict that JSON can hold."""
    return {
        "machine": {
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "load_average": [round(value, 2) for value in os.getloadavg()],
            "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
            "gpu_memory_gib": _gpu_memory(device),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "python": platform.python_version(),
            "cuda": torch.version.cuda,
            **{name: _version(name) for name in _PACKAGES},
        },
        "commit": _commit(),
    }


def write(result: dict[str, Any], target: str) -> None:
    """Write the result as JSON to a file, or to standard output for "-"; an empty target writes nothing."""
    text = json.dumps(result, indent=2, allow_nan=False)
    if target == "-":
        print(text)
    elif target:
        write_text(Path(target), text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file beside and rename it, so that whoever reads it finds the old one or the new one."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    beside.replace(path)


def say(text: str) -> None:
    """A line of progress on standard error, so that standard output holds JSON alone."""
    print(text, file=sys.stderr, flush=True)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _gpu_memory(device: str) -> float | None:
    return round(torch.cuda.get_device_properties(device).total_memory / _GIB, 1) if device.startswith("cuda") else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=here, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None
