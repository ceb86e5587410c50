"""What the kernels do on a GPU: the same numbers as their definitions, and how fast against torch's own ways.

    PYTHONPATH=. python benchmarks/gpu.py --seconds 300 --json gpu.json

Needs torch and triton alone. `--device cpu --quick` goes through the same cases, small, by the definitions.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from machine import describe, say, write
from torch import Tensor

from kernels import nearest_code, philox_normal
from kernels.codebook import nearest_code_torch
from kernels.noise import philox_normal_torch

CHUNK = 1 << 28  # distances that the baselines may hold at a time
# N, G, K, D and what has that shape
LOOKUPS = (
    (1 << 20, 1, 512, 128, "one codebook of the papers' size"),
    (1 << 20, 16, 256, 4, "product codebooks in training"),
    (64 * 144, 16, 256, 4, "product codebooks, 64 worlds, one step"),
    (1 << 16, 1, 65_536, 512, "the largest codebook"),
)
NOISES = ((64, 144 * 64), (1024, 144 * 64))


@dataclass
class Clock:
    """Times calls on one device until the budget, in seconds since `begin`, is spent."""

    device: str
    budget: float
    begin: float

    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (time.perf_counter() - self.begin)

    def milliseconds(self, call: Callable[[], Any]) -> float:
        """Median of up to 20 calls, within 5 s or a tenth of what is left, after two that warm up."""
        call(), call()
        self._wait()
        end, times = time.perf_counter() + min(5.0, self.left() / 10), []
        while len(times) < 3 or (len(times) < 20 and time.perf_counter() < end):
            start = time.perf_counter()
            call()
            self._wait()
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times)

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def by_cdist(x: Tensor, codebook: Tensor) -> Tensor:
    """The lookup as most code has it: all distances, then argmin."""
    step = max(1, CHUNK // (codebook.shape[0] * codebook.shape[1]))
    book = codebook.float()
    return torch.cat([torch.cdist(part.float().transpose(0, 1), book).argmin(-1).T for part in x.split(step)])


def by_product(x: Tensor, codebook: Tensor) -> Tensor:
    """The lookup as a matrix product in the type of x, for torch.compile to fuse."""
    norms = codebook.float().square().sum(-1)
    return torch.stack([(norms[g] - 2 * (x[:, g] @ codebook[g].T).float()).argmin(-1) for g in range(x.shape[1])], dim=-1)


def ceilings(clock: Clock, quick: bool) -> dict[str, float]:
    """Measured peaks of this device: copying memory, GB/s, and matrix products, TFLOP/s by type."""
    source = torch.empty(1 << (22 if quick else 30), dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    found = {"memory": 2 * len(source) / clock.milliseconds(partial(target.copy_, source)) / 1e6}
    side = 256 if quick else 8192
    for name, dtype, allow_tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = allow_tf32
        left = torch.randn(side, side, device=clock.device, dtype=dtype)
        found[name] = 2 * side**3 / clock.milliseconds(partial(torch.matmul, left, left)) / 1e9
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def excess(x: Tensor, codebook: Tensor, codes: Tensor) -> float:
    """How much further than the nearest code the chosen ones are, as a share of the distances, in float64 on some rows."""
    rows = torch.arange(0, len(x), max(1, len(x) // 512), device=x.device)
    worst, total = 0.0, 0.0
    for group in range(x.shape[1]):
        distance = torch.cdist(x[rows, group].double(), codebook[group].double()).square()
        chosen = distance.gather(1, codes[rows, group].unsqueeze(1)).squeeze(1)
        worst += float((chosen - distance.amin(1)).sum())
        total += float(distance.amin(1).sum())
    return worst / total


def lookup(clock: Clock, quick: bool, peak: dict[str, float], shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Any]:
    """The codebook lookup against cdist and argmin, and against the compiled matrix product, and its share of the ceiling."""
    count, groups, codes, channels = shape
    x = torch.randn(count, groups, channels, device=clock.device).to(dtype)
    book = torch.randn(groups, codes, channels, device=clock.device).to(dtype)
    ways = {"ms": nearest_code, "ms_cdist": by_cdist, "ms_definition": nearest_code_torch}
    ways |= {} if quick else {"ms_compiled": torch.compile(by_product)}
    row: dict[str, Any] = {"excess": excess(x, book, nearest_code(x, book))}
    row |= {way: clock.milliseconds(partial(call, x, book)) for way, call in ways.items()}
    # On few channels the kernel works in float32, on many through three products in TensorFloat-32.
    product = peak["bfloat16"] if dtype == torch.bfloat16 else peak["tf32"] / 3
    product = peak["float32"] if channels <= 16 else product
    moved = x.numel() * x.element_size() + 8 * count * groups
    bound = {"memory": moved / peak["memory"] / 1e6, "product": 2 * count * groups * codes * channels / product / 1e9}
    row["bound"] = max(bound, key=bound.__getitem__)
    return {**row, "share_of_ceiling": bound[row["bound"]] / row["ms"]}


def noise(clock: Clock, worlds: int, size: int) -> dict[str, Any]:
    """The noise against torch.randn and against its definition."""
    seeds = torch.arange(worlds) * 0x9E3779B97F4A7C1 % (1 << 62)
    arguments = (seeds.to(clock.device), seeds.to(clock.device), 1, (size,))
    found, expected = philox_normal(*arguments).cpu(), philox_normal_torch(seeds, seeds, 1, (size,))
    return {
        "ms": clock.milliseconds(partial(philox_normal, *arguments)),
        "ms_definition": clock.milliseconds(partial(philox_normal_torch, *arguments)),
        "ms_randn": clock.milliseconds(partial(torch.randn, worlds, size, device=clock.device)),
        "different_from_cpu": int((found != expected).sum()),
        "largest_difference": float((found - expected).abs().max()),
    }


def cases(clock: Clock, quick: bool, peak: dict[str, float]) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """What identifies each row, and the call that measures it."""
    for worlds, size in NOISES:
        worlds = min(worlds, 8) if quick else worlds
        name = {"kernel": "philox_normal", "what": "what worlds draw at a step", "shape": [worlds, size], "type": "float32"}
        yield name, partial(noise, clock, worlds, size)
    for count, groups, codes, channels, what in LOOKUPS:
        shape = (min(count, 256), groups, min(codes, 2048), channels) if quick else (count, groups, codes, channels)
        for dtype in (torch.float32, torch.bfloat16):
            kind = str(dtype).removeprefix("torch.")
            name = {"kernel": "nearest_code", "what": what, "shape": list(shape), "type": kind}
            yield name, partial(lookup, clock, quick, peak, shape, dtype)


def show(row: dict[str, Any]) -> str:
    """One row of the table."""
    figures = {name: value for name, value in row.items() if name not in ("kernel", "what", "shape", "type")}
    words = [f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()]
    return f"{row['kernel']:<14} {'x'.join(map(str, row['shape'])):<20} {row['type']:<9} {row['what']:<40} {'  '.join(words)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--seconds", type=float, default=300.0, help="time budget; what does not fit is listed as skipped")
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that everything runs")
    parser.add_argument("--json", default="", metavar="FILE", help='where to write the result, "-" for standard output')
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("this machine has no GPU that torch can use; --device cpu --quick tries the script")
    torch.manual_seed(0)
    clock = Clock(options.device, options.seconds, time.perf_counter())
    peak = ceilings(clock, options.quick)
    say("measured ceilings: " + ", ".join(f"{name} {value:.4g}" for name, value in peak.items()) + "  (GB/s, TFLOP/s)")
    rows = []
    for name, measure in cases(clock, options.quick, peak):
        rows.append({**name, **(measure() if clock.left() > 0 else {"skipped": "the time budget was spent"})})
        say(show(rows[-1]))
    write(
        {**describe(options.device), "device": options.device, "quick": options.quick, "ceilings": peak, "rows": rows},
        options.json,
    )


if __name__ == "__main__":
    main()
