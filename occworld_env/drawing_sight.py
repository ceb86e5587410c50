"""Where the chase camera looks: the grid columns and borders that each column of pixels sees, found once a camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scenes.grid import Grid

Array = np.ndarray


@dataclass(frozen=True)
class Camera:
    """A chase camera that looks along ego forward, with an upright picture plane.

    Attributes:
        back: metres behind the ego's rear axle.
        height: metres above the ground; has to be above the grid.
        focal: focal length as a share of the picture's width.
        horizon: height of the horizon as a share of the picture's height, from its top.
        near: metres; what is closer than this is not shown.
    """

    back: float = 17.0
    height: float = 9.5
    focal: float = 0.84
    horizon: float = 0.1
    near: float = 4.0


@dataclass(frozen=True)
class Sight:
    """Which grid columns each column of pixels looks at, from the farthest (S = 0) to the nearest: fixed for a camera and grid.

    Attributes:
        cell: flat index of the grid column, int32 (S, W); X * Y stands for outside of the grid.
        depth: distance along ego forward of the borders between them, float32 (S + 1, W).
        sideways: whether the near border is a plane of constant y, bool (S, W).
        rows: first pixel row below each height edge at each border, int16 (Z + 1, S + 1, W).
        slope: metres to the ego's left for each metre ahead, float32 (W,).
        cut: static voxels that stand between the camera and the ego, bool (X, Y, Z).
    """

    cell: Array
    depth: Array
    sideways: Array
    rows: Array
    slope: Array
    cut: Array


@lru_cache(maxsize=4)
def sight_of(grid: Grid, width: int, height: int, camera: Camera) -> Sight:
    """Sight of a picture of width times height pixels; raises ValueError where the camera stands too low for the grid."""
    nx, ny, nz = grid.shape
    if camera.height <= grid.origin[2] + nz * grid.voxel:
        raise ValueError(f"Camera.height: expected a height above the grid's top, found {camera.height} m")
    if nz > 32:
        raise ValueError(f"draw_voxels: expected at most 32 levels, found {nz}")
    slope = -((np.arange(width) + 0.5) - width / 2) / (camera.focal * width)
    depth, sideways = _borders(grid, camera, slope)
    middle = (depth[1:] + depth[:-1]) / 2
    i = np.floor((middle - camera.back - grid.origin[0]) / grid.voxel).astype(np.int32)
    j = np.floor((middle * slope - grid.origin[1]) / grid.voxel).astype(np.int32)
    inside = (i >= 0) & (i < nx) & (j >= 0) & (j < ny) & (depth[:-1] - depth[1:] > 1e-6)
    cell = np.where(inside, i * ny + j, nx * ny).astype(np.int32)
    used = np.flatnonzero(inside.any(axis=1))
    kept = slice(used[0], used[-1] + 1)
    cell, depth, sideways = cell[kept], depth[used[0] : used[-1] + 2], sideways[kept]
    edges = camera.height - (grid.origin[2] + grid.voxel * np.arange(nz + 1))
    row = camera.horizon * height + camera.focal * width * edges[:, None, None] / depth
    rows = np.clip(np.ceil(row - 0.5), 0, height).astype(np.int16)
    return Sight(cell, depth.astype(np.float32), sideways, rows, slope.astype(np.float32), _between(grid, camera))


def _between(grid: Grid, camera: Camera) -> Array:
    """Voxels above the ground that hide the ego or its surroundings from the camera, bool (X, Y, Z)."""
    x, y, z = (centres.numpy() for centres in (grid.x_centres, grid.y_centres, grid.z_centres))
    depth = x + camera.back
    stretch = (camera.back + 1.5) / np.maximum(depth, 0.1)
    across = y[None] * stretch[:, None]
    up = camera.height + (z[None] - camera.height) * stretch[:, None]
    hides = (np.abs(across) < 3.0)[:, :, None] & (up < 2.4)[:, None, :] & (depth < camera.back - 1.0)[:, None, None]
    hides[:, :, : grid.ground_index + 1] = False
    return hides


def _borders(grid: Grid, camera: Camera, slope: Array) -> tuple[Array, Array]:
    """Depths (S + 1, W) at which the pixel columns cross grid planes, far ones first, and whether the near border of each
    of the S segments is a plane of constant y. Crossings out of range become segments without length at the far end."""
    ahead = grid.origin[0] + grid.voxel * np.arange(grid.shape[0] + 1) + camera.back
    aside = grid.origin[1] + grid.voxel * np.arange(grid.shape[1] + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = aside[:, None] / slope[None]
    depth = np.concatenate((np.broadcast_to(ahead[:, None], (len(ahead), len(slope))), crossing))
    depth = np.where((depth > camera.near) & (depth <= ahead[-1]), depth, ahead[-1])
    order = np.argsort(-depth, axis=0, kind="stable")
    nearest = np.full((1, len(slope)), camera.near)
    sideways = np.concatenate((order[1:] >= len(ahead), np.zeros_like(nearest, dtype=bool)))
    return np.concatenate((np.take_along_axis(depth, order, axis=0), nearest)), sideways
