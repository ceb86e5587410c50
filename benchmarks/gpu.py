"""Everything that needs a GPU, with one command: kernels, steps, memory, agreement and a trace, within a time budget.

    PYTHONPATH=. python benchmarks/gpu.py                                     # all parts, nine minutes
    PYTHONPATH=. python benchmarks/gpu.py --only kernels                      # some of them
    PYTHONPATH=. python benchmarks/gpu.py --device cpu --quick --seconds 60   # without a GPU, small, to see that it runs

Writes gpu.json and gpu.txt with device, versions and commit, step.png, parts.png and trace.json.gz into --out. Each part runs
in a process of its own, so that a kernel that breaks the device, or hangs, costs no other part its figures. Needs torch,
triton, numpy and einops; what else a part needs and does not find is said in its place in the result.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_clock import Clock
from gpu_job import Job
from machine import describe, say, write, write_text

_ENVIRONMENT = ("einops", "gymnasium", "safetensors", "scipy")


@dataclass(frozen=True)
class Part:
    """One part of the run: its module, its share of the time, and the packages that it needs beside torch and numpy."""

    module: str
    share: float
    needs: tuple[str, ...] = ()


# In this order, the most important first; a part leaves what it does not use to those after it.
PARTS = {
    "ceilings": Part("gpu_ceilings", 12),
    "lookup": Part("gpu_lookup", 50),
    "classify": Part("gpu_classify", 35, ("einops",)),
    "norm": Part("gpu_norm", 30),
    "noise": Part("gpu_noise", 10),
    "convolutions": Part("gpu_convolutions", 40, ("einops",)),
    "inputs": Part("gpu_inputs", 25, ("einops",)),
    "maps": Part("gpu_maps", 10, ("einops",)),
    "attention": Part("gpu_attention", 90),
    "step": Part("gpu_step", 130, _ENVIRONMENT),
    "memory": Part("gpu_memory", 25, _ENVIRONMENT),
    "roofline": Part("gpu_roofline", 30, _ENVIRONMENT),
    "agreement": Part("gpu_agreement", 35, _ENVIRONMENT),
    "trace": Part("gpu_trace", 25, _ENVIRONMENT),
    "tests": Part("gpu_tests", 60, ("pytest", "hypothesis", "einops")),
    "memory-count": Part("step_memory", 60, ("einops", "safetensors", "triton")),
    "step-count": Part("step_count", 60, (*_ENVIRONMENT, "triton")),
}
KERNELS = ("lookup", "classify", "norm", "noise", "convolutions", "inputs", "maps", "attention")
COUNTS = {"memory-count", "step-count"}  # need no GPU, and are left out unless they are asked for
_PIP_NAMES = {"gymnasium": "gymnasium farama-notifications cloudpickle"}
_LEAST = 5.0  # seconds that a part gets in any case


def main() -> None:
    """Run the chosen parts one after the other, or, in a process of its own, one of them."""
    parser = _parser()
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("this machine has no GPU that torch can use; --device cpu --quick tries the script")
    if options.compile is None:
        options.compile = not options.quick
    if options.worker:
        work(options)
        return
    try:
        names = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    run_all(names, options)


def chosen(only: str) -> list[str]:
    """Names of the parts that --only asks for, in order; all but COUNTS where it is empty.

    "kernels" stands for all kernel tables. What compares with ceilings gets them measured first. Raises ValueError on another
    word.
    """
    words = {word.strip() for word in only.split(",") if word.strip()} or set(PARTS) - COUNTS
    if unknown := words - set(PARTS) - {"kernels"}:
        raise ValueError(f"--only: expected some of {', '.join(PARTS)} or kernels, found {', '.join(sorted(unknown))}")
    words |= set(KERNELS) if "kernels" in words else set()
    words |= {"ceilings"} if words & {*KERNELS, "roofline"} else set()
    return [name for name in PARTS if name in words]


def run_all(names: list[str], options: argparse.Namespace) -> None:
    """Run parts until the budget is spent and write the results after each of them."""
    from gpu_plots import plot
    from gpu_table import table

    options.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.seconds
    result: dict[str, Any] = {**describe(options.device), "device": options.device, "quick": options.quick}
    result["commit"] = result["commit"] or options.commit or None
    result["parts"] = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, name in enumerate(names):
            shares = sum(PARTS[later].share for later in names[index:])
            allowed = (end - time.monotonic()) * PARTS[name].share / shares
            say(f"\n{name}: {allowed:.0f} s")
            begin = time.monotonic()
            outcome = run_part(name, options, Path(folder), allowed, end - time.monotonic())
            result["parts"][name] = {**outcome, "seconds": round(time.monotonic() - begin, 1)}
            write(result, str(options.out / "gpu.json"))
            write_text(options.out / "gpu.txt", table(result, PARTS) + "\n")
    result["plots"] = plot(result["parts"], options.out)
    write(result, str(options.out / "gpu.json"))
    print((options.out / "gpu.txt").read_text(), end="")


def run_part(name: str, options: argparse.Namespace, folder: Path, allowed: float, left: float) -> dict[str, Any]:
    """What a part found, in a process of its own; what it had by then, if it is stopped, fails or dies."""
    missing = [need for need in PARTS[name].needs if importlib.util.find_spec(need) is None]
    if missing:
        wanted = " ".join(_PIP_NAMES.get(need, need) for need in missing)
        return {"skipped": f"needs {', '.join(missing)}: python -m pip install {wanted}"}
    if left < _LEAST:
        return {"skipped": "the time budget was spent"}
    file = folder / f"{name}.json"
    peaks = folder / "ceilings.json"
    command = [sys.executable, __file__, "--worker", name, "--result", str(file), "--device", options.device]
    command += ["--seconds", str(max(_LEAST, allowed)), "--out", str(options.out.resolve()), "--peaks", str(peaks)]
    command += ["--quick"] * options.quick + ["--compile" if options.compile else "--no-compile"]
    process = subprocess.Popen(command, start_new_session=True)
    limit = max(_LEAST, min(left, 1.2 * allowed + 15))
    stopped = False
    try:
        process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        stopped = True
    finally:  # with all that it started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    found = json.loads(file.read_text()) if file.is_file() else {}
    if stopped:
        found["stopped"] = f"after {limit:.0f} s, with what was measured by then"
    elif process.returncode and "failed" not in found:
        found["failed"] = f"the process of this part ended with {process.returncode}"
    return found


def work(options: argparse.Namespace) -> None:
    """One part, in the process that `run_part` started."""
    file, peaks = Path(options.result), Path(options.peaks)

    def keep(found: dict[str, Any]) -> None:
        write(found, str(file))

    measured = json.loads(peaks.read_text()).get("peaks", {}) if peaks.is_file() else {}
    complete = len(measured) == 4
    clock = Clock(options.device, options.seconds, each=0.02 if options.quick else 0.25)
    job = Job(clock, options.quick, options.compile, measured if complete else {}, options.out, keep)
    torch.manual_seed(0)
    if clock.on_gpu:
        torch.cuda.set_device(options.device)
    try:
        keep(importlib.import_module(PARTS[options.worker].module).run(job))
    except Exception as error:  # its place in the result says what happened
        traceback.print_exc()
        before = json.loads(file.read_text()) if file.is_file() else {}
        keep({**before, "failed": f"{type(error).__name__}: {str(error).strip()[:500]}"})
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--seconds", type=float, default=540.0, help="time budget; what does not fit is listed as skipped")
    parser.add_argument("--only", default="", metavar="PARTS", help=f"some of: {', '.join(PARTS)}, kernels (the tables)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that everything runs; bars are not judged")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), metavar="FOLDER", help="where the results go")
    parser.add_argument("--commit", default="", help="commit to name in the results where there is no git repository")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="rivals through torch.compile too; default: unless --quick"
    )
    for hidden in ("--worker", "--result", "--peaks"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
