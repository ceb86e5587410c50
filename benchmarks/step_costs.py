"""FLOPs, bytes and floors of what runs, by part of a step: operations of torch as they are, kernels by their formulas.

A kernel counts as one operation, with the FLOPs and bytes of kernel_costs.py. Each other operation reads its arguments and
writes its results, of what it looks up or puts in only that much, and views move nothing; so where several operations of torch
run that could be fused, the floor is that of the several.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from gpu_ceilings import floor
from kernel_costs import COSTS, Cost
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import kernels

STEP = "whole step"
_VIEWS = {"_unsafe_view"}  # beside those that torch calls views
_LOOK_UP, _WRITE = {"index", "gather", "index_select", "embedding"}, {"copy_", "fill_", "zero_"}


@dataclass
class Counts:
    """FLOPs, bytes and operations of one part.

    Attributes:
        ms: the operations' floors, one after the other. product_ms: those of operations that their FLOPs bind.
    """

    flops: float = 0.0
    bytes: float = 0.0
    operations: int = 0
    ms: float = 0.0
    product_ms: float = 0.0


@dataclass
class Counter:
    """Counts what runs while it is open, for every part that is open at the time.

    Attributes:
        peaks: rates of the device as `gpu_ceilings.floor` takes them; without them there are no floors.
        found: by part. kinds: by kernel or operation of torch.
    """

    peaks: dict[str, float] = field(default_factory=dict)
    found: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    kinds: dict[str, Counts] = field(default_factory=lambda: defaultdict(Counts))
    open: list[str] = field(default_factory=lambda: [STEP])
    inside_kernel: bool = False

    def add(self, cost: Cost, kind: str) -> None:
        """Add an operation to all open parts and to its kind."""
        least, bound = floor(self.peaks, cost.bytes, cost.flops, cost.rate) if self.peaks else (0.0, "")
        for counts in (*(self.found[name] for name in self.open), self.kinds[kind]):
            counts.flops += cost.flops
            counts.bytes += cost.bytes
            counts.operations += 1
            counts.ms += least
            counts.product_ms += least if bound == "product" else 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Open a part."""
        self.open.append(name)
        try:
            yield
        finally:
            self.open.pop()

    def kernel(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A kernel's public function that counts as one operation."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            if self.inside_kernel:
                return call(*args, **kwargs)
            self.inside_kernel = True
            try:
                result, cost = call(*args, **kwargs), COSTS[name](*args, **kwargs)
            finally:
                self.inside_kernel = False
            self.add(cost, f"kernel {name}")
            return result

        return counted


class Counting(TorchDispatchMode):
    """Adds every operation of torch outside of kernels to a counter."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        free = func.is_view or name in _VIEWS or func.namespace != "aten" or "empty" in name
        if self.counter.inside_kernel or free:
            return result
        formula = flop_registry.get(func.overloadpacket)
        flops = float(formula(*args, **(kwargs or {}), out_val=result)) if formula else 0.0
        rate = "bfloat16" if isinstance(result, Tensor) and result.dtype == torch.bfloat16 else "float32"
        self.counter.add(Cost(flops, moved_by(name, args, kwargs, result), rate), str(func.overloadpacket))
        return result


def moved_by(name: str, args: tuple[Any, ...], kwargs: Any, result: Any) -> float:
    """Bytes that an operation of torch moves."""
    if name in _LOOK_UP:
        return 2 * size_of(result) + size_of((args[1:], kwargs))
    if name == "index_put_":
        return size_of((args[1:], kwargs)) + size_of(args[2])
    return size_of((args[1:] if name in _WRITE else args, kwargs)) + size_of(result)


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
    """While open, each kernel that models and environment call counts as one operation."""
    with ExitStack() as stack:
        for name in COSTS:
            original = getattr(kernels, name)
            for module in [module for key, module in sys.modules.items() if key.split(".")[0] in ("models", "occworld_env")]:
                if getattr(module, name, None) is original:
                    stack.enter_context(mock.patch.object(module, name, counter.kernel(name, original)))
        yield
