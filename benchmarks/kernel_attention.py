"""`world_attention` on a GPU against its strongest rival: rotate the past once a chunk, then torch's fastest fused attention.

    PYTHONPATH=. python benchmarks/kernel_attention.py --seconds 500 --json attention.json

Needs torch and triton alone. `--device cpu --quick` goes through the same cases, small, by the definition.
A rollout row is what a chunk costs in one layer: the past is new once, and attention runs NFE + 1 times over it. A training
row is a forward and a backward pass over sequences whose windows slide. Milliseconds are medians of calls, and of CUDA graph
replays (`graph`), where the cost of launching is gone. A ratio above 1 says that the kernel is faster than its best rival.
Every backend of torch's attention is tried eagerly, the fastest of them once more with all around it compiled.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gpu import Clock, ceilings
from machine import describe, say, write
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from kernels import world_attention
from kernels.world_attention import world_attention_torch

# name: tokens, heads, channels, window
SHAPES = {"mini": (144, 4, 64, 4), "base": (625, 4, 64, 4), "occsora": (625, 16, 16, 3)}
WORLDS = (1, 8, 64)
USES = 3  # two denoising steps and the writing of the cache
TRAINING = {"mini": (8, 8), "base": (2, 8), "occsora": (2, 8)}  # sequences and frames
BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


@dataclass
class Inputs:
    """Arguments of `world_attention` for B sequences of S frames with T past frames; complex factors for the rivals."""

    query: Tensor
    key: Tensor
    value: Tensor
    past_key: Tensor
    past_value: Tensor
    query_weight: Tensor
    key_weight: Tensor
    own: Tensor
    turns: Tensor
    valid: Tensor
    first: int

    @property
    def phases(self) -> tuple[Tensor, Tensor]:
        """own and turns as complex factors, complex64 (N, D / 2) and (B, S, W, N, D / 2)."""
        own, turns = (
            torch.view_as_complex(part.float().unflatten(-1, (-1, 2)).contiguous()) for part in (self.own, self.turns)
        )
        return own, turns

    @property
    def arguments(self) -> tuple[Any, ...]:
        """In the order of `world_attention`."""
        return tuple(vars(self).values())


def make(shape: tuple[int, ...], batch: int, frames: int, dtype: torch.dtype, device: str, ragged: bool) -> Inputs:
    """Random inputs: a cache of W frames for one new frame, or sequences that are their own past."""
    tokens, heads, channels, window = shape
    inner = (tokens, heads, channels)
    table = torch.float16 if dtype == torch.bfloat16 else torch.float32

    def turns(*size: int) -> Tensor:
        angle = 6 * torch.randn(*size, channels // 2, device=device)
        return torch.stack((angle.cos(), angle.sin()), dim=-1).flatten(-2).to(table)

    new = torch.randn(batch, frames, tokens, 3, heads, channels, device=device).to(dtype).unbind(3)
    past = torch.randn(2, batch, window if frames == 1 else frames, *inner, device=device).to(dtype).unbind(0)
    order = torch.arange(frames, device=device)[:, None] - window + torch.arange(window, device=device)
    seen = (order >= 0).expand(batch, -1, -1) if frames > 1 else torch.ones(batch, 1, window, dtype=torch.bool, device=device)
    if ragged:
        length = torch.arange(batch, device=device)[:, None, None] % (window + 1)
        seen = seen & (torch.arange(window, device=device) >= window - length)
    weights = (torch.ones(channels, device=device), torch.ones(channels, device=device))
    tables = (turns(tokens), turns(batch, frames, window, tokens))
    return Inputs(*new, *past, *weights, *tables, seen.contiguous(), 0 if frames == 1 else -window)


def turn(x: Tensor, phase: Tensor) -> Tensor:
    """Rotate the pairs of x (..., N, H, D) by complex factors (..., N, D / 2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phase.unsqueeze(-2)).flatten(-2).to(x.dtype)


def turn_real(x: Tensor, phase: Tensor) -> Tensor:
    """The same in real numbers, which torch.compile can fuse."""
    factors = torch.view_as_real(phase).unsqueeze(-3)
    (even, odd), (cos, sin) = x.float().unflatten(-1, (-1, 2)).unbind(-1), factors.unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


def rollout_rival(given: Inputs, compiled: bool) -> Callable[[], Tensor]:
    """A chunk without the kernel: the rotated past lies in a buffer whose end takes the new frame's own keys at every use.

    So the past is rotated once, and never copied again. A mask is passed only where some world has a short history.
    """
    batch, _, tokens, heads, channels = given.query.shape
    span = given.valid.shape[-1] * tokens
    own, turns = (part.clone() for part in given.phases)
    mask = None
    if not bool(given.valid.all()):
        seen = given.valid[:, 0].repeat_interleave(tokens, dim=1)
        mask = nn.functional.pad(seen, (0, tokens), value=True)[:, None, None].expand(-1, 1, tokens, -1).contiguous()
    size = (batch, span + tokens, heads, channels)
    keys, values = (torch.empty(size, dtype=given.query.dtype, device=given.query.device) for _ in range(2))
    rotate = turn_real if compiled else turn

    def prepare() -> None:
        for line, past in ((keys, given.past_key), (values, given.past_value)):
            line[:, :span] = rotate(past, turns[:, 0]).flatten(1, 2)

    def use() -> Tensor:
        query, key = (
            nn.functional.rms_norm(part[:, 0].float(), (channels,), weight, 1e-6).to(part.dtype)
            for part, weight in ((given.query, given.query_weight), (given.key, given.key_weight))
        )
        keys[:, span:], values[:, span:] = rotate(key, own), rotate(given.value[:, 0], own)
        line = (part.transpose(1, 2) for part in (rotate(query, own), keys, values))
        attended = nn.functional.scaled_dot_product_attention(*line, attn_mask=mask)
        return rotate(attended.transpose(1, 2), own.conj().resolve_conj())

    prepare, use = (torch.compile(prepare), torch.compile(use)) if compiled else (prepare, use)

    def chunk() -> Tensor:
        prepare()
        return [use() for _ in range(USES)][-1].unsqueeze(1)

    return chunk


def training_rival(given: Inputs, compiled: bool) -> Callable[[], Tensor]:
    """A layer over sequences without the kernel: every window laid out and rotated, then fused attention with a mask."""
    (batch, frames, tokens, _, channels), window = given.query.shape, given.valid.shape[-1]
    own, turns = (part.clone() for part in given.phases)
    mask = nn.functional.pad(given.valid.flatten(0, 1).repeat_interleave(tokens, dim=1), (0, tokens), value=True)
    mask = mask[:, None, None].expand(-1, 1, tokens, -1).contiguous()
    rotate = turn_real if compiled else turn

    def slide(part: Tensor) -> Tensor:
        line = torch.cat((part.new_zeros(batch, window, *part.shape[2:]), part), dim=1)
        return torch.stack([line[:, i : i + window] for i in range(frames)], dim=1)

    def layer() -> Tensor:
        query, key = (
            nn.functional.rms_norm(part.float(), (channels,), weight, 1e-6).to(part.dtype)
            for part, weight in ((given.query, given.query_weight), (given.key, given.key_weight))
        )
        query, key, value = (rotate(part, own).flatten(0, 1) for part in (query, key, given.value))
        past = (rotate(slide(part), turns).flatten(0, 1).flatten(1, 2) for part in (given.past_key, given.past_value))
        keys, values = (torch.cat(pair, dim=1) for pair in zip(past, (key, value), strict=True))
        line = (part.transpose(1, 2) for part in (query, keys, values))
        attended = nn.functional.scaled_dot_product_attention(*line, attn_mask=mask)
        return rotate(attended.transpose(1, 2), own.conj().resolve_conj()).unflatten(0, (batch, frames))

    return torch.compile(layer) if compiled else layer


def trained(given: Inputs, layer: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The layer's forward and backward pass as one call."""
    leaves = given.arguments[:7]
    for leaf in leaves:
        leaf.requires_grad_()
    slope = torch.randn_like(given.query)

    def both() -> Tensor:
        result = layer()
        torch.autograd.grad(result, leaves, slope)
        return result.detach()

    return both


def ours(given: Inputs) -> Tensor:
    """The uses of a chunk by the kernel."""
    return [world_attention(*given.arguments) for _ in range(USES)][-1]


def replayed(clock: Clock, call: Callable[[], Any]) -> float | None:
    """Milliseconds of a call within a CUDA graph, None where it cannot be captured."""
    if clock.device == "cpu":
        return None
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call(), call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        times = []
        for _ in range(12):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end))
        return statistics.median(times[2:])
    except RuntimeError as error:
        say(f"    no graph: {str(error).splitlines()[0]}")
        torch.cuda.synchronize()
        return None


def measure(clock: Clock, call: Callable[[], Tensor], exact: Tensor) -> dict[str, Any]:
    """Milliseconds of a call, within a graph too, and how far the first world's result lies from the exact one."""
    result = call()[:1].double()
    found: dict[str, Any] = {"error": float((result - exact).norm() / exact.norm()), "ms": clock.milliseconds(call)}
    return {**found, "graph": replayed(clock, call)}


def compete(clock: Clock, given: Inputs, training: bool, exact: Tensor, name: str, compiled: bool) -> dict[str, Any] | None:
    """One rival's figures, None where torch's backend of this name refuses the case."""
    try:
        torch.compiler.reset()
        rival = (training_rival if training else rollout_rival)(given, compiled)
        with sdpa_kernel(BACKENDS[name]):
            return measure(clock, trained(given, rival) if training else rival, exact)
    except Exception as error:  # each backend refuses in its own way, and one refusal must not end the run
        say(f"    {name}: {type(error).__name__}: {str(error).strip().splitlines()[0][:100] if str(error).strip() else ''}")
        return None


def against(clock: Clock, quick: bool, given: Inputs, training: bool) -> dict[str, Any]:
    """The kernel and all of its rivals on one case; a rival that this backend does not serve is None."""
    few = Inputs(*(part[:1] if i < 5 or i in (8, 9) else part for i, part in enumerate(given.arguments)))
    with torch.no_grad():
        wide = (part.double() if torch.is_tensor(part) and part.is_floating_point() else part for part in few.arguments)
        exact = world_attention_torch(*wide)
    kernel = trained(given, lambda: world_attention(*given.arguments)) if training else partial(ours, given)
    found: dict[str, Any] = {"kernel": measure(clock, kernel, exact)}
    rivals: dict[str, Any] = {}
    for name in ("math",) if quick else BACKENDS:
        rivals[name] = compete(clock, given, training, exact, name, compiled=False)
    served = {name: row["graph"] or row["ms"] for name, row in rivals.items() if row}
    if served and not quick:
        fastest = min(served, key=served.__getitem__)
        rivals[f"{fastest}, compiled"] = compete(clock, given, training, exact, fastest, compiled=True)
    found["rivals"] = rivals
    for figure in ("ms", "graph"):
        times = {name: row[figure] for name, row in rivals.items() if row and row[figure] is not None}
        if times and found["kernel"][figure]:
            best = min(times, key=times.__getitem__)
            found[f"best_{figure}"], found[f"ratio_{figure}"] = best, times[best] / found["kernel"][figure]
    return found


def counted(given: Inputs, training: bool, peak: dict[str, float], took: float) -> dict[str, float]:
    """Operations and bytes that a case needs at the least, and the share of the measured ceilings that a time in ms reaches."""
    batch, frames, tokens, heads, channels = given.query.shape
    seen = float(given.valid.sum()) * tokens + batch * frames * tokens
    products, passes = 4.0 * heads * tokens * seen * channels, 1.0 if not training else 3.5
    parts = [given.query, given.key, given.value, given.query, given.past_key, given.past_value, given.turns]
    moved = float(sum(part.numel() * part.element_size() for part in parts)) * (2 if training else 1)
    uses = 1 if training else USES
    flops, moved = products * passes * uses, moved * uses
    rate = peak["bfloat16"] if given.query.dtype == torch.bfloat16 else peak["tf32"] / 3
    least = max(flops / rate / 1e9, moved / peak["memory"] / 1e6)
    return {
        "gflop": flops / 1e9,
        "gigabytes": moved / 1e9,
        "exponentials": products / 4 / channels * uses,
        "ceiling": least / took,
    }


def cases(quick: bool) -> Iterator[tuple[dict[str, Any], tuple[Any, ...]]]:
    """What identifies each row, and the arguments of `make` but the device."""
    small = {"mini": (9, 2, 16, 2), "base": (20, 2, 16, 2), "occsora": (20, 4, 16, 2)}
    for dtype in (torch.bfloat16, torch.float32):
        kind = str(dtype).removeprefix("torch.")
        for name, shape in (small if quick else SHAPES).items():
            sizes = [
                (worlds, ragged)
                for worlds in WORLDS[: 2 if quick else 3]
                for ragged in (False, True)
                if worlds > 1 or not ragged
            ]
            for worlds, ragged in sizes:
                label = {"shape": name, "type": kind, "worlds": worlds, "histories": "ragged" if ragged else "full"}
                yield {"what": "rollout", **label}, (shape, worlds, 1, dtype, ragged)
            sequences, frames = (2, 3) if quick else TRAINING[name]
            label = {"shape": name, "type": kind, "worlds": sequences, "histories": f"{frames} frames"}
            yield {"what": "training", **label}, (shape, sequences, frames, dtype, False)


def show(row: dict[str, Any]) -> str:
    """One row of the table."""
    words = f"{row['what']:<9}{row['shape']:<8} {row['type']:<9}{row['worlds']:>3} {row['histories']:<9}"
    if "kernel" not in row:
        return words + row.get("skipped", "")
    figures = [f"{figure} {value:.4f}" for figure, value in row["kernel"].items() if value is not None and figure != "error"]
    best = [
        f"{figure} x{row[f'ratio_{figure}']:.2f} of {row[f'best_{figure}']}"
        for figure in ("ms", "graph")
        if f"ratio_{figure}" in row
    ]
    errors = [rival["error"] for rival in row["rivals"].values() if rival]
    most = f"{min(errors):.1e}" if errors else "none"
    counts = f"{row['gflop']:.3g} GFLOP, {row['gigabytes']:.3g} GB, {row['ceiling']:.2f} of the ceiling"
    return f"{words} {'  '.join(figures):<26} {', '.join(best)}; {counts}; error {row['kernel']['error']:.1e}, rivals {most}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--seconds", type=float, default=500.0, help="time budget; what does not fit is listed as skipped")
    parser.add_argument("--only", default="", metavar="WORDS", help='rows that hold all of these words, such as "rollout mini"')
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that everything runs")
    parser.add_argument("--json", default="", metavar="FILE", help='where to write the result, "-" for standard output')
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("this machine has no GPU that torch can use; --device cpu --quick tries the script")
    torch.manual_seed(0)
    clock, rows = Clock(options.device, options.seconds, time.perf_counter()), []
    peak = ceilings(clock, options.quick)
    say("measured ceilings: " + ", ".join(f"{name} {value:.4g}" for name, value in peak.items()) + "  (GB/s, TFLOP/s)")
    for name, (shape, batch, frames, dtype, ragged) in cases(options.quick):
        if not all(word in {str(value) for value in name.values()} for word in options.only.split()):
            continue
        row = {**name, "skipped": "the time budget was spent"}
        if clock.left() > 0:
            given = make(shape, batch, frames, dtype, options.device, ragged)
            found = against(clock, options.quick, given, name["what"] == "training")
            took = min(filter(None, (found["kernel"]["ms"], found["kernel"]["graph"])), default=math.inf)
            row = {**name, **found, **counted(given, name["what"] == "training", peak, took)}
        rows.append(row)
        say(show(row))
    result = {**describe(options.device), "device": options.device, "quick": options.quick, "uses": USES, "ceilings": peak}
    write({**result, "rows": rows}, options.json)


if __name__ == "__main__":
    main()
