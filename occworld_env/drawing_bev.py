"""Bird's eye view of an occupancy: ego forward is up, ego left is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from occworld_env.drawing_light import light_volume, sample_level
from occworld_env.strokes import blend, polygon, polyline
from scenes.grid import AGENTS, FLAT, STATIC_OBSTACLES, Grid

Array = np.ndarray
ROUTE_COLOUR = (38, 222, 190)
PATH_COLOUR = (255, 246, 214)
EGO_COLOUR = (244, 248, 252)


@dataclass(frozen=True)
class Overlay:
    """What is drawn over the voxels, in the ego frame of the picture, metres.

    Attributes:
        route: line that the task leads along, (N, 2), or None.
        path: commanded or planned path of the rear axle, (M, 2) or (M, 3), or None.
        length, width, height: size of the ego's box.
        rear: how far the box reaches behind the rear axle.
        heading: yaw of the ego in the world, radians, which keeps the sun in its place.
    """

    route: Array | None = None
    path: Array | None = None
    length: float = 4.7
    width: float = 1.85
    height: float = 1.6
    rear: float = 1.0
    heading: float = 0.0

    def corners(self) -> Array:
        """Corners of the ego's box, (4, 2) metres."""
        front, half = self.length - self.rear, self.width / 2
        return np.array([[front, half], [front, -half], [-self.rear, -half], [-self.rear, half]])


def as_array(occupancy: Array | Tensor, grid: Grid) -> Array:
    """One frame of occupancy, uint8 (X, Y, Z), as a numpy array; ValueError where it does not fit the grid."""
    array = occupancy.detach().cpu().numpy() if isinstance(occupancy, Tensor) else np.asarray(occupancy)
    if array.dtype != np.uint8 or array.shape != grid.shape:
        raise ValueError(f"occupancy: expected uint8 {grid.shape}, found {array.dtype} {array.shape}")
    if array.max(initial=0) >= grid.num_classes:
        raise ValueError(f"occupancy: expected class ids below {grid.num_classes}, found {int(array.max())}")
    return array


def shaded_colours(grid: Grid) -> Array:
    """Colour of each class, float32 (C, 3): agents vivid, flat classes calm."""
    colours = np.asarray(grid.colours, dtype=np.float32)
    grey = colours.mean(axis=1, keepdims=True)
    strength, bright = np.ones((2, len(colours), 1), dtype=np.float32)
    strength[[index for index in FLAT if index < len(colours)]] = 0.75
    strength[[index for index in AGENTS if index < len(colours)]] = 1.1
    bright[[index for index in STATIC_OBSTACLES if index < len(colours)]] = 0.92
    return np.clip(bright * (grey + strength * (colours - grey)), 0, 255)


def lighting(array: Array, grid: Grid, overlay: Overlay) -> Array:
    """Light for one frame, see `light_volume`; the ego, whose own cells are free, casts a shadow too."""
    solid = array != grid.free
    front = overlay.length - overlay.rear
    x, y, z = (centres.numpy() for centres in (grid.x_centres, grid.y_centres, grid.z_centres))
    inside = ((x > -overlay.rear) & (x < front))[:, None] & (np.abs(y) <= max(overlay.width, grid.voxel) / 2)[None]
    solid |= inside[:, :, None] & ((z > 0) & (z < overlay.height))
    return light_volume(solid, overlay.heading, reach=max(round(0.8 / grid.voxel), 1))


def height_tint(level: Array, grid: Grid) -> Array:
    """Brightness of a voxel by its level: the higher, the lighter, so that roofs and crowns stand out from what is below."""
    return np.float32(0.82) + np.float32(0.3) * (level / np.float32(max(grid.shape[2] - 1, 1))).astype(np.float32)


def draw_bev(
    occupancy: Array | Tensor, grid: Grid, size: int = 480, overlay: Overlay | None = None, light: Array | None = None
) -> Array:
    """Square picture, uint8 (size, size, 3), of the highest voxel of each column, lit and shaded by height, under the overlays.

    occupancy: uint8 (X, Y, Z) class ids. light: what `lighting` gives for it, where the caller has it already.
    """
    array = as_array(occupancy, grid)
    solid = array != grid.free
    overlay = overlay or Overlay()
    if light is None:
        light = lighting(array, grid, overlay)
    top = np.where(solid.any(2), grid.shape[2] - 1 - np.argmax(solid[:, :, ::-1], axis=2), 0)
    kind = np.take_along_axis(array, top[..., None], axis=2)[..., 0]
    tint = np.where(np.isin(kind, (*FLAT, grid.free)), 1.0, height_tint(top, grid)).astype(np.float32)
    i, j = (centres[axis] for axis, centres in zip(((..., None), None), _pixel_cells(grid, size), strict=True))
    cell = tuple(np.clip(np.rint(at), 0, n - 1).astype(np.int32) for at, n in zip((i, j), grid.shape[:2], strict=True))
    image = (shaded_colours(grid)[kind] * tint[..., None])[cell]
    brightness = sample_level(light, i, j, top[cell] + 1)
    kind = kind[cell]
    image *= np.where(kind == grid.free, np.float32(1), brightness)[..., None]
    _outline(image, kind)
    _overlay(image, ~np.isin(kind, AGENTS), grid, size, overlay)
    return np.clip(image, 0, 255).astype(np.uint8)


def _pixel_cells(grid: Grid, size: int) -> tuple[Array, Array]:
    """Fractional cell positions of the picture's rows along axis 0 and of its columns along axis 1."""
    share = (np.arange(size, dtype=np.float32) + 0.5) / size
    return (1 - share) * grid.shape[0] - 0.5, (1 - share) * grid.shape[1] - 0.5


def _outline(image: Array, kind: Array) -> None:
    """Darken the rim of agents, so that two parked side by side stay two."""
    agent = np.isin(kind, AGENTS)
    rim = np.zeros_like(agent)
    rim[1:] |= kind[1:] != kind[:-1]
    rim[:-1] |= kind[1:] != kind[:-1]
    rim[:, 1:] |= kind[:, 1:] != kind[:, :-1]
    rim[:, :-1] |= kind[:, 1:] != kind[:, :-1]
    image[agent & rim] *= 0.55


def to_pixels(points: Array, grid: Grid, size: int) -> Array:
    """Points (N, 2) in the ego frame, metres, as (column, row) pixels of the bird's eye view, (N, 2)."""
    extent = np.asarray(grid.shape[:2]) * grid.voxel
    share = (np.asarray(points, dtype=np.float64)[:, :2] - np.asarray(grid.origin[:2])) / extent
    return np.stack(((1 - share[:, 1]) * size, (1 - share[:, 0]) * size), axis=1)


def _overlay(image: Array, ground: Array, grid: Grid, size: int, overlay: Overlay) -> None:
    metre = size / (grid.shape[0] * grid.voxel)
    shape = image.shape[:2]
    if overlay.route is not None:
        blend(image, 0.62 * ground * polyline(shape, to_pixels(overlay.route, grid, size), max(0.6 * metre, 2.0)), ROUTE_COLOUR)
    if overlay.path is not None:
        blend(image, 0.9 * ground * polyline(shape, to_pixels(overlay.path, grid, size), max(0.4 * metre, 2.0)), PATH_COLOUR)
    corners = overlay.corners()
    grown = corners + 0.35 * np.sign(corners - corners.mean(axis=0))
    blend(image, 0.8 * polygon(shape, to_pixels(grown, grid, size)), (8, 10, 14))
    blend(image, polygon(shape, to_pixels(corners, grid, size)), EGO_COLOUR)
    front, half = overlay.length - overlay.rear, overlay.width / 2
    arrow = np.array([[front - 0.35, 0.0], [front - 2.1, 0.75 * half], [front - 2.1, -0.75 * half]])
    blend(image, polygon(shape, to_pixels(arrow, grid, size)), (24, 150, 130))
