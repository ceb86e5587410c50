"""Looking up columns of voxels under a pose: a raster as it lies in frames that have moved and turned against it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.dispatch import on_triton


class Lattice(NamedTuple):
    """The columns of a frame, whose centres are looked up, and how those of the raster lie to its own frame.

    Attributes:
        shape: columns (X, Y) of the frame along ego forward and ego left.
        voxel: edge length of a column in metres, in the frame and in the raster.
        origin: lower corner of the frame's columns in the frame, metres.
        margin: columns that the raster has in its own frame before that corner, along both axes.
    """

    shape: tuple[int, int]
    voxel: float
    origin: tuple[float, float]
    margin: tuple[int, int] = (0, 0)


def gather_columns(columns: Tensor, poses: Tensor, lattice: Lattice, fill: int) -> Tensor:
    """For each column of F frames the column of a raster that its centre lies in, or `fill` where that is outside.

    columns: uint8 or bool (B, X', Y', Z), a raster for each world. poses: float64 or float32 (B, F, 3), each frame in the frame
    of the raster, x and y in metres and yaw in radians; the arithmetic is of this type. fill: 0 to 255, or 0 and 1 for bool.
    Returns (B, F, X, Y, Z) in the type of columns; no gradient passes. Raises ValueError where shapes, types or devices do not
    fit.
    """
    _check(columns, poses, fill)
    poses = poses.detach()
    if on_triton(columns):
        from kernels.columns_triton import gather_columns_triton

        return gather_columns_triton(columns, poses, lattice, fill)
    return gather_columns_torch(columns, poses, lattice, fill)


@torch.no_grad()
def gather_columns_torch(columns: Tensor, poses: Tensor, lattice: Lattice, fill: int) -> Tensor:
    """The definition of `gather_columns` in plain torch."""
    batch, rows, width, height = columns.shape
    centres = [
        (low + (torch.arange(count, dtype=torch.float64, device=poses.device) + 0.5) * lattice.voxel).to(poses.dtype)
        for low, count in zip(lattice.origin, lattice.shape, strict=True)
    ]
    ahead, left = centres[0].unsqueeze(1), centres[1]
    east, north, yaw = (part[..., None, None] for part in poses.unbind(-1))
    cos, sin = yaw.cos(), yaw.sin()
    places = (cos * ahead - sin * left + east, sin * ahead + cos * left + north)
    row, column = (
        ((place - low) / lattice.voxel).floor() + margin
        for place, low, margin in zip(places, lattice.origin, lattice.margin, strict=True)
    )
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < width)
    world = torch.arange(0, batch * rows * width, max(rows * width, 1), device=poses.device).view(batch, 1, 1, 1)
    source = (row.long() * width + column.long() + world).masked_fill(~inside, batch * rows * width)
    # One row more, of fill, is cheaper than a mask over all that was found.
    known = torch.cat((columns.reshape(-1, height), columns.new_full((1, height), fill)))
    return known.index_select(0, source.flatten()).view(*source.shape, height)


def _check(columns: Tensor, poses: Tensor, fill: int) -> None:
    """Raise ValueError where the arguments of `gather_columns` do not fit."""
    if columns.ndim != 4 or columns.dtype not in (torch.uint8, torch.bool):
        found = f"{columns.dtype} {tuple(columns.shape)}"
        raise ValueError(f"gather_columns: columns must be uint8 or bool (B, X', Y', Z), found {found}")
    if poses.shape[:1] != columns.shape[:1] or poses.ndim != 3 or poses.shape[2] != 3 or poses.device != columns.device:
        places = f"{tuple(poses.shape)} on {poses.device} and columns {tuple(columns.shape)} on {columns.device}"
        raise ValueError(f"gather_columns: poses must be (B, F, 3) beside columns (B, X', Y', Z), found {places}")
    if poses.dtype not in (torch.float64, torch.float32):
        raise ValueError(f"gather_columns: poses must be float64 or float32, found {poses.dtype}")
    largest = 1 if columns.dtype == torch.bool else 255
    if not 0 <= fill <= largest:
        raise ValueError(f"gather_columns: fill must be between 0 and {largest} for {columns.dtype}, found {fill}")
