"""`philox_normal` as a Triton kernel: one program a block of counters, four normals each."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

TWO_PI = tl.constexpr(2 * math.pi)
BLOCK = 256


@triton.jit
def _normal(radial, angular):
    """Two independent normals from two words by Box and Muller, in float64 as the definition does it."""
    radius = tl.sqrt(-2.0 * tl.log((radial.to(tl.float64) + 0.5) * (2.0**-32)))
    angle = (angular.to(tl.float64) + 0.5) * (2.0**-32) * TWO_PI
    return (radius * tl.cos(angle)).to(tl.float32), (radius * tl.sin(angle)).to(tl.float32)


@triton.jit
def normals_of(seed, step, counter, index):
    """The four normals, along two new axes at the end, that each counter gives a world at its step."""
    element = counter.to(tl.uint32)
    draw = (tl.zeros(counter.shape, tl.int64) + index).to(tl.uint32)
    low, high = (draw * 0 + step).to(tl.uint32), (draw * 0 + (step >> 32)).to(tl.uint32)
    first, second, third, fourth = tl.philox(seed, element, draw, low, high)
    one, two = _normal(first, second)
    three, four = _normal(third, fourth)
    return tl.join(tl.join(one, three), tl.join(two, four))


@triton.jit(do_not_specialize=["index"])
def philox_normal_kernel(seeds, steps, out, size, index, BLOCK: tl.constexpr):
    """out float32 (B, size); seeds and steps int64 (B,); the grid has one program for each world and BLOCK counters of it."""
    blocks = tl.cdiv(size, 4 * BLOCK)
    world = (tl.program_id(0) // blocks).to(tl.int64)
    block = (tl.program_id(0) % blocks).to(tl.int64)
    counter = block * BLOCK + tl.arange(0, BLOCK)
    normals = tl.reshape(normals_of(tl.load(seeds + world), tl.load(steps + world), counter, index), (4 * BLOCK,))
    place = block * (4 * BLOCK) + tl.arange(0, 4 * BLOCK)
    tl.store(out + world * size + place, normals, mask=place < size)


def philox_normal_triton(seeds: Tensor, steps: Tensor, index: int, shape: tuple[int, ...]) -> Tensor:
    """Launch `philox_normal_kernel`; see `kernels.noise.philox_normal` for the arguments."""
    size = math.prod(shape)
    out = torch.empty(len(seeds), *shape, dtype=torch.float32, device=seeds.device)
    programs = len(seeds) * triton.cdiv(size, 4 * BLOCK)
    if programs:
        arguments = (seeds.contiguous(), steps.contiguous(), out, size, index)
        philox_normal_kernel[(programs,)](*arguments, BLOCK=BLOCK, num_warps=4, enable_fp_fusion=False)
    return out
