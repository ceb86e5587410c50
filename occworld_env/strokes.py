"""Anti-aliased lines and polygons on float images, in numpy: what is laid over a picture."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

Array = np.ndarray


def blend(image: Array, coverage: Array, colour: tuple[int, int, int]) -> None:
    """Mix `colour` into image (H, W, 3), float32 0 to 255, in place, by coverage (H, W) in [0, 1]."""
    rows, columns = np.nonzero(coverage)
    amount = coverage[rows, columns, None]
    image[rows, columns] += amount * (np.asarray(colour, dtype=np.float32) - image[rows, columns])


def polyline(shape: tuple[int, int], points: Array, width: float) -> Array:
    """Coverage float32 `shape` (H, W) of the line through points (N, 2), each (column, row) in pixels, `width` pixels wide."""
    coverage = np.zeros(shape, dtype=np.float32)
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    for start, end in pairwise(points):
        _stamp_segment(coverage, start, end, width / 2)
    return coverage


def _stamp_segment(coverage: Array, start: Array, end: Array, radius: float) -> None:
    height, width = coverage.shape
    low = np.floor(np.minimum(start, end) - radius - 1).clip(0, (width, height)).astype(int)
    high = np.ceil(np.maximum(start, end) + radius + 2).clip(0, (width, height)).astype(int)
    if (high <= low).any():
        return
    column = np.arange(low[0], high[0], dtype=np.float32) + 0.5 - np.float32(start[0])
    row = (np.arange(low[1], high[1], dtype=np.float32) + 0.5 - np.float32(start[1]))[:, None]
    along = (end - start).astype(np.float32)
    share = np.clip((column * along[0] + row * along[1]) / max(float(along @ along), 1e-9), 0, 1)
    distance = np.hypot(column - share * along[0], row - share * along[1])
    window = coverage[low[1] : high[1], low[0] : high[0]]
    np.maximum(window, np.clip(radius + 0.5 - distance, 0, 1), out=window)


def polygon(shape: tuple[int, int], corners: Array) -> Array:
    """Coverage float32 `shape` (H, W) of a convex polygon with corners (N, 2), each (column, row) in pixels."""
    corners = np.asarray(corners, dtype=np.float64)
    following = np.roll(corners, -1, axis=0)
    area = float(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]))
    column = (np.arange(shape[1], dtype=np.float32) + 0.5)[None]
    row = (np.arange(shape[0], dtype=np.float32) + 0.5)[:, None]
    coverage = np.ones(shape, dtype=np.float32)
    for (x, y), (dx, dy) in zip(corners, following - corners, strict=True):
        length = max(float(np.hypot(dx, dy)), 1e-9) * (1.0 if area >= 0 else -1.0)
        inside = ((row - y) * dx - (column - x) * dy) / length
        np.minimum(coverage, np.clip(inside + 0.5, 0, 1), out=coverage)
    return coverage
