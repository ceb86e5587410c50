"""Daylight in a voxel grid: soft shadows and ambient occlusion, as one number for every voxel of air."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

AMBIENT, SUN = 0.52, 0.56  # their sum is slightly above 1, so that open ground in the sun has its full colour
SUN_SLOPE = 0.85  # metres that a shadow moves along the ground for each metre of height
SUN_BEARING = 2.2  # radians in the world frame: the direction in which shadows fall


def light_volume(solid: Array, heading: float = 0.0, reach: int = 1) -> Array:
    """Light that arrives in each voxel, float32 (X, Y, Z + 1) in [0, about 1.1]; level Z is the air above the grid.

    solid: bool (X, Y, Z). heading: yaw of the grid in the world, radians, so that the sun stands still while the ego turns.
    reach: distance in voxels over which neighbours take ambient light away.
    """
    nx, ny, nz = solid.shape
    levels = np.zeros((nz + 2, nx, ny), dtype=np.float32)
    levels[:nz] = np.moveaxis(solid, 2, 0)
    bearing = SUN_BEARING - heading
    shift = (SUN_SLOPE * np.cos(bearing), SUN_SLOPE * np.sin(bearing))
    shadow = np.zeros((nz + 1, nx, ny), dtype=np.float32)
    for level in range(nz - 1, -1, -1):
        shadow[level] = _shifted(np.maximum(levels[level + 1], shadow[level + 1]), *shift)
    near = _blurred(levels, reach)
    openness = 1.0 - 0.55 * near[:-1] - 0.35 * near[1:]
    return np.ascontiguousarray(np.moveaxis(AMBIENT * openness + SUN * (1.0 - shadow), 0, 2))


def _shifted(level: Array, dx: float, dy: float) -> Array:
    """Contents of a level (X, Y) moved by (dx, dy) cells, between -1 and 1, linearly interpolated; what comes in is 0."""
    padded = np.pad(level, 1)
    nx, ny = level.shape
    out = np.zeros_like(level)
    for step_x, weight_x in ((0, 1 - abs(dx)), (int(np.sign(dx)), abs(dx))):
        for step_y, weight_y in ((0, 1 - abs(dy)), (int(np.sign(dy)), abs(dy))):
            part = padded[1 - step_x : 1 - step_x + nx, 1 - step_y : 1 - step_y + ny]
            out += np.float32(weight_x * weight_y) * part
    return out


def _blurred(levels: Array, reach: int) -> Array:
    """Mean over squares of 2 * reach + 1 cells within each level of (L, X, Y)."""
    out = levels
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        padded, size = np.pad(out, pad, mode="edge"), out.shape[axis]
        parts = [np.take(padded, range(step, step + size), axis=axis) for step in range(2 * reach + 1)]
        out = np.asarray(np.sum(parts, axis=0, dtype=np.float32))
    return out / np.float32((2 * reach + 1) ** 2)


def sample_level(volume: Array, i: Array, j: Array, level: Array) -> Array:
    """Light at fractional cell positions i, j (N,), where cell centres are whole numbers, on whole levels (N,): bilinear."""
    nx, ny, nz = volume.shape
    i = np.clip(i, 0, nx - 1.001)
    j = np.clip(j, 0, ny - 1.001)
    i0, j0 = i.astype(np.int32), j.astype(np.int32)
    u, v = i - i0.astype(np.float32), j - j0.astype(np.float32)
    flat, base = volume.reshape(-1), (i0 * ny + j0) * nz + level
    row = ny * nz
    near, far = flat.take(base), flat.take(base + row)
    near += (flat.take(base + nz) - near) * v
    far += (flat.take(base + (row + nz)) - far) * v
    return near + (far - near) * u
