"""Drawing on rasters that have axis 0 along world x: polygons, turned rectangles, and points kept apart."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def fill_polygon(raster: np.ndarray, origin: tuple[float, float], cell: float, outline: np.ndarray, value: int) -> None:
    """Write value into the cells of raster (H, W) whose centres lie inside the polygon outline (N, 2), in metres.

    The even-odd rule says what is inside. origin: world position of the raster's lower corner; what lies outside the
    raster is left out.
    """
    points = (np.asarray(outline, dtype=np.float64) - origin) / cell
    low = np.maximum(np.floor(points.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + 1, raster.shape)
    if len(points) < 3 or (high <= low).any():
        return
    start, end = points, np.roll(points, -1, axis=0)
    row = np.arange(low[0], high[0])[:, None] + 0.5
    crosses = (start[:, 0] <= row) != (end[:, 0] <= row)
    which, edge = crosses.nonzero()
    slope = (end[edge, 1] - start[edge, 1]) / (end[edge, 0] - start[edge, 0])
    at = start[edge, 1] + (row[which, 0] - start[edge, 0]) * slope
    column = np.clip(np.ceil(at - 0.5).astype(int) - low[1], 0, high[1] - low[1])
    toggles = np.zeros((high[0] - low[0], high[1] - low[1] + 1), dtype=np.int16)
    np.add.at(toggles, (which, column), 1)
    inside = (toggles.cumsum(axis=1)[:, :-1] & 1).astype(bool)
    raster[low[0] : high[0], low[1] : high[1]][inside] = value


def turned_window(
    centre: tuple[float, float], yaw: float, length: float, width: float, shape: tuple[int, int]
) -> tuple[slice, slice, np.ndarray] | None:
    """Cells of a turned rectangle: the two slices of the raster around it and which of their cells it covers.

    Everything in cells; centre is in fractional cell indices. None where the rectangle leaves the raster.
    """
    reach = int(np.hypot(length, width) / 2) + 1
    i, j = int(centre[0]), int(centre[1])
    if i < reach or j < reach or i + reach >= shape[0] or j + reach >= shape[1]:
        return None
    step = np.arange(-reach, reach + 1)
    di = (step + i + 0.5 - centre[0])[:, None]
    dj = (step + j + 0.5 - centre[1])[None, :]
    along, across = di * np.cos(yaw) + dj * np.sin(yaw), dj * np.cos(yaw) - di * np.sin(yaw)
    inside = (np.abs(along) <= length / 2) & (np.abs(across) <= width / 2)
    return slice(i - reach, i + reach + 1), slice(j - reach, j + reach + 1), inside


def keep_apart(points: np.ndarray, distance: float, rng: np.random.Generator) -> np.ndarray:
    """Indices of a random selection of points (N, 2) no two of which are closer than distance: greedy, as dense as it gets."""
    if not len(points):
        return np.zeros(0, dtype=int)
    tree = cKDTree(points)
    taken = np.zeros(len(points), dtype=bool)
    blocked = np.zeros(len(points), dtype=bool)
    for index in rng.permutation(len(points)):
        if not blocked[index]:
            taken[index] = True
            blocked[tree.query_ball_point(points[index], distance, return_sorted=False)] = True
    return taken.nonzero()[0]
