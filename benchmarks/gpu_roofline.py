"""FLOPs and bytes of a step by part, the time that they need at the least, and the time that the parts take.

A kernel counts as one operation: its arguments and results are moved once, and its FLOPs are those of its definition. Of the
other operations, each reads its arguments and writes its results, views move nothing, and an argument that is looked up in
counts whole; so where eager torch runs several operations that could be fused, the floor is that of eager torch.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from gpu_ceilings import floor
from gpu_job import Job
from step_parts import PARTS, around, timed
from step_worlds import WAYS, Fleet, definitions, precision_of, random_action
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import kernels
from kernels.world_attention import HEAD_DIMS

STEP = "whole step"
_STEPS = 10


@dataclass
class Counts:
    """FLOPs, bytes and operations of one part."""

    flops: float = 0.0
    bytes: float = 0.0
    operations: int = 0


@dataclass
class Counter:
    """Counts what runs while it is open, for every part that is open at the time."""

    found: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    open: list[str] = field(default_factory=lambda: [STEP])
    inside_kernel: bool = False

    def add(self, flops: float, moved: float) -> None:
        """Add an operation to all open parts; within a kernel only its FLOPs count."""
        for name in self.open:
            counts = self.found[name]
            counts.flops += flops
            if not self.inside_kernel:
                counts.bytes += moved
                counts.operations += 1

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Open a part."""
        self.open.append(name)
        try:
            yield
        finally:
            self.open.pop()

    def kernel(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A kernel's public function that counts as one operation."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            if self.inside_kernel:
                return call(*args, **kwargs)
            self.inside_kernel = True
            try:
                result = call(*args, **kwargs)
            finally:
                self.inside_kernel = False
            self.add(0.0, size_of((args, kwargs)) + size_of(result))
            return result

        return counted


class _Counting(TorchDispatchMode):
    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view or func.namespace != "aten" or "empty" in func.__name__:
            return result
        formula = flop_registry.get(func.overloadpacket)
        flops = float(formula(*args, **(kwargs or {}), out_val=result)) if formula else 0.0
        self.counter.add(flops, size_of((args, kwargs)) + size_of(result))
        return result


def size_of(values: Any) -> float:
    """Bytes of all tensors in a nest, of an expanded one those that are stored."""
    sizes = (
        min(part.numel() * part.element_size(), part.untyped_storage().nbytes())
        for part in tree_leaves(values)
        if isinstance(part, Tensor)
    )
    return float(sum(sizes))


@contextmanager
def kernels_counted(counter: Counter) -> Iterator[None]:
    """While open, the models go the way that they go with kernels, and each kernel is its definition, counted as one."""
    with ExitStack() as stack:
        stack.enter_context(definitions())
        for name in kernels.__all__:
            original = getattr(kernels, name)
            for module in [module for key, module in sys.modules.items() if key.split(".")[0] in ("models", "occworld_env")]:
                if getattr(module, name, None) is original:
                    stack.enter_context(mock.patch.object(module, name, counter.kernel(original)))
        fused = mock.patch("models.transformer.has_kernel", lambda tensor, head_dim: head_dim in HEAD_DIMS)
        stack.enter_context(fused)
        yield


def run(job: Job) -> dict[str, Any]:
    """Counts of one step and the time of each part over some others."""
    fleet = Fleet("mini" if job.quick else "base", job.device, "bf16" if job.clock.on_gpu else "fp32")
    simulator = fleet.simulator(2 if job.quick else 64)
    way, count = WAYS["kernels"], 2 if job.quick else _STEPS
    with way.of(simulator):
        simulator.step(random_action(simulator))
        with timed(simulator, job.device) as spent:
            total = sum(job.clock.waited(lambda: simulator.step(random_action(simulator)), count))
            steps = max(3, count)
    counter = Counter()
    with kernels_counted(counter), around(simulator, counter.part), _Counting(counter):
        simulator.step(random_action(simulator))
    rows = [_row(job, simulator, STEP, counter, total / steps)]
    rows += [_row(job, simulator, name, counter, 1000 * spent[name] / steps) for name in PARTS if name in spent]
    common = {"preset": fleet.preset, "worlds": simulator.num_worlds}
    return {"rows": [common | row for row in rows]}


def _row(job: Job, simulator: Any, name: str, counter: Counter, took: float) -> dict[str, Any]:
    counts = counter.found[name]
    row: dict[str, Any] = {"part": name, "ms": took, "gflop": counts.flops / 1e9, "gigabytes": counts.bytes / 1e9}
    row |= {"operations": counts.operations}
    if job.peaks:
        rate = "bfloat16" if precision_of(simulator) == "bf16" else "float32"
        row["floor_ms"], row["bound"] = floor(job.peaks, counts.bytes, counts.flops, rate)
        row["share"] = row["floor_ms"] / took
    return row


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    for row in result["rows"]:
        floor_of = f"{row['floor_ms']:>9.3f} ms at the least ({row['bound']}), {row['share']:.2f}" if "floor_ms" in row else ""
        counts = f"{row['gflop']:>10.2f} GFLOP {row['gigabytes']:>8.3f} GB {row['operations']:>6} operations"
        yield f"{row['part']:<38} {row['ms']:>9.3f} ms {counts} {floor_of}"
