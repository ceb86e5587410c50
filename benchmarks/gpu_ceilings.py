"""What this device can do at the most: bytes copied and products multiplied a second, measured; all shares are of these."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from gpu_job import Job

TYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


def run(job: Job) -> dict[str, Any]:
    """Copy bandwidth in GB/s (bytes read and written) and rates of large matrix products in TFLOP/s, by name."""
    found = {"memory": _copy(job)}
    for name, dtype in TYPES.items():
        found[name] = _product(job, dtype, tf32=name == "tf32")
        job.keep({"peaks": found})
    return {"peaks": found}


def floor(peaks: dict[str, float], moved: float, flops: float, rate: str) -> tuple[float, str]:
    """Milliseconds that `moved` bytes and `flops` operations take at the least, and which of the two binds.

    rate: a name in TYPES, or "tf32/3" for float32 products that are done as three in TensorFloat-32.
    """
    product = peaks["tf32"] / 3 if rate == "tf32/3" else peaks[rate]
    least = {"memory": moved / peaks["memory"] / 1e6, "product": flops / product / 1e9}
    bound = max(least, key=least.__getitem__)
    return least[bound], bound


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table of this part."""
    peaks = result["peaks"]
    yield f"copy {peaks['memory']:.0f} GB/s; matrix products in TFLOP/s: " + ", ".join(
        f"{name} {peaks[name]:.4g}" for name in TYPES if name in peaks
    )


def _copy(job: Job) -> float:
    source = torch.empty(1 << (24 if job.quick else 32), dtype=torch.uint8, device=job.device)
    target = torch.empty_like(source)
    return 2 * len(source) / job.clock.milliseconds(partial(target.copy_, source)) / 1e6


def _product(job: Job, dtype: torch.dtype, *, tf32: bool) -> float:
    side = 256 if job.quick else 8192
    left = torch.randn(side, side, device=job.device).to(dtype)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        return 2 * side**3 / job.clock.milliseconds(partial(torch.matmul, left, left)) / 1e9
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
