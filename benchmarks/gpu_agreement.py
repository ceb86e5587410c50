"""Whether bf16 and the kernels show the same worlds as float32 and the definitions, step by step from the same state.

Teacher-forced: before each step, every variant is given the state of the reference, which runs in float32 by the definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from gpu_job import Job
from step_worlds import Fleet, definitions, random_action
from torch import Tensor

from models.interface import Chunk, Rollout

STEPS, WORLDS = 20, 8
ASKED = 0.999  # share of cells, not free in one of the two, that agree between kernels and definitions in float32


@dataclass
class Agreement:
    """How many cells and codes a variant shared with the reference so far."""

    cells: int = 0
    same_cells: int = 0
    codes: int = 0
    same_codes: int = 0

    def add(self, found: Chunk, expected: Chunk, free: int) -> None:
        """Count one step; cells that are free in both are left out."""
        assert found.voxels is not None
        assert expected.voxels is not None
        matter = (found.voxels != free) | (expected.voxels != free)
        self.cells += int(matter.sum())
        self.same_cells += int((matter & (found.voxels == expected.voxels)).sum())
        if found.codes is not None and expected.codes is not None:
            self.codes += found.codes.numel()
            self.same_codes += int((found.codes == expected.codes).sum())

    def shares(self) -> dict[str, float]:
        """Shares that agree."""
        return {"cells": self.same_cells / max(1, self.cells), "codes": self.same_codes / max(1, self.codes)}


def variants(job: Job) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """The context in which each variant's `advance` runs."""

    def bf16(kernels: bool) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(definitions(not kernels))
        stack.enter_context(torch.autocast(job.device.split(":")[0], torch.bfloat16))
        return stack

    if job.clock.on_gpu:
        return {
            "kernels, fp32": lambda: definitions(False),
            "kernels, bf16": lambda: bf16(True),
            "definitions, bf16": lambda: bf16(False),
        }
    return {"definitions, bf16": lambda: bf16(False)}


def run(job: Job) -> dict[str, Any]:
    """Agreement of all variants with float32 definitions over the steps, for `mini` with its bundled weights."""
    fleet = Fleet("mini", job.device, "fp32")
    simulator = fleet.simulator(1 if job.quick else WORLDS)
    tallies = {name: Agreement() for name in variants(job)}
    result: dict[str, Any] = {"preset": "mini", "worlds": simulator.num_worlds, "steps": 0}
    with definitions():
        for step in range(2 if job.quick else STEPS):
            if job.clock.left() <= 0:
                break
            compared_step(job, simulator, tallies)
            result["steps"] = step + 1
            result["rows"] = [_row(job, name, tally) for name, tally in tallies.items()]
            job.keep(result)
    return result


def compared_step(job: Job, simulator: Any, tallies: dict[str, Agreement]) -> None:
    """Step the reference; before it, each variant advances a copy of its worlds under the same motion and route."""
    advance = simulator.model.advance

    def compared(rollout: Rollout, motion: Tensor, route: Tensor | None = None, **options: Any) -> Chunk:
        found = {}
        for name, enter in variants(job).items():
            with enter():
                found[name] = advance(Rollout(rollout.state_dict()), motion, route, **options)
        expected = advance(rollout, motion, route, **options)
        for name, chunk in found.items():
            tallies[name].add(chunk, expected, simulator.grid.free)
        return expected

    simulator.model.advance = compared
    try:
        simulator.step(random_action(simulator))
    finally:
        del simulator.model.advance


def _row(job: Job, name: str, tally: Agreement) -> dict[str, Any]:
    row: dict[str, Any] = {"variant": name, **tally.shares()}
    if name == "kernels, fp32" and not job.quick:
        row["meets"] = row["cells"] >= ASKED
    return row


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    for row in result.get("rows", []):
        words = f"{row['cells']:.4%} of cells that are not free agree, {row['codes']:.4%} of codes"
        verdict = f", bar met: {'yes' if row['meets'] else 'NO'}" if "meets" in row else ""
        yield f"{row['variant']:<20} {words} ({result['steps']} steps of {result['worlds']} worlds of mini){verdict}"
