"""A software renderer for voxels: what a camera behind and above the ego sees of an occupancy.

The picture plane stands upright, so a column of pixels shows one vertical plane of the world, and the grid columns that it
cuts, and where, are the same in every frame: see `drawing_sight`. A frame looks up which voxel faces are there, paints them
as runs of pixels from back to front, and then shades each pixel once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from occworld_env.drawing_bev import PATH_COLOUR, ROUTE_COLOUR, Overlay, as_array, height_tint, lighting, shaded_colours
from occworld_env.drawing_car import draw_car
from occworld_env.drawing_light import sample_level
from occworld_env.drawing_sight import Camera, Sight, sight_of
from occworld_env.strokes import polyline
from scenes.grid import AGENTS, FLAT, Grid

Array = np.ndarray
SKY, HAZE = (22, 29, 46), (74, 88, 112)
FACE_BRIGHTNESS = np.array([1.08, 0.78, 0.92], dtype=np.float32)  # top, facing back, facing sideways
PORTION = 1 << 16  # pixels that are shaded together: few enough for the processor's cache
TEXELS = 4  # pixels of the overlay's texture along the edge of a voxel


@dataclass(frozen=True)
class _Pixels:
    """The pixels (P,) of a picture that show a voxel, and what they show.

    Attributes:
        index: column of pixels * height + row.
        segment: segment of the line of sight, see `Sight`.
        column: column of pixels.
        level: index of the voxel along up.
        side: whether it is a side of the voxel, else its top.
    """

    index: Array
    segment: Array
    column: Array
    level: Array
    side: Array

    def portion(self, first: int) -> _Pixels:
        """The PORTION pixels from number `first` on."""
        part = slice(first, first + PORTION)
        return _Pixels(self.index[part], self.segment[part], self.column[part], self.level[part], self.side[part])


@dataclass(frozen=True)
class _Line:
    """A line on the ground: how much of it covers each texel, (X * TEXELS, Y * TEXELS, 1), and its colour."""

    texture: Array
    colour: tuple[int, int, int]


def draw_voxels(
    occupancy: Array | Tensor,
    grid: Grid,
    size: tuple[int, int] = (720, 480),
    overlay: Overlay | None = None,
    camera: Camera | None = None,
    light: Array | None = None,
    smooth: bool = False,
) -> Array:
    """Picture, uint8 (height, width, 3), of the voxels from the chase camera; `size` is (width, height) in pixels.

    occupancy: uint8 (X, Y, Z) class ids. light: what `lighting` gives for it, where the caller has it already.
    smooth: draw at twice the size and average, for pictures that are kept; takes four times as long.
    Static voxels between the camera and the ego are left out; the ego shows through whatever else hides it.
    """
    array, overlay, camera = as_array(occupancy, grid), overlay or Overlay(), camera or Camera()
    if light is None:
        light = lighting(array, grid, overlay)
    if smooth:
        return _halved(draw_voxels(array, grid, (2 * size[0], 2 * size[1]), overlay, camera, light))
    width, height = size
    sight = sight_of(grid, width, height, camera)
    array = np.where(sight.cut & ~np.isin(array, AGENTS), np.uint8(grid.free), array)
    pixels = _paint(array, grid, sight, height)
    lines = _textures(grid, overlay)
    image = _background(width, height, camera)
    depth = np.full((width, height), np.inf, dtype=np.float32)
    for first in range(0, len(pixels.index), PORTION):
        part = pixels.portion(first)
        colour, distance = _shade(part, array, grid, sight, height, camera, lines, light)
        image.reshape(-1, 3)[part.index] = np.minimum(colour, 255).astype(np.uint8)
        depth.reshape(-1)[part.index] = distance
    draw_car(image, depth, overlay, camera)
    return np.ascontiguousarray(image.transpose(1, 0, 2))


def _halved(image: Array) -> Array:
    """Mean of each square of four pixels."""
    total = image[0::2].astype(np.uint16) + image[1::2]
    return ((total[:, 0::2] + total[:, 1::2] + 2) // 4).astype(np.uint8)


def _paint(array: Array, grid: Grid, sight: Sight, height: int) -> _Pixels:
    """Paint all faces from back to front; what is left are the faces in view."""
    width = sight.cell.shape[1]
    place, level, side = _faces(array, grid, sight)
    rows, next_place, plane = sight.rows.reshape(-1), np.int32(width), np.int32(sight.rows[0].size)
    # A top reaches from the far border to the near one at its upper edge, a side from upper to lower edge at the near border.
    upper = (level + 1) * plane + place
    first = rows[upper + side * next_place]
    last = rows[upper - side * plane + next_place]
    keep = np.flatnonzero(last > first)
    place, level, side, first, last = place[keep], level[keep], side[keep], first[keep], last[keep]
    segment, column = np.divmod(place, np.int32(width))
    count = (last - first).astype(np.int32)
    shift = column * np.int32(height) + first - (np.cumsum(count, dtype=np.int32) - count)
    owner = np.repeat(np.arange(len(count), dtype=np.int32), count)
    face = np.full(width * height, -1, dtype=np.int32)
    face[np.repeat(shift, count) + np.arange(len(owner), dtype=np.int32)] = owner  # the last one written stays
    index = np.flatnonzero(face >= 0)
    shown = face[index]
    return _Pixels(index, segment[shown], column[shown], level[shown], side[shown])


def _faces(array: Array, grid: Grid, sight: Sight) -> tuple[Array, Array, Array]:
    """Faces that no neighbour covers, far and low ones first: place in `sight.cell`, level, whether a side."""
    nz, width = grid.shape[2], sight.cell.shape[1]
    word = np.dtype(np.uint32 if nz <= 16 else np.uint64)
    one, two = np.ones((), word), np.full((), 2, word)
    weight = one << (two * np.arange(nz, dtype=word))  # two bits a level: its top and its side
    bits = np.append((array != grid.free).reshape(-1, nz) @ weight, 0).astype(word)[sight.cell]
    nearer = np.concatenate((bits[1:], np.zeros((1, width), dtype=word)))
    faces = (bits & ~(bits >> two)) | ((bits & ~nearer) << one)
    flag = np.flatnonzero(np.unpackbits(faces.reshape(-1).view(np.uint8), bitorder="little").view(bool)).astype(np.int32)
    place, bit = np.divmod(flag, np.int32(8 * word.itemsize))
    return place, bit >> 1, (bit & 1).astype(bool)


def _shade(
    pixels: _Pixels, array: Array, grid: Grid, sight: Sight, height: int, camera: Camera, lines: list[_Line], light: Array
) -> tuple[Array, Array]:
    """Colour, float32 (P, 3), and depth, float32 (P,), of the pixels."""
    column, level, side, width = pixels.column, pixels.level, pixels.side, sight.cell.shape[1]
    place, voxel = pixels.segment * np.int32(width) + column, np.float32(grid.voxel)
    row = (pixels.index - column * height).astype(np.float32) + np.float32(0.5 - camera.horizon * height)
    below = np.float32(camera.height - grid.origin[2]) - voxel * (level + 1).astype(np.float32)
    depth = np.where(
        side, sight.depth.reshape(-1).take(place + np.int32(width)), np.float32(camera.focal * width) * below / row
    )
    i = (depth - np.float32(camera.back + grid.origin[0])) / voxel - np.float32(0.5)
    j = (depth * sight.slope[column] - np.float32(grid.origin[1])) / voxel - np.float32(0.5)
    sideways = side & sight.sideways.reshape(-1).take(place)
    # Light is taken from the air in front of the face: half a voxel out.
    i_air = i - np.float32(0.5) * (side & ~sideways)
    j_air = j - np.float32(0.5) * (sideways * np.sign(sight.slope)[column])
    brightness = sample_level(light, i_air, j_air, level + ~side) * FACE_BRIGHTNESS.take(side.astype(np.int8) + sideways)
    kind = array.reshape(-1).take(sight.cell.reshape(-1).take(place) * np.int32(grid.shape[2]) + level)
    colour = _palette(grid).reshape(-1, 3).take(level * np.int32(grid.num_classes) + kind, axis=0)
    colour *= brightness[:, None]
    if lines:
        ground = np.flatnonzero(~side & (level == grid.ground_index))
        _paint_lines(colour, ground, (i[ground] + 0.5) * TEXELS - 0.5, (j[ground] + 0.5) * TEXELS - 0.5, lines)
    _fade(colour, depth, i, j, grid)
    return colour, depth


def _palette(grid: Grid) -> Array:
    """Colour of each class at each level, float32 (Z, C, 3)."""
    colours = shaded_colours(grid)
    palette = colours[None] * height_tint(np.arange(grid.shape[2]), grid)[:, None, None]
    palette[:, list(FLAT)] = colours[list(FLAT)]
    return palette


def _textures(grid: Grid, overlay: Overlay) -> list[_Line]:
    """Route and path as textures on the ground."""
    shape = (grid.shape[0] * TEXELS, grid.shape[1] * TEXELS)
    lines = []
    for points, width, strength, colour in ((overlay.route, 0.7, 0.6, ROUTE_COLOUR), (overlay.path, 0.5, 0.85, PATH_COLOUR)):
        if points is not None:
            spot = (np.asarray(points, dtype=np.float64)[:, 1::-1] - grid.origin[1::-1]) / grid.voxel * TEXELS
            coverage = polyline(shape, spot, width / grid.voxel * TEXELS)
            lines.append(_Line(np.float32(strength) * coverage[..., None], colour))
    return lines


def _paint_lines(colour: Array, ground: Array, i: Array, j: Array, lines: list[_Line]) -> None:
    """Lay the lines over the pixels `ground`, which show the ground at fractional texels i, j."""
    for line in lines:
        amount = sample_level(line.texture, i, j, np.zeros(1, np.int32))
        lit = np.flatnonzero(amount > 0.003)
        place = ground[lit]
        colour[place] += amount[lit, None] * (np.asarray(line.colour, dtype=np.float32) - colour[place])


def _fade(colour: Array, depth: Array, i: Array, j: Array, grid: Grid) -> None:
    """Let what is far, or close to the rim of the grid, sink into the haze."""
    nx, ny, _ = grid.shape
    rim = np.minimum(np.minimum(nx - 0.5 - i, i + 0.5), np.minimum(ny - 0.5 - j, j + 0.5)) * np.float32(grid.voxel / 7.0)
    clear = np.clip(rim, 0, 1) * np.exp(-np.maximum(depth - 18, 0) / np.float32(75))
    haze = np.asarray(HAZE, dtype=np.float32)
    colour -= haze
    colour *= clear[:, None]
    colour += haze


def _background(width: int, height: int, camera: Camera) -> Array:
    """Sky above the horizon and haze below it, uint8 (W, H, 3)."""
    row = (np.arange(height, dtype=np.float32) + 0.5) / max(camera.horizon * height, 1)
    low, high = np.asarray(HAZE, np.float32), np.asarray(SKY, np.float32)
    column = np.where(row[:, None] < 1, high + (low - high) * row[:, None] ** 2, low)
    return np.broadcast_to(column, (width, height, 3)).astype(np.uint8, order="C")
