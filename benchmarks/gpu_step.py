"""The environment's step by number of worlds, decode and reward included: plain torch, eager and compiled, kernels, CUDA graph.

Plain torch is the step as one would write it without the kernels, see unfused.py: not their definitions, which save memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from gpu_job import Job, first_line, free
from machine import say
from step_worlds import WAYS, Fleet, Way, random_action

WORLDS = (64, 1, 8, 256)
_STEPS, _WARM_UP = 40, 3
STEPS_PER_SECOND, ONE_WORLD_MS = 1000.0, 15.0  # asked of `base`: of 64 worlds together, and of one world alone


def run(job: Job) -> dict[str, Any]:
    """Rows of all ways that need no compiling first, then those that torch.compile makes, as far as time goes."""
    rows: list[dict[str, Any]] = []
    presets = ("mini",) if job.quick else ("base", "mini")
    fleets = {}
    for preset in presets:
        fleets[preset] = Fleet(preset, job.device, "bf16" if job.clock.on_gpu else "fp32")
    for name, worlds in [(name, worlds) for name in presets for worlds in ((1, 2) if job.quick else WORLDS)]:
        _measure(job, fleets[name], worlds, [key for key, way in WAYS.items() if not way.compile], rows)
    for name, worlds in [(name, worlds) for name in presets for worlds in ((1,) if job.quick else (64, 1))] * job.compile:
        _measure(job, fleets[name], worlds, [key for key, way in WAYS.items() if way.compile], rows)
    return {"rows": rows}


def _measure(job: Job, fleet: Fleet, worlds: int, names: list[str], rows: list[dict[str, Any]]) -> None:
    """Add the rows of one preset and number of worlds."""
    free(job.device)
    simulator = None
    for name in names:
        row: dict[str, Any] = {"preset": fleet.preset, "worlds": worlds, "way": name}
        if job.clock.left() <= 0:
            rows.append({**row, "skipped": "the time of this part was spent"})
            continue
        try:
            simulator = simulator or fleet.simulator(worlds)
            row |= _way(job, simulator, WAYS[name])
        except torch.OutOfMemoryError:
            row["failed"] = "out of memory"
        except Exception as error:  # torch.compile and captures fail in many ways, and the other rows are wanted
            row["failed"] = first_line(error)
            if job.lost():
                raise
        rows.append(row | (judge(row) if not job.quick else {}))
        say(show(rows[-1]))
        job.keep({"rows": rows})
        free(job.device)


def _way(job: Job, simulator: Any, way: Way) -> dict[str, Any]:
    """Median and 90th percentile of a step that is waited for, and what comes of it."""
    if way.kernels and not job.clock.on_gpu:
        return {"skipped": "kernels run on a GPU"}
    simulator.reset(seed=0)
    with way.of(simulator):
        begin = time.perf_counter()
        for _ in range(_WARM_UP):
            simulator.step(random_action(simulator))
        job.clock.wait()
        ready = time.perf_counter() - begin
        times = job.clock.waited(lambda: simulator.step(random_action(simulator)), _STEPS)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] if way.compile else None
    median, worlds = statistics.median(times), simulator.num_worlds
    found: dict[str, Any] = {"precision": simulator.precision, "ms": median, "steps": len(times)}
    found |= {"p90_ms": sorted(times)[int(0.9 * (len(times) - 1))], "steps_per_s": 1000 * worlds / median}
    return found | {"warm_up_s": round(ready, 2)} | ({"compiled_graphs": graphs} if way.compile else {})


def judge(row: dict[str, Any]) -> dict[str, bool]:
    """Whether the captured step of `base` reaches what is asked of it; nothing for other rows."""
    if row["preset"] != "base" or row["way"] != "kernels, CUDA graph" or "ms" not in row:
        return {}
    if row["worlds"] == 64:
        return {"meets": row["steps_per_s"] >= STEPS_PER_SECOND}
    return {"meets": row["ms"] <= ONE_WORLD_MS} if row["worlds"] == 1 else {}


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    words = f"{row['preset']:<6}{row['worlds']:>4} worlds  {row['way']:<24}"
    if "ms" not in row:
        return words + (row.get("failed") or row.get("skipped") or "")
    words += f"{row['precision']}  {row['ms']:>9.2f} ms (p90 {row['p90_ms']:.2f})  {row['steps_per_s']:>9.1f} steps/s"
    words += f"  {row['compiled_graphs']} graphs, {row['warm_up_s']:.0f} s to compile" if "compiled_graphs" in row else ""
    return words + (f"  bar met: {'yes' if row['meets'] else 'NO'}" if "meets" in row else "")


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part, with the ratio of each way to the same step in eager torch."""
    eager = {(row["preset"], row["worlds"]): row["ms"] for row in result["rows"] if row["way"] == "eager torch" and "ms" in row}
    for row in result["rows"]:
        before = eager.get((row["preset"], row["worlds"]))
        yield show(row) + (f"  x{before / row['ms']:.2f} of eager torch" if before and "ms" in row else "")
