"""`gather_columns` as a Triton kernel: a program finds the sources of some columns in registers and copies them."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.columns import Lattice


@triton.jit
def _cell(place, low: tl.constexpr, VOXEL: tl.constexpr, margin):
    """Number of the cell that a place lies in, a whole number in the type of place."""
    distance = place - low
    if distance.dtype == tl.float64:
        cell = tl.floor(distance / VOXEL)
    else:
        cell = tl.floor(tl.div_rn(distance, tl.full(distance.shape, VOXEL, tl.float32)))
    return cell + margin


@triton.jit(do_not_specialize=["fill"])
def gather_columns_kernel(
    columns,
    poses,
    cosines,
    sines,
    out,
    frames,
    cells,
    along,
    rows,
    width,
    row_margin,
    column_margin,
    fill,
    HEIGHT: tl.constexpr,
    VOXEL: tl.constexpr,
    LOW_X: tl.constexpr,
    LOW_Y: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_Z: tl.constexpr,
):
    """out uint8 (B, F, X, Y, Z), X * Y = cells, Y = along, from columns uint8 (B, rows, width, Z) and poses (B, F, 3).

    cosines and sines (B, F) of the yaws are as torch has them, so that results are the definition's. The grid has one program
    for each frame and BLOCK columns of it.
    """
    blocks = tl.cdiv(cells, BLOCK)
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    cell = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    cos, sin = tl.load(cosines + frame), tl.load(sines + frame)
    east, north = tl.load(poses + 3 * frame), tl.load(poses + 3 * frame + 1)
    ahead = (((cell // along).to(tl.float64) + 0.5) * VOXEL + LOW_X).to(cos.dtype)
    left = (((cell % along).to(tl.float64) + 0.5) * VOXEL + LOW_Y).to(cos.dtype)
    row = _cell(cos * ahead - sin * left + east, LOW_X, VOXEL, row_margin)
    column = _cell(sin * ahead + cos * left + north, LOW_Y, VOXEL, column_margin)
    real = cell < cells
    inside = real & (row >= 0) & (row < rows) & (column >= 0) & (column < width)
    row, column = tl.where(inside, row, 0.0).to(tl.int64), tl.where(inside, column, 0.0).to(tl.int64)
    source = ((frame // frames * rows + row) * width + column) * HEIGHT
    level = tl.arange(0, BLOCK_Z)
    high = (level < HEIGHT)[None, :]
    found = tl.load(columns + source[:, None] + level[None, :], mask=inside[:, None] & high, other=0)
    found = tl.where(inside[:, None], found, fill.to(tl.uint8))
    target = (frame * cells + cell) * HEIGHT
    tl.store(out + target[:, None] + level[None, :], found, mask=real[:, None] & high)


def settings(height: int) -> dict[str, Any]:
    """Block sizes and launch options for columns of so many cells; they spill no registers on sm_80, sm_90 and sm_100."""
    levels = triton.next_power_of_2(height)
    return {"BLOCK": max(16, min(512, 2048 // levels)), "BLOCK_Z": levels, "num_warps": 4}


def gather_columns_triton(columns: Tensor, poses: Tensor, lattice: Lattice, fill: int) -> Tensor:
    """Launch the kernel; see `kernels.columns.gather_columns` for the arguments."""
    (batch, rows, width, height), frames, cells = columns.shape, poses.shape[1], lattice.shape[0] * lattice.shape[1]
    out = torch.empty(batch, frames, *lattice.shape, height, dtype=torch.uint8, device=columns.device)
    if out.numel():
        options = settings(height)
        grid = (batch * frames * triton.cdiv(cells, options["BLOCK"]),)
        poses = poses.contiguous()
        yaw = poses[..., 2].contiguous()
        tensors = (columns.contiguous().view(torch.uint8), poses, yaw.cos(), yaw.sin(), out)
        sizes = (frames, cells, lattice.shape[1], rows, width, *lattice.margin, int(fill))
        low_x, low_y = map(float, lattice.origin)
        constants = {"HEIGHT": height, "VOXEL": float(lattice.voxel), "LOW_X": low_x, "LOW_Y": low_y}
        gather_columns_kernel[grid](*tensors, *sizes, **constants, enable_fp_fusion=False, **options)
    return out.view(columns.dtype)
