"""Boxes, cells and lines in the plane, in numpy: what the metrics measure with."""

from __future__ import annotations

import numpy as np

from scenes.grid import Grid

Array = np.ndarray


def to_ego(pose: Array, points: Array) -> Array:
    """World points (..., 2) in the frame of pose (3,)."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    x, y = points[..., 0] - pose[0], points[..., 1] - pose[1]
    return np.stack((cos * x + sin * y, cos * y - sin * x), axis=-1)


def to_world(pose: Array, points: Array) -> Array:
    """Points (..., 2) in the frame of pose (3,), in the world."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    x, y = points[..., 0], points[..., 1]
    return np.stack((cos * x - sin * y + pose[0], sin * x + cos * y + pose[1]), axis=-1)


def in_box(local: Array, box: Array) -> Array:
    """Which points (..., 2) in the ego frame lie in the ego's box (3,): length, width, centre ahead of the rear axle."""
    return (np.abs(local[..., 0] - box[2]) <= box[0] / 2) & (np.abs(local[..., 1]) <= box[1] / 2)


def corners(box: Array) -> Array:
    """Corners (4, 2) of the ego's box (3,) in its frame: front left, front right, rear right, rear left."""
    front, rear, half = box[2] + box[0] / 2, box[2] - box[0] / 2, box[1] / 2
    return np.array([[front, half], [front, -half], [rear, -half], [rear, half]])


def cell_centres(cells: Array, grid: Grid) -> Array:
    """Centres (N, 2), metres in the ego frame, of columns (N, 2)."""
    return np.asarray(grid.origin[:2]) + (cells + 0.5) * grid.voxel


def columns_at(points: Array, grid: Grid) -> tuple[Array, Array]:
    """Columns int64 (..., 2), clipped to the grid, that points (..., 2) of the ego frame lie in, and which are inside."""
    index = np.floor((points - np.asarray(grid.origin[:2])) / grid.voxel).astype(np.int64)
    size = np.asarray(grid.shape[:2])
    inside = ((index >= 0) & (index < size)).all(-1)
    return np.clip(index, 0, size - 1), inside


def distance_to_line(points: Array, line: Array) -> Array:
    """Metres (N,) from points (N, 2) to the line through points (M, 2)."""
    start, step = line[:-1], np.diff(line, axis=0)
    length = np.square(step).sum(-1)
    kept = length > 1e-12
    if not kept.any():
        return np.linalg.norm(points - line[0], axis=-1)
    start, step, length = start[kept], step[kept], length[kept]
    offset = points[:, None] - start
    share = np.clip((offset * step).sum(-1) / length, 0.0, 1.0)
    return np.linalg.norm(offset - share[..., None] * step, axis=-1).min(-1)
