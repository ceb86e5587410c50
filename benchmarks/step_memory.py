"""Peak memory of a step of the world model, counted without a GPU: what is alive at a time, in bytes of storage.

    PYTHONPATH=. python benchmarks/step_memory.py --json -

`LearnedWorldModel.advance` runs on fake CUDA tensors, which have shapes and lifetimes but no numbers. With kernels, each Triton
wrapper does all that it does, allocations included, but launches nothing. Counted and not measured: the allocator's rounding
and fragmentation, workspaces of cuBLAS, cuDNN and of attention, and the driver's own memory are left out, so a GPU shows more.

Four ways are counted:

- kernels: the Triton kernels, as on a GPU.
- definitions: the kernels' definitions in torch. They hold scores, logits and embedded voxels of few rows at a time.
- plain torch: the step as one would write it in layers of torch: the embedded voxels of a whole batch (in the type of the
  product, bfloat16 under autocast), conv2d, LayerNorm, linear and GELU with a tensor between each two, all logits of all
  voxels, all distances to the codes, and scaled_dot_product_attention over the rotated past, concatenated to the new tokens.
- plain torch, logits in blocks: the same, but for the logits, of which a block is held at a time as in the definition.

Without kernels, attention counts as torch's fused one, which holds no scores: that is what a GPU takes for such a mask.
The fake run cannot look at numbers, so the definition of the lookup takes the best score without comparing candidates again.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from fake_gpu import fake_gpu, move
from gpu_job import Job
from machine import describe, write
from step_worlds import definitions, plain_torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.layers import working_dtype
from models.presets import preset
from models.world_map import map_size
from models.world_model import LearnedWorldModel
from scenes.route import ROUTE_CHANNELS

_BLOCKS = "plain torch, logits in blocks"
WAYS = ("kernels", "definitions", _BLOCKS, "plain torch")
_MIB = 1 << 20


@dataclass
class Storages(TorchDispatchMode):
    """Bytes of the storages that operations made and that are still alive, and the most there ever were.

    Attributes:
        live, peak: bytes now, and at the most since it was opened.
        largest: the operation at whose end the peak was reached.
        exact: whether what waits for Python's collector is left out of the peak, which takes time.
    """

    live: int = 0
    peak: int = 0
    largest: str = ""
    exact: bool = False
    _known: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in tree_leaves(result):
            if isinstance(part, Tensor) and part.is_cuda:
                self._see(part.untyped_storage())
        if self.live > self.peak and self.exact:
            gc.collect()  # fake tensors lie in cycles, and stay until they are collected; those of a GPU do not
        if self.live > self.peak:
            self.peak, self.largest = self.live, str(func)
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """While open, what asks for numbers, or goes another way without a GPU, is replaced: see the module's docstring."""

    def nearest(x: Tensor, book: Tensor) -> Tensor:
        return torch.baddbmm(book.square().sum(-1).unsqueeze(1), x, book.transpose(1, 2), alpha=-2).argmin(-1)

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        kind = working_dtype(query)
        query, key, value = (part.to(kind) for part in (query, key, value))
        return torch.empty_like(query)

    with ExitStack() as stack:
        stack.enter_context(mock.patch("kernels.codebook._nearest_of_block", nearest))
        stack.enter_context(mock.patch("torch.nn.functional.scaled_dot_product_attention", attention))
        yield


@contextmanager
def way(name: str) -> Iterator[None]:
    """While open, steps run in one of WAYS."""
    with ExitStack() as stack:
        stack.enter_context(as_on_a_gpu())
        stack.enter_context(definitions(name != "kernels"))
        if name not in ("kernels", "definitions"):
            stack.enter_context(plain_torch(logits=name != _BLOCKS))
        yield


def count(name: str, worlds: int, dtype: torch.dtype | None, kind: str) -> dict[str, Any]:
    """MiB of a step of preset `name` in so many worlds, in one of WAYS; dtype: of autocast, or None for float32."""
    size = map_size(preset(name).grid)  # is made from numbers, so before there are none
    with mock.patch("models.world_map.map_size", return_value=size), fake_gpu(), torch.no_grad(), way(kind):
        counted = Storages()
        with counted, torch.autocast("cuda", dtype or torch.bfloat16, enabled=dtype is not None):
            model = LearnedWorldModel(preset(name)).eval()
            move(model)
            grid, frames = model.grid, model.chunk_frames
            seeds = torch.zeros(worlds, dtype=torch.int64, device="cuda")
            occupancy = torch.zeros(worlds, model.history_frames, *grid.shape, dtype=torch.uint8, device="cuda")
            motion = torch.zeros(worlds, model.history_frames, 3, device="cuda")
            with mock.patch("models.world_model.check_occupancy"):
                rollout = model.start(occupancy, motion, seeds)
            del occupancy
            route = torch.zeros(worlds, ROUTE_CHANNELS, *grid.shape[:2], dtype=torch.uint8, device="cuda")
            gc.collect()
            gc.freeze()  # what is alive by now need not be looked through again
            counted.exact, counted.peak = True, counted.live
            before = counted.live
            try:
                chunk = model.advance(rollout, motion[:, :frames], route)
            finally:
                gc.unfreeze()
        assert chunk.voxels is not None
        step = (counted.peak - before) / _MIB
        return {"way": kind, "before": before / _MIB, "total": counted.peak / _MIB, "step": step, "largest": counted.largest}


def count_all(name: str, worlds: int, dtype: torch.dtype | None) -> dict[str, Any]:
    """All ways, and how many times more than with kernels the step takes in each other way."""
    kind = str(dtype or torch.float32).removeprefix("torch.")
    rows = [count(name, worlds, dtype, kind) for kind in WAYS]
    ratios = {row["way"]: row["step"] / rows[0]["step"] for row in rows[1:]}
    return {"preset": name, "worlds": worlds, "type": kind, "counted": True, "rows": rows, "ratios": ratios}


def run(job: Job) -> dict[str, Any]:
    """The counted peaks of `base` in 64 worlds, in bfloat16 and float32."""
    worlds = 2 if job.quick else 64
    results: list[dict[str, Any]] = []
    for dtype in (torch.bfloat16, None):
        results.append(count_all("mini" if job.quick else "base", worlds, dtype))
        job.keep({"results": results})
    return {"results": results}


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    for found in result["results"]:
        for row in found["rows"]:
            ratio = found["ratios"].get(row["way"])
            words = f"{found['preset']}, {found['worlds']} worlds, {found['type']}, {row['way']}"
            more = f", x{ratio:.2f} of the step with kernels" if ratio else ""
            yield f"{words:<62} {row['total']:>8.0f} MiB, step {row['step']:>8.0f} (counted){more}; most at {row['largest']}"


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--json", default="", metavar="FILE", help='where to write the result, "-" for standard output')
    options = parser.parse_args()
    results = [count_all(options.preset, options.worlds, dtype) for dtype in (torch.bfloat16, None)]
    print("\n".join(lines({"results": results})), file=sys.stderr)
    write({**describe(), "results": json.loads(json.dumps(results))}, options.json)


if __name__ == "__main__":
    main()
