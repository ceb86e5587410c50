"""Rows of the modulated norm, the gated residual and both, forward alone and with the gradient, against plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from gpu_job import Job
from gpu_rows import Case, Work, compiled, lines, run_cases
from torch import Tensor
from torch.nn.functional import layer_norm

from kernels import ada_norm, gated_residual, gated_residual_norm

__all__ = ["cases", "lines", "run"]

TOKENS = ((64, 625, "base, 64 worlds"), (64, 144, "mini, 64 worlds"), (256, 625, "base, training"))
WIDTH = 256


def run(job: Job) -> dict[str, Any]:
    """All rows."""
    return run_cases(job, cases(job))


def cases(job: Job) -> Iterator[Case]:
    """Each operation on each number of tokens; the gradient where there is training."""
    for dtype in (torch.bfloat16, torch.float32):
        for sequences, count, what in TOKENS:
            shape = (2, 20, WIDTH) if job.quick else (sequences, count, WIDTH)
            for kernel in OPERATIONS:
                back = "training" in what
                name = kernel + (", there and back" if back else "")
                yield Case(name, what, shape, dtype, partial(_norm, job, shape, kernel, dtype, back))


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


# the kernel, plain torch, arguments (x: a stream of tokens, s: one vector a sequence), results, streams passed in backward
OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str, int, int]] = {
    "ada_norm": (ada_norm, norm_of, "xss", 1, 3),
    "gated_residual": (gated_residual, residual_of, "xxs", 1, 3),
    "gated_residual_norm": (gated_residual_norm, both_of, "xxsss", 2, 6),
}


def _outcome(call: Callable[..., Any], given: list[Tensor], slopes: list[Tensor] | None) -> tuple[Tensor, ...]:
    """Results of a call or, with slopes, the gradients of all arguments."""
    results = call(*given)
    results = results if isinstance(results, tuple) else (results,)
    return results if slopes is None else torch.autograd.grad(results, given, slopes)


def _norm(job: Job, shape: tuple[int, int, int], kernel: str, dtype: torch.dtype, back: bool) -> Work:
    kernel_of, torch_of, names, results, backward = OPERATIONS[kernel]
    sizes = {"x": shape, "s": (shape[0], shape[2])}
    given = [torch.randn(sizes[name], device=job.device).to(dtype).requires_grad_(back) for name in names]
    slopes = [torch.randn(shape, device=job.device).to(dtype) for _ in range(results)] if back else None

    def error() -> float:
        """Of results or gradients in the first two sequences, the worst, relative."""
        wide = [part[:2].detach().double().requires_grad_(back) for part in given]
        exact = _outcome(torch_of, wide, [slope[:2].double() for slope in slopes] if slopes else None)
        found = _outcome(kernel_of, given, slopes)
        return max(float((f[:2].double() - e).norm() / e.norm()) for f, e in zip(found, exact, strict=True))

    # Forward each is read or written once; backward the slopes, what the product rule needs, and the gradients.
    passes = names.count("x") + results + (backward if back else 0)
    rivals = {"eager": partial(_outcome, torch_of, given, slopes)}
    moved = passes * math.prod(shape) * dtype.itemsize
    work = Work(partial(_outcome, kernel_of, given, slopes), rivals, moved, 0, "float32", error)
    work.compiled["compiled"] = lambda: partial(_outcome, compiled(torch_of), given, slopes)
    return work
