"""A profile of a few steps: a trace for chrome://tracing or Perfetto, and the kernels that take most of the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_job import Job
from step_worlds import WAYS, Fleet, random_action
from torch.profiler import ProfilerActivity, profile

_FILE = "trace.json.gz"
_LARGEST = 16 << 20  # bytes of the trace; a longer one is profiled again over a single step
_STEPS, _WARM_UP, _SHOWN = 3, 5, 25


def run(job: Job) -> dict[str, Any]:
    """Profile captured steps of `base` in 64 worlds, or what can be had of that."""
    fleet = Fleet("mini" if job.quick else "base", job.device, "bf16" if job.clock.on_gpu else "fp32")
    simulator = fleet.simulator(1 if job.quick else 64)
    name = "kernels, CUDA graph" if job.clock.on_gpu else "eager torch"
    path = job.out / _FILE
    with WAYS[name].of(simulator):
        for _ in range(_WARM_UP if job.clock.on_gpu else 1):
            simulator.step(random_action(simulator))
        job.clock.wait()
        for steps in (_STEPS, 1):
            rows = _profile(job, simulator, steps, path)
            if path.stat().st_size < _LARGEST:
                break
            path.unlink()
    return {
        "preset": fleet.preset,
        "worlds": simulator.num_worlds,
        "way": name,
        "steps": steps,
        "file": _FILE if path.is_file() else f"left out: larger than {_LARGEST >> 20} MiB",
        "rows": rows,
    }


def _profile(job: Job, simulator: Any, steps: int, path: Path) -> list[dict[str, Any]]:
    """Write the trace of some steps; returns the kernels (on a CPU, operations) by their own time."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * job.clock.on_gpu
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            simulator.step(random_action(simulator))
        job.clock.wait()
    part = path.with_name(f"part-{_FILE}")  # the profiler compresses what ends in .gz
    profiler.export_chrome_trace(str(part))
    part.replace(path)
    where = "self_device_time_total" if job.clock.on_gpu else "self_cpu_time_total"
    events = [event for event in profiler.key_averages() if getattr(event, where) > 0]
    if job.clock.on_gpu:  # what ran on the device, not the calls that launched it
        events = [event for event in events if str(event.device_type).endswith("CUDA")] or events
    total = sum(getattr(event, where) for event in events)
    events.sort(key=lambda event: -getattr(event, where))
    return [
        {
            "name": event.key,
            "calls_per_step": event.count / steps,
            "ms_per_step": getattr(event, where) / 1000 / steps,
            "share": getattr(event, where) / total,
        }
        for event in events[:_SHOWN]
    ]


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    yield f"{result['preset']}, {result['worlds']} worlds, {result['way']}, {result['steps']} steps; trace: {result['file']}"
    for row in result["rows"]:
        yield f"{row['ms_per_step']:>9.3f} ms {row['share']:>6.1%} {row['calls_per_step']:>7.1f} calls  {row['name'][:110]}"
