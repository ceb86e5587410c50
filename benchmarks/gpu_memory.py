"""Peak memory of a step of `base` in 64 worlds, with the kernels and in plain torch, as the GPU's allocator has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from gpu_job import Job, first_line, free
from step_worlds import WAYS, Fleet, random_action

LESS = 2.0  # times less than without the kernels is asked
WORLDS = 64
_MIB = 1 << 20


def run(job: Job) -> dict[str, Any]:
    """Peaks in MiB; `step` is what a step takes beyond the weights and the state that it starts with."""
    if not job.clock.on_gpu:
        return {"skipped": "the allocator's peak is known on a GPU; --only memory-count counts it without one"}
    fleet = Fleet("mini" if job.quick else "base", job.device, "bf16")
    simulator = fleet.simulator(2 if job.quick else WORLDS)
    result: dict[str, Any] = {"preset": fleet.preset, "worlds": simulator.num_worlds, "rows": []}
    for name in ("kernels", "eager torch"):
        try:
            result["rows"].append({"way": name, **_peak(job, simulator, name)})
        except torch.OutOfMemoryError as error:
            result["rows"].append({"way": name, "failed": first_line(error)})
        job.keep(result)
    ours, theirs = result["rows"]
    if "step" in ours and "step" in theirs:
        result["ratio"] = theirs["step"] / ours["step"]
        result["ratio_total"] = theirs["total"] / ours["total"]
        result["meets"] = result["ratio"] >= LESS
    return result


def _peak(job: Job, simulator: Any, name: str) -> dict[str, float]:
    with WAYS[name].of(simulator):
        for _ in range(2):
            simulator.step(random_action(simulator))
        job.clock.wait()
        free(job.device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        simulator.step(random_action(simulator))
        job.clock.wait()
        peak = torch.cuda.max_memory_allocated()
    return {"before": before / _MIB, "total": peak / _MIB, "step": (peak - before) / _MIB}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    for row in result.get("rows", []):
        figures = f"{row['total']:.0f} MiB, of which the step {row['step']:.0f}" if "total" in row else row["failed"]
        yield f"{result['preset']}, {result['worlds']} worlds, {row['way']}: {figures}"
    if "ratio" in result:
        yield f"x{result['ratio']:.2f} less for the step with kernels, bar (2x) met: {'yes' if result['meets'] else 'NO'}"
