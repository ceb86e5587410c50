"""FLOPs and bytes of a step by part, the time that they need at the least, and the time that the parts take.

Counted as step_costs.py says. `one by one` is the sum of the floors of all operations, each bound by its bytes or its FLOPs;
the floor of a part takes all of its bytes and all of its FLOPs together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpu_ceilings import floor
from gpu_job import Job
from step_costs import STEP, Counter, Counting, kernels_counted
from step_parts import PARTS, around, timed
from step_worlds import WAYS, Fleet, random_action

_STEPS = 10


def run(job: Job) -> dict[str, Any]:
    """Counts of one step and the time of each part over some others."""
    fleet = Fleet("mini" if job.quick else "base", job.device, "bf16" if job.clock.on_gpu else "fp32")
    simulator = fleet.simulator(2 if job.quick else 64)
    way, count = WAYS["kernels"], 2 if job.quick else _STEPS
    with way.of(simulator):
        simulator.step(random_action(simulator))
        with timed(simulator, job.device) as spent:
            times = job.clock.waited(lambda: simulator.step(random_action(simulator)), count)
        counter, steps = Counter(job.peaks), len(times)
        with kernels_counted(counter), around(simulator, counter.part), Counting(counter):
            simulator.step(random_action(simulator))
    rows = [_row(job, simulator, STEP, counter, sum(times) / steps)]
    rows += [_row(job, simulator, name, counter, 1000 * spent[name] / steps) for name in PARTS if name in spent]
    common = {"preset": fleet.preset, "worlds": simulator.num_worlds}
    return {"rows": [common | row for row in rows]}


def _row(job: Job, simulator: Any, name: str, counter: Counter, took: float) -> dict[str, Any]:
    counts = counter.found[name]
    row: dict[str, Any] = {"part": name, "ms": took, "gflop": counts.flops / 1e9, "gigabytes": counts.bytes / 1e9}
    row |= {"operations": counts.operations}
    if job.peaks:
        rate = "bfloat16" if simulator.precision == "bf16" else "float32"
        row["floor_ms"], row["bound"] = floor(job.peaks, counts.bytes, counts.flops, rate)
        row |= {"one_by_one_ms": counts.ms, "share": row["floor_ms"] / took}
    return row


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    for row in result["rows"]:
        words = f"{row['part']:<38} {row['ms']:>9.3f} ms {row['gflop']:>10.2f} GFLOP {row['gigabytes']:>8.3f} GB"
        words += f" {row['operations']:>6} operations"
        if "floor_ms" in row:
            words += f" {row['floor_ms']:>9.3f} ms at the least ({row['bound']}), {row['share']:.2f};"
            words += f" one by one {row['one_by_one_ms']:.3f} ms"
        yield words
