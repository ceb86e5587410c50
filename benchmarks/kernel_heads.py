"""What the fused heads do on a GPU: classes of voxels, modulated norms, quantisation and the codebook lookup, against torch.

    PYTHONPATH=. python benchmarks/kernel_heads.py --seconds 540 --json heads.json

Each operation is timed as the kernel, as plain torch (eager) and as plain torch compiled, on the same numbers. Bytes are those
of the arguments and results, each moved once, FLOPs those of the products that cannot be avoided; `share` is the time that
these take at the copy bandwidth and the product rate that the same run measures first, over the time of the kernel. Needs
torch and triton alone. Arguments that fit in the cache of the GPU lie there from the call before. `--device cpu --quick` goes
through the same cases, small, by the definitions.
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
from machine import describe, say, write
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from kernels import ada_norm, classify_voxels, gated_residual, gated_residual_norm, nearest_code, quantize

CHUNK = 1 << 28  # distances that cdist may hold at a time
PLACES = ((1, 2304, 64, "mini, one world"), (64, 2304, 64, "mini, 64 worlds"), (1, 10_000, 128, "base, one world"))
PLACES += ((64, 10_000, 128, "base, 64 worlds"),)
TOKENS = ((64, 144, "mini, 64 worlds"), (64, 625, "base, 64 worlds"), (256, 625, "base, training"))
LOOKUPS = ((1 << 20, 1, 512, 128, "one codebook of the papers' size"), (1 << 20, 16, 256, 4, "product codebooks, training"))
WIDTH, PLACE_CHANNELS, CLASS_DIM, CLASSES = 256, 96, 8, 18


@dataclass
class Work:
    """Ways to do one thing, the bytes it must move at the least, its FLOPs and the ceiling that those are held against."""

    ways: dict[str, Callable[[], Any]]
    bytes: int
    flops: int = 0
    rate: str = "float32"
    checks: Callable[[], dict[str, float]] = dict


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
        """Median of up to 30 calls, within 2 s, after three that warm up; on a GPU by its own clock."""
        for _ in range(3):
            call()
        self._wait()
        end, times = time.perf_counter() + 2.0, []
        while len(times) < 5 or (len(times) < 30 and time.perf_counter() < end):
            times.append(self._once(call))
        return statistics.median(times)

    def _once(self, call: Callable[[], Any]) -> float:
        if self.device == "cpu":
            start = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - start)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        self._wait()
        return begin.elapsed_time(end)

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def ceilings(clock: Clock, quick: bool) -> dict[str, float]:
    """Measured peaks of this device: copying memory, GB/s, and matrix products, TFLOP/s by type."""
    source = torch.empty(1 << (22 if quick else 30), dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    found = {"memory": 2 * len(source) / clock.milliseconds(partial(target.copy_, source)) / 1e6}
    side = 256 if quick else 8192
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        left = torch.randn(side, side, device=clock.device, dtype=dtype)
        found[name] = 2 * side**3 / clock.milliseconds(partial(torch.matmul, left, left)) / 1e9
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def compiled(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call compiled for the shapes of this case alone, with nothing left from the case before."""
    torch.compiler.reset()
    return torch.compile(call, dynamic=False)


def argmax_of_logits(
    places: Tensor,
    features: tuple[Tensor, Tensor],
    classes: tuple[Tensor, Tensor],
    trust: Tensor | None,
    carried: Tensor | None,
) -> Tensor:
    """Classes of voxels as a decoder without a kernel has them: two layers, the trust, argmax."""
    logits = linear(linear(places, *features).unflatten(-1, (-1, classes[0].shape[1])), *classes)
    if trust is not None and carried is not None:
        known = carried < logits.shape[-1]
        index = torch.where(known, carried, 0).long().unsqueeze(-1)
        logits = logits.scatter_add(-1, index, (trust * known).unsqueeze(-1))
    return logits.argmax(-1).to(torch.uint8)


def norm_of(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The modulated norm as a block without a kernel has it."""
    return layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def residual_of(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """The gated residual as a block without a kernel has it."""
    return x + gate.unsqueeze(1) * y


def both_of(x: Tensor, y: Tensor, gate: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The one after the other."""
    residual = residual_of(x, y, gate)
    return residual, norm_of(residual, scale, shift)


def by_cdist(x: Tensor, codebook: Tensor) -> Tensor:
    """The lookup as most code has it: all distances, then argmin, as many rows at a time as memory allows."""
    step = max(1, CHUNK // (codebook.shape[0] * codebook.shape[1]))
    book = codebook.float()
    return torch.cat([torch.cdist(part.float().transpose(0, 1), book).argmin(-1).T for part in x.split(step)])


def by_product(x: Tensor, codebook: Tensor) -> Tensor:
    """The lookup as a matrix product in the type of x, for torch.compile to fuse."""
    norms = codebook.float().square().sum(-1)
    return torch.stack([(norms[g] - 2 * (x[:, g] @ codebook[g].T).float()).argmin(-1) for g in range(x.shape[1])], dim=-1)


def steps_of_quantizing(search: Callable[[Tensor, Tensor], Tensor], x: Tensor, codebook: Tensor) -> tuple[Tensor, ...]:
    """Straight-through output, commitment and counts one after the other, with the codes that `search` finds."""
    codes = search(x.detach(), codebook)
    group = torch.arange(len(codebook), device=x.device)
    near = codebook[group, codes]
    uses = torch.zeros(codebook.shape[:2], device=x.device).scatter_add_(
        1, codes.T, torch.ones_like(codes.T, dtype=torch.float32)
    )
    return x + (near - x).detach(), (x - near).square().mean(), uses


def there_and_back(call: Callable[..., Any], given: list[Tensor], slopes: list[Tensor]) -> None:
    """One forward and one backward pass, through the first results that have a slope."""
    results = call(*given)
    results = results if isinstance(results, tuple) else (results,)
    torch.autograd.grad(results[: len(slopes)], [part for part in given if part.requires_grad], slopes)


def classifying(device: str, quick: bool, places: tuple[int, int, int], carried: bool, dtype: torch.dtype) -> Work:
    """Classes of voxels: a decoder's last layers, with or without carried ids."""
    count, voxels = places[0] * places[1], places[2]

    def normal(*size: int) -> Tensor:
        return torch.randn(size, device=device).to(dtype)

    rows = voxels * CLASS_DIM
    layers = (normal(rows, PLACE_CHANNELS) / 10, normal(rows)), (normal(CLASSES, CLASS_DIM), normal(CLASSES))
    held = torch.randint(0, CLASSES + 1, (count, voxels), device=device, dtype=torch.uint8)
    given = (normal(count, PLACE_CHANNELS), *layers, *((normal(count, voxels), held) if carried else (None, None)))
    moved = count * PLACE_CHANNELS * dtype.itemsize + count * voxels * (1 + (1 + dtype.itemsize if carried else 0))
    flops = 2 * count * voxels * CLASS_DIM * PLACE_CHANNELS

    def same() -> dict[str, float]:
        return {"same_as_eager": float((classify_voxels(*given) == argmax_of_logits(*given)).float().mean())}

    ways = {"ms": partial(classify_voxels, *given), "ms_eager": partial(argmax_of_logits, *given)}
    ways |= {} if quick else {"ms_compiled": partial(compiled(argmax_of_logits), *given)}
    return Work(ways, moved, flops, "tf32/3" if dtype == torch.float32 else "bfloat16", same)


def norming(device: str, quick: bool, tokens: tuple[int, int], kind: str, dtype: torch.dtype, back: bool) -> Work:
    """Modulated norm, gated residual or both of (M, N, 256), forward alone or with the gradient."""
    sequences, count = tokens
    ours, torchs, names = {
        "ada_norm": (ada_norm, norm_of, "xss"),
        "gated_residual": (gated_residual, residual_of, "xxs"),
        "gated_residual_norm": (gated_residual_norm, both_of, "xxsss"),
    }[kind]
    sizes = {"x": (sequences, count, WIDTH), "s": (sequences, WIDTH)}
    given = [torch.randn(sizes[name], device=device).to(dtype).requires_grad_(back) for name in names]
    results = 2 if kind == "gated_residual_norm" else 1
    slopes = [torch.randn(sizes["x"], device=device).to(dtype) for _ in range(results)]
    # Forward each is read or written once; backward the slopes, what the product rule needs, and the gradients.
    passes = names.count("x") + results
    passes += {"ada_norm": 3, "gated_residual": 3, "gated_residual_norm": 6}[kind] if back else 0
    moved = passes * math.prod(sizes["x"]) * dtype.itemsize
    calls = {"ms": ours, "ms_eager": torchs} | ({} if quick else {"ms_compiled": compiled(torchs)})
    ways = {
        name: partial(there_and_back, call, given, slopes) if back else partial(call, *given) for name, call in calls.items()
    }
    return Work(ways, moved)


def searching(device: str, quick: bool, shape: tuple[int, ...], kind: str, dtype: torch.dtype) -> Work:
    """The lookup alone, or quantisation with its gradient."""
    count, groups, codes, channels = shape
    x = torch.randn(count, groups, channels, device=device).to(dtype)
    book = torch.randn(groups, codes, channels, device=device).to(dtype)
    rate = "float32" if channels <= 16 else "bfloat16" if dtype == torch.bfloat16 else "tf32/3"
    flops = 2 * count * groups * codes * channels
    if kind == "nearest_code":
        calls = {"ms": nearest_code, "ms_cdist": by_cdist} | ({} if quick else {"ms_compiled": compiled(by_product)})
        moved = x.numel() * dtype.itemsize + 8 * count * groups
        return Work({name: partial(call, x, book) for name, call in calls.items()}, moved, flops, rate)
    x.requires_grad_()
    slopes = [torch.randn_like(x), torch.ones((), device=device, dtype=dtype)]
    given, product = [x, book], by_product if quick else compiled(by_product)
    searches = {"ms_cdist": by_cdist, "ms_lookup_then_steps": nearest_code, "ms_compiled_lookup": product}
    ways = {name: partial(there_and_back, partial(steps_of_quantizing, way), given, slopes) for name, way in searches.items()}
    mine = [slopes[0], slopes[1].float()]
    ways = {"ms": partial(there_and_back, lambda *parts: quantize(*parts)[1:3], given, mine), **ways}
    # Forward x and the codes' vectors and ids, backward x, those vectors, their slope and the gradient.
    return Work(ways, 6 * x.numel() * dtype.itemsize + 8 * count * groups, flops, rate)


def cases(device: str, quick: bool) -> Iterator[tuple[dict[str, Any], Callable[[], Work]]]:
    """What identifies each row, and the call that sets it up."""
    for dtype in (torch.bfloat16, torch.float32):
        kind = str(dtype).removeprefix("torch.")
        for worlds, count, voxels, what in PLACES:
            shape = [1, 40, voxels] if quick else [worlds, count, voxels]
            for carried in (False, True):
                name = {
                    "kernel": "classify_voxels" + (" carried" if carried else ""),
                    "what": what,
                    "shape": shape,
                    "type": kind,
                }
                yield name, partial(classifying, device, quick, tuple(shape), carried, dtype)
        for count, *rest, what in LOOKUPS:
            sizes = [min(count, 256) if quick else count, *rest]
            for kernel in ("nearest_code", "quantize"):
                label = "nearest_code" if kernel == "nearest_code" else "quantize + gradient"
                name = {"kernel": label, "what": what, "shape": sizes, "type": kind}
                yield name, partial(searching, device, quick, tuple(sizes), kernel, dtype)
        for *tokens, what in TOKENS:
            tokens = [2, 20] if quick else tokens
            for kernel in ("ada_norm", "gated_residual", "gated_residual_norm"):
                for back in (False, True):
                    name = {
                        "kernel": kernel + (" + gradient" if back else ""),
                        "what": what,
                        "shape": [*tokens, WIDTH],
                        "type": kind,
                    }
                    yield name, partial(norming, device, quick, tuple(tokens), kernel, dtype, back)


def measure(clock: Clock, peak: dict[str, float], make: Callable[[], Work]) -> dict[str, Any]:
    """Times of all ways; of one that fails, the error instead. The kernel's share of the nearer ceiling."""
    work = make()
    row: dict[str, Any] = {}
    for name, call in work.ways.items():
        try:
            row[name] = clock.milliseconds(call)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            row[name] = f"failed: {str(error).splitlines()[0][:120]}"
    row |= work.checks()
    rate = peak["tf32"] / 3 if work.rate == "tf32/3" else peak[work.rate]
    least = {"memory": work.bytes / peak["memory"] / 1e6, "product": work.flops / rate / 1e9}
    row |= {"bytes": work.bytes, "flops": work.flops, "bound": max(least, key=least.__getitem__)}
    if isinstance(row["ms"], float):
        row["share"] = least[row["bound"]] / row["ms"]
    return row


def show(row: dict[str, Any]) -> str:
    """One row of the table."""
    figures = {name: value for name, value in row.items() if name not in ("kernel", "what", "shape", "type", "bytes", "flops")}
    words = [f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()]
    shape = "x".join(map(str, row["shape"]))
    return f"{row['kernel']:<30} {shape:<18} {row['type']:<9} {row['what']:<34} {'  '.join(words)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--seconds", type=float, default=540.0, help="time budget; what does not fit is listed as skipped")
    parser.add_argument("--only", default="", help="measure the kernels whose name contains this")
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
    for name, make in cases(options.device, options.quick):
        if options.only in name["kernel"]:
            rows.append(
                {**name, **(measure(clock, peak, make) if clock.left() > 0 else {"skipped": "the time budget was spent"})}
            )
            say(show(rows[-1]))
    result = {"device": options.device, "quick": options.quick, "ceilings": peak, "rows": rows}
    write({**describe(options.device), **result}, options.json)


if __name__ == "__main__":
    main()
