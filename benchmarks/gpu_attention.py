"""Rows of `world_attention` against its strongest rival: the past rotated once a chunk, then torch's fastest fused attention.

A rollout row is what a chunk costs in one layer: the past is new once, and attention runs NFE + 1 times over it. A training
row is a forward and a backward pass over sequences whose windows slide. Milliseconds are medians of calls, and of CUDA graph
replays, where the cost of launching is gone; the ratio to the best rival is taken of the latter where both have it. Every
backend of torch's attention is tried eagerly, the fastest of them once more with all around it compiled, after all rows have
their eager figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gpu_attention_rivals import BACKENDS, USES, Inputs, make, rollout_rival, trained, training_rival
from gpu_ceilings import floor
from gpu_job import Job, first_line, free
from machine import say
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from kernels import world_attention
from kernels.world_attention import has_kernel, world_attention_torch

# name: tokens, heads, channels, window
SHAPES = {"base": (625, 4, 64, 4), "mini": (144, 4, 64, 4), "occsora": (625, 16, 16, 3)}
SMALL = {"base": (20, 2, 16, 2), "mini": (9, 2, 16, 2), "occsora": (20, 4, 16, 2)}
WORLDS = (64, 1, 8)
TRAINING = {"mini": (8, 8), "base": (2, 8), "occsora": (2, 8)}  # sequences and frames
LEAST, TIE = 0.95, 1.05  # ratios to the rival: what is asked, and what is no win yet


@dataclass(frozen=True)
class Case:
    """One row: a shape of `SHAPES` in so many worlds (or sequences of so many frames), histories of equal length or ragged."""

    what: str
    name: str
    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    worlds: int
    frames: int = 1
    ragged: bool = False

    @property
    def labels(self) -> dict[str, Any]:
        """The row's first columns."""
        past = f"{self.frames} frames" if self.training else "ragged" if self.ragged else "full"
        what = f"{self.what}, {self.name}, {self.worlds} {'sequences' if self.training else 'worlds'}, {past}"
        kind = str(self.dtype).removeprefix("torch.")
        shape = [self.worlds, self.frames, *self.shape]
        return {"kernel": "world_attention", "what": what, "shape": shape, "type": kind, "worlds": self.worlds}

    @property
    def training(self) -> bool:
        """Whether it is a forward and a backward pass."""
        return self.what == "training"

    def inputs(self, device: str) -> Inputs:
        """Random arguments."""
        return make(self.shape, self.worlds, self.frames, self.dtype, device, self.ragged)


def cases(quick: bool) -> Iterator[Case]:
    """The most telling first, since time may run out."""
    shapes = SMALL if quick else SHAPES
    for dtype in (torch.bfloat16, torch.float32):
        for worlds in (2, 1) if quick else WORLDS:
            for name, shape in shapes.items():
                yield Case("rollout", name, shape, dtype, worlds)
                if worlds > 1:
                    yield Case("rollout", name, shape, dtype, worlds, ragged=True)
        for name, shape in shapes.items():
            sequences, frames = (2, 3) if quick else TRAINING[name]
            yield Case("training", name, shape, dtype, sequences, frames)


def run(job: Job) -> dict[str, Any]:
    """All rows with their eager rivals, then the fastest rival of each compiled, as far as time goes."""
    rows: list[dict[str, Any]] = []
    entries = list(cases(job.quick))
    lost = False
    for case in entries:
        if lost or job.clock.left() <= 0:
            rows.append({**case.labels, "skipped": "the device answers no more" if lost else "the time of this part was spent"})
            continue
        try:
            rows.append({**case.labels, **_eager(job, case)})
        except Exception as error:  # a kernel that fails must not hide what the others do
            rows.append({**case.labels, "failed": first_line(error)})
            lost = job.lost()
        say(show(rows[-1]))
        free(job.device)
        job.keep({"rows": rows})
    for case, row in zip(entries, rows, strict=True):
        if job.compile and "best" in row and job.clock.left() > 0 and not lost:
            _compile_best(job, case, row)
            say(show(row))
            job.keep({"rows": rows})
    return {"rows": rows, "uses": USES}


def _eager(job: Job, case: Case) -> dict[str, Any]:
    given = case.inputs(job.device)
    exact = _exact(given)
    kernel = partial(_chunk, given)
    if case.training:
        kernel = trained(given, lambda: world_attention(*given.arguments))
    row: dict[str, Any] = {"path": "kernel" if has_kernel(given.query, case.shape[2]) else "definition"}
    row |= _times(job, kernel, exact)
    row["rivals"] = {name: _rival(job, given, case, exact, name, compiled=False) for name in _backends(job)}
    if job.peaks:
        flops, moved = _needs(given, case.training)
        rate = "bfloat16" if case.dtype == torch.bfloat16 else "tf32/3"
        row["floor_ms"], row["bound"] = floor(job.peaks, moved, flops, rate)
        row["share"] = row["floor_ms"] / (row["graph_ms"] or row["ms"])
    return row | compare(row, decide=not job.quick)


def _compile_best(job: Job, case: Case, row: dict[str, Any]) -> None:
    """Add the fastest rival's compiled form to a row and compare again."""
    best, given = row["best"], case.inputs(job.device)
    torch.compiler.reset()
    row["rivals"][f"{best}, compiled"] = _rival(job, given, case, _exact(given), best, compiled=True)
    row |= compare(row, decide=not job.quick)


def compare(row: dict[str, Any], *, decide: bool) -> dict[str, Any]:
    """The best rival, how many times longer it takes, and whether that meets the bar: 0.95, and above 1 at 64 worlds.

    Up to 1.05 it is a tie: there the rival could be taken as well.
    """
    rivals = {name: rival for name, rival in row["rivals"].items() if "ms" in rival}
    if not rivals:
        return {}
    figure = "graph_ms" if row["graph_ms"] and any(rival["graph_ms"] for rival in rivals.values()) else "ms"
    times = {name: rival[figure] for name, rival in rivals.items() if rival[figure]}
    best = min(times, key=times.__getitem__)
    ratio = times[best] / row[figure]
    found: dict[str, Any] = {"best": best, "ratio": ratio, "ratio_of": figure}
    if decide:
        found["verdict"] = "win" if ratio > TIE else "tie" if ratio >= LEAST else "loss"
        found["meets"] = ratio > 1 if row["worlds"] == 64 else ratio >= LEAST
    return found


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    words = f"{row['what']:<44} {row['type']:<9}"
    if "ms" not in row:
        return words + (row.get("failed") or row.get("skipped") or "")
    figures = f"{row['ms']:>9.4f} ms" + (f", graph {row['graph_ms']:.4f} ms" if row["graph_ms"] else "")
    figures += f"  error {row['error']:.1e}" + (f"  {row['share']:.2f} of the floor ({row['bound']})" if "share" in row else "")
    if "best" in row:
        figures += f"  x{row['ratio']:.2f} of {row['best']}, error {row['rivals'][row['best']]['error']:.1e}"
    if "meets" in row:
        figures += f"  {row['verdict']}, bar met: {'yes' if row['meets'] else 'NO'}"
    return words + figures


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    for row in result["rows"]:
        yield show(row)


def _backends(job: Job) -> tuple[str, ...]:
    return tuple(BACKENDS) if job.clock.on_gpu else ("math",)


def _chunk(given: Inputs) -> Tensor:
    """The uses of a chunk by the kernel."""
    return [world_attention(*given.arguments) for _ in range(USES)][-1]


def _exact(given: Inputs) -> Tensor:
    """The first sequence's result in float64."""
    few = Inputs(*(part[:1] if i < 5 or i in (8, 9) else part for i, part in enumerate(given.arguments)))
    with torch.no_grad():
        wide = (part.double() if torch.is_tensor(part) and part.is_floating_point() else part for part in few.arguments)
        return world_attention_torch(*wide)


def _times(job: Job, call: Callable[[], Tensor], exact: Tensor) -> dict[str, Any]:
    """How far the first sequence's result lies from the exact one, and milliseconds, within a graph too if one can be had."""
    result = call()[:1].double()
    found: dict[str, Any] = {"error": float((result - exact).norm() / exact.norm()), "ms": job.clock.milliseconds(call)}
    try:
        return {**found, "graph_ms": job.clock.replayed(call)}
    except RuntimeError as error:
        return {**found, "graph_ms": None, "no_graph": first_line(error)}


def _rival(job: Job, given: Inputs, case: Case, exact: Tensor, name: str, *, compiled: bool) -> dict[str, Any]:
    """One rival's figures, or why torch's backend of this name refuses the case."""
    try:
        rival = (training_rival if case.training else rollout_rival)(given, compiled)
        with sdpa_kernel(BACKENDS[name]):
            return _times(job, trained(given, rival) if case.training else rival, exact)
    except Exception as error:  # each backend refuses in its own way
        return {"failed": first_line(error)}


def _needs(given: Inputs, training: bool) -> tuple[float, float]:
    """FLOPs and bytes that a case needs at the least."""
    batch, frames, tokens, heads, channels = given.query.shape
    seen = float(given.valid.sum()) * tokens + batch * frames * tokens
    products, passes = 4.0 * heads * tokens * seen * channels, 3.5 if training else 1.0
    parts = [given.query, given.key, given.value, given.query, given.past_key, given.past_value, given.turns]
    moved = float(sum(part.numel() * part.element_size() for part in parts)) * (2 if training else 1)
    uses = 1 if training else USES
    return products * passes * uses, moved * uses
