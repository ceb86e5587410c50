"""FLOPs and bytes of a step by part, and the floors that they mean on an H200, by arithmetic alone: needs no GPU.

    PYTHONPATH=. python benchmarks/step_count.py --json count.json

`Simulator.advance` runs on CUDA tensors that have shapes and types but no numbers (fake_gpu.py; the device "meta" knows no
autocast), in bfloat16 and on the way that a GPU goes, and is counted as step_costs.py says. Floors are at the rates of the data
sheet, which no program reaches. This is not a measurement: launches, latencies and everything that is not a product or a byte,
like the exponentials of attention, are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fake_gpu import fake_gpu, move
from gpu_job import Job
from machine import describe, write
from step_costs import STEP, Counter, Counting, Counts, kernels_counted
from step_parts import PARTS, around
from step_worlds import Fleet
from torch import Tensor

import occworld_env.constant
import occworld_env.footprint
import scenes.grid
from models.interface import Rollout

# An H200 by its data sheet: GB/s, and TFLOP/s of dense products.
DATA_SHEET = {"memory": 4800.0, "bfloat16": 990.0, "tf32": 495.0, "float32": 67.0}
TRANSFORMER = ("transformer, denoising", "transformer, writing the cache")
_SHOWN = 25  # kinds of operations
_CACHES = (scenes.grid._column_centres, occworld_env.constant.constant, occworld_env.footprint.class_table)


def count(name: str, worlds: int) -> Counter:
    """Counts of one step of a preset in so many worlds."""
    simulator = Fleet(name, "cpu", "bf16").simulator(worlds)
    counter = Counter(DATA_SHEET)
    with _forgotten(), fake_gpu(), torch.no_grad():
        _play(simulator)
        action = torch.zeros(worlds, 2, dtype=torch.float64, device="cuda")
        simulator.advance(action)  # makes the constants that later steps share
        with kernels_counted(counter), around(simulator, counter.part), Counting(counter):
            simulator.advance(action)
    return counter


@contextmanager
def _forgotten() -> Iterator[None]:
    """Constants are made anew inside and forgotten afterwards."""
    for cache in _CACHES:
        cache.cache_clear()
    try:
        yield
    finally:
        for cache in _CACHES:
            cache.cache_clear()


def _play(simulator: Any) -> None:
    """Put a simulator on the GPU that is played."""

    def there(value: Tensor) -> Tensor:
        return torch.empty(value.shape, dtype=value.dtype, device="cuda")

    move(simulator.model)
    for owner in (simulator.map, simulator.reach):
        for name, value in vars(owner).items():
            if isinstance(value, Tensor):
                object.__setattr__(owner, name, there(value))
            elif isinstance(value, torch.device):
                object.__setattr__(owner, name, torch.device("cuda"))
    simulator.device = torch.device("cuda")
    for name in ("state", "rollout"):
        held = getattr(simulator, name).tensors
        setattr(simulator, name, Rollout({key: there(value) for key, value in held.items()}))


def count_all(name: str, worlds: int) -> dict[str, Any]:
    """Rows of the step, its parts, and the operations that need most of the time, and the share that the transformer has."""
    counter = count(name, worlds)
    found = counter.found
    step, dit = found[STEP], [found[part] for part in TRANSFORMER]
    shares = {
        "flops": sum(part.flops for part in dit) / step.flops,
        "ms": sum(part.ms for part in dit) / step.ms,
        "products at the data sheet's rate": sum(part.flops for part in dit) / DATA_SHEET["bfloat16"] / 1e9 / step.ms,
    }
    rows = [{"part": part, **_row(found[part])} for part in (STEP, *PARTS) if part in found]
    largest = sorted(counter.kinds.items(), key=lambda kind: -kind[1].ms)[:_SHOWN]
    rows += [{"part": kind, **_row(counts)} for kind, counts in largest]
    return {"preset": name, "worlds": worlds, "peaks": DATA_SHEET, "counted": True, "rows": rows, "transformer": shares}


def _row(counts: Counts) -> dict[str, Any]:
    moved, product = counts.bytes / DATA_SHEET["memory"] / 1e6, counts.flops / DATA_SHEET["bfloat16"] / 1e9
    row = {"gflop": counts.flops / 1e9, "gigabytes": counts.bytes / 1e9, "operations": counts.operations}
    return row | {"bytes_ms": moved, "flops_ms": product, "one_by_one_ms": counts.ms, "product_bound_ms": counts.product_ms}


def run(job: Job) -> dict[str, Any]:
    """The count of `base` in 64 worlds."""
    return count_all(*(("mini", 2) if job.quick else ("base", 64)))


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    rates = ", ".join(f"{name} {rate:g} {'GB/s' if name == 'memory' else 'TFLOP/s'}" for name, rate in result["peaks"].items())
    yield f"{result['preset']}, {result['worlds']} worlds; arithmetic at the rates of a data sheet, not measured: {rates}"
    for row in result["rows"]:
        figures = f"{row['gflop']:>10.1f} GFLOP {row['gigabytes']:>8.3f} GB {row['operations']:>6} operations"
        floors = (
            f"bytes {row['bytes_ms']:>7.3f} ms, FLOPs {row['flops_ms']:>7.3f} ms, one by one {row['one_by_one_ms']:>7.3f} ms"
        )
        yield f"{row['part']:<38} {figures}  {floors}, of which products bind {row['product_bound_ms']:.3f}"
    yield "of the step, the transformer has: " + ", ".join(
        f"{name} {share:.0%}" for name, share in result["transformer"].items()
    )


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--json", default="", metavar="FILE", help='where to write the result, "-" for standard output')
    options = parser.parse_args()
    result = count_all(options.preset, options.worlds)
    print("\n".join(lines(result)), file=sys.stderr)
    write({**describe(), **json.loads(json.dumps(result))}, options.json)


if __name__ == "__main__":
    main()
