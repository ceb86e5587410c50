"""Rows of the codebook lookup and of quantisation with its gradient, against cdist and argmin and a compiled product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from gpu_job import Job
from gpu_rows import Bar, Case, Work, compiled, lines, run_cases
from torch import Tensor

from kernels import nearest_code, quantize

__all__ = ["cases", "lines", "run"]

_CHUNK = 1 << 28  # distances that cdist may hold at a time
_SAMPLE = 512  # rows whose distances are taken in float64
# N, G, K, D and what has that shape
SHAPES = (
    (1 << 20, 1, 512, 128, "one codebook of the papers' size"),
    (1 << 20, 16, 256, 4, "product codebooks, training"),
    (64 * 625, 16, 256, 4, "product codebooks, base, 64 worlds"),
    (64 * 144, 16, 256, 4, "product codebooks, mini, 64 worlds"),
    (1 << 16, 1, 65_536, 512, "the largest codebook"),
)
QUANTIZED = 2  # of those shapes are trained on


def run(job: Job) -> dict[str, Any]:
    """All rows."""
    return run_cases(job, cases(job))


def cases(job: Job) -> Iterator[Case]:
    """Lookup alone and, at the shapes of training, quantisation forward and backward."""
    for dtype in (torch.bfloat16, torch.float32):
        for index, (count, groups, codes, channels, what) in enumerate(SHAPES):
            small = (min(count, 256), groups, min(codes, 512), channels)
            shape = small if job.quick else (count, groups, codes, channels)
            yield Case("nearest_code", what, shape, dtype, partial(_lookup, job, shape, dtype, bars=index == 0))
            if index < QUANTIZED:
                yield Case("quantize, there and back", what, shape, dtype, partial(_quantize, job, shape, dtype))


def by_cdist(x: Tensor, codebook: Tensor) -> Tensor:
    """The lookup as most code has it: all distances, then argmin, as many rows at a time as memory allows."""
    step = max(1, _CHUNK // (codebook.shape[0] * codebook.shape[1]))
    book = codebook.float()
    return torch.cat([torch.cdist(part.float().transpose(0, 1), book).argmin(-1).T for part in x.split(step)])


def by_product(x: Tensor, codebook: Tensor) -> Tensor:
    """The lookup as a matrix product in the type of x, for torch.compile to fuse."""
    norms = codebook.float().square().sum(-1)
    return torch.stack([(norms[g] - 2 * (x[:, g] @ codebook[g].T).float()).argmin(-1) for g in range(x.shape[1])], dim=-1)


def excess(x: Tensor, codebook: Tensor, codes: Tensor) -> float:
    """How much further than the nearest code the chosen ones are at the worst, over |x|^2 + |c|^2, in float64 on some rows."""
    rows = torch.arange(0, len(x), max(1, len(x) // _SAMPLE), device=x.device)
    worst = 0.0
    for group in range(x.shape[1]):
        vectors, book = x[rows, group].double(), codebook[group].double()
        distance = torch.cdist(vectors, book, compute_mode="donot_use_mm_for_euclid_dist").square()
        chosen = codes[rows, group]
        further = distance.gather(1, chosen.unsqueeze(1)).squeeze(1) - distance.amin(1)
        scale = vectors.square().sum(1) + book[chosen].square().sum(1)
        worst = max(worst, float((further / scale).max()))
    return worst


def steps_of_quantizing(search: Callable[[Tensor, Tensor], Tensor], x: Tensor, codebook: Tensor) -> tuple[Tensor, ...]:
    """Straight-through output, commitment and counts one after the other, with the codes that `search` finds."""
    codes = search(x.detach(), codebook)
    near = codebook[torch.arange(len(codebook), device=x.device), codes]
    ones = torch.ones_like(codes.T, dtype=torch.float32)
    uses = torch.zeros(codebook.shape[:2], device=x.device).scatter_add_(1, codes.T, ones)
    return x + (near - x).detach(), (x - near).square().mean(), uses


def _numbers(job: Job, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    count, groups, codes, channels = shape
    x = torch.randn(count, groups, channels, device=job.device).to(dtype)
    return x, torch.randn(groups, codes, channels, device=job.device).to(dtype)


def _rate(channels: int, dtype: torch.dtype) -> str:
    """On few channels the kernel works in float32, on many in bfloat16 or through three products in TensorFloat-32."""
    return "float32" if channels <= 16 else "bfloat16" if dtype == torch.bfloat16 else "tf32/3"


def _lookup(job: Job, shape: tuple[int, ...], dtype: torch.dtype, *, bars: bool) -> Work:
    (count, groups, codes, channels), (x, book) = shape, _numbers(job, shape, dtype)
    asked = [Bar("cdist", 5.0), Bar("compiled product", 2.0)] if bars else []
    asked += [Bar(None, 0.7)] if bars and dtype == torch.bfloat16 else []
    return Work(
        ours=partial(nearest_code, x, book),
        rivals={"cdist": partial(by_cdist, x, book)},
        compiled={"compiled product": lambda: partial(compiled(by_product), x, book)},
        bytes=(x.numel() + book.numel()) * dtype.itemsize + 8 * count * groups,
        flops=2 * count * groups * codes * channels,
        rate=_rate(channels, dtype),
        error=lambda: excess(x, book, nearest_code(x, book)),
        bars=tuple(asked),
    )


def _quantize(job: Job, shape: tuple[int, ...], dtype: torch.dtype) -> Work:
    (count, groups, codes, channels), (x, book) = shape, _numbers(job, shape, dtype)
    x.requires_grad_()
    slope, one = torch.randn_like(x), torch.ones((), device=job.device)

    def back(output: Tensor, commitment: Tensor) -> Tensor:
        return torch.autograd.grad((output, commitment), x, (slope, one.to(commitment.dtype)))[0]

    def ours() -> Tensor:
        found = quantize(x, book)
        return back(found.quantized, found.commitment)

    def other(search: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        output, commitment, _ = steps_of_quantizing(search, x, book)
        return back(output, commitment)

    def error() -> float:
        wide, codes_of = x.detach().double(), quantize(x, book).codes
        near = book[torch.arange(groups, device=x.device), codes_of].double()
        exact = slope.double() + 2 * (wide - near) / x.numel()
        return float((ours().double() - exact).norm() / exact.norm())

    searches = {"cdist": by_cdist, "lookup, then steps": nearest_code}
    # Forward x and the codes' vectors and ids, backward x, those vectors, their slope and the gradient.
    moved = 6 * x.numel() * dtype.itemsize + 8 * count * groups
    rivals = {name: partial(other, search) for name, search in searches.items()}
    work = Work(ours, rivals, moved, 2 * count * groups * codes * channels, _rate(channels, dtype), error)
    work.compiled["compiled lookup, then steps"] = lambda: partial(other, compiled(by_product))
    return work
