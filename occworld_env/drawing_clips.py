"""Pictures of many clips at once: all at one moment side by side, and moments of each side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from occworld_env.drawing_bev import Array, Overlay, draw_bev, lighting
from occworld_env.drawing_voxels import draw_voxels
from occworld_env.window import draw_text
from scenes.grid import Grid
from scenes.motion import accumulate, relative

_PAPER, _QUIET, _TEXT = (16, 19, 25), (138, 148, 164), (232, 236, 242)
_WIDTH = 1600  # pixels of a sheet, but where its clips would be smaller than the smallest
_TALLEST, _SMALLEST, _GAP = 240, 32, 4
_SMALLEST_TEXT = 14


@dataclass(frozen=True)
class Film:
    """A clip to be drawn.

    Attributes:
        occupancy: class ids uint8 (T, X, Y, Z).
        motion: motion (T, 3) of the ego, whose first row plays no part.
        title: a few words.
    """

    occupancy: Tensor
    motion: Tensor
    title: str

    def overlay(self, frame: int) -> Overlay:
        """The ego, and where it drives from this frame on."""
        poses = accumulate(self.motion)
        ahead = relative(poses[frame], poses[frame:])
        return Overlay(path=ahead.cpu().numpy() if len(ahead) > 1 else None, heading=float(poses[frame, 2]))


def draw_sheet(films: Sequence[Sequence[Film]], frame: int, grid: Grid, dt: float) -> Array:
    """Rows of clips at one moment, uint8 (H, W, 3) of even H and W: of each, the bird's eye view beside the 3D view."""
    columns = max(len(row) for row in films)
    tall = min(_TALLEST, max(_SMALLEST, 4 * int((_WIDTH / columns - _GAP) / 2.5 / 4)))
    width = tall + 3 * tall // 2
    sheet = np.full((len(films) * (tall + _GAP), columns * (width + _GAP), 3), _PAPER, dtype=np.uint8)
    for row, line in enumerate(films):
        for column, film in enumerate(line):
            corner = row * (tall + _GAP), column * (width + _GAP)
            cell = sheet[corner[0] : corner[0] + tall, corner[1] : corner[1] + width]
            overlay, voxels = film.overlay(frame), film.occupancy[frame].cpu().numpy()
            light = lighting(voxels, grid, overlay)
            cell[:, :tall] = draw_bev(voxels, grid, tall, overlay, light)
            cell[:, tall:] = draw_voxels(voxels, grid, (width - tall, tall), overlay, light=light)
            _label(cell[:, tall:], film.title, f"{frame * dt:.1f} s")
    return sheet


def draw_strips(films: Sequence[Film], moments: int, grid: Grid, dt: float, tall: int = 160) -> Array:
    """A row a clip with 3D views at moments spread evenly from its first frame to its last, uint8 (H, W, 3)."""
    width = 3 * tall // 2
    sheet = np.full((len(films) * (tall + _GAP), moments * (width + _GAP), 3), _PAPER, dtype=np.uint8)
    for row, film in enumerate(films):
        for column, frame in enumerate(np.linspace(0, len(film.occupancy) - 1, moments).round().astype(int).tolist()):
            upper, left = row * (tall + _GAP), column * (width + _GAP)
            cell = sheet[upper : upper + tall, left : left + width]
            overlay = film.overlay(frame)
            cell[:] = draw_voxels(film.occupancy[frame], grid, (width, tall), overlay, smooth=True)
            _label(cell, film.title if column == 0 else "", f"{frame * dt:.1f} s")
    return sheet


def arranged(films: Sequence[Film]) -> list[list[Film]]:
    """Clips of one kind in rows, so that a sheet of them is about as wide as high."""
    columns = max(1, round(math.sqrt(len(films) / 2)))
    return [list(films[first : first + columns]) for first in range(0, len(films), columns)]


def _label(cell: Array, title: str, time: str) -> None:
    size = max(cell.shape[0] // 9, _SMALLEST_TEXT)
    end = draw_text(cell, title, (6, 6), size, _TEXT) if title else 0
    draw_text(cell, time, (end + 6, 6), size, _QUIET)
