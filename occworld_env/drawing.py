"""The picture of one frame: bird's eye view beside the chase camera, above a band of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from occworld_env.drawing_bev import Overlay, as_array, draw_bev, lighting
from occworld_env.drawing_voxels import Camera, draw_voxels
from occworld_env.window import draw_text
from scenes.grid import Grid

__all__ = ["Camera", "Overlay", "Readout", "draw_bev", "draw_frame", "draw_voxels"]

Array = np.ndarray
VIEW = 480  # edge of the bird's eye view and height of the 3D view, pixels
VOXEL_WIDTH = 720
BAND = 96
FRAME_SIZE = (VIEW + VOXEL_WIDTH, VIEW + BAND)  # width and height, multiples of 16 as video codecs like them

_PAPER, _QUIET, _TEXT = (16, 19, 25), (138, 148, 164), (232, 236, 242)
_GOOD, _BAD = (86, 214, 140), (255, 106, 96)


@dataclass(frozen=True)
class Readout:
    """What the text band says.

    Attributes:
        seconds: time since the start of the episode.
        step: environment steps since then.
        speed: metres per second.
        action: the last action in words and units, for example "+1.2 m/s²  -3°".
        reward: of the last step.
        total: sum of rewards of this episode.
        terms: the reward's terms of the last step, already weighted.
        note: an event to be shown large, for example "collision"; empty for none.
        caption: where this drive comes from, for example the name of the scene.
    """

    seconds: float = 0.0
    step: int = 0
    speed: float = 0.0
    action: str = ""
    reward: float = 0.0
    total: float = 0.0
    terms: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    caption: str = ""


def draw_frame(
    occupancy: Array | Tensor,
    grid: Grid,
    overlay: Overlay | None = None,
    readout: Readout | None = None,
    smooth: bool = False,
) -> Array:
    """One picture, uint8 (576, 1200, 3), of occupancy uint8 (X, Y, Z): see `draw_bev`, `draw_voxels` and `Readout`."""
    array, overlay, readout = as_array(occupancy, grid), overlay or Overlay(), readout or Readout()
    light = lighting(array, grid, overlay)
    image = np.empty((FRAME_SIZE[1], FRAME_SIZE[0], 3), dtype=np.uint8)
    image[:VIEW, :VIEW] = draw_bev(array, grid, VIEW, overlay, light)
    image[:VIEW, VIEW:] = draw_voxels(array, grid, (VOXEL_WIDTH, VIEW), overlay, light=light, smooth=smooth)
    image[VIEW:] = _PAPER
    image[:VIEW, VIEW - 1 : VIEW + 1] = _PAPER
    _write_band(image[VIEW:], readout)
    if readout.caption:
        draw_text(image, readout.caption, (VIEW + 14, 12), 22, _QUIET)
    if readout.note:
        draw_text(image, readout.note.upper(), (VIEW + 14, 36), 44, _BAD)
    return image


def _write_band(band: Array, readout: Readout) -> None:
    fields = (
        ("TIME", f"{readout.seconds:.1f} s", 130),
        ("STEP", f"{readout.step}", 90),
        ("SPEED", f"{readout.speed * 3.6:.0f} km/h", 140),
        ("ACTION", readout.action or "-", 300),
        ("REWARD", f"{readout.reward:+.2f}", 130),
        ("RETURN", f"{readout.total:+.1f}", 140),
    )
    left = 18
    for name, value, width in fields:
        draw_text(band, name, (left, 10), 18, _QUIET)
        signed = name in ("REWARD", "RETURN")
        tone = (_GOOD if not value.startswith("-") else _BAD) if signed else _TEXT
        draw_text(band, value, (left, 26), 34, tone)
        left += width
    left = 18
    for name, amount in readout.terms.items():
        end = draw_text(band, name.replace("_", " "), (left, 66), 20, _QUIET)
        tone = _QUIET if abs(amount) < 0.005 else _GOOD if amount > 0 else _BAD
        left = draw_text(band, f"{amount:+.2f}", (end + 6, 66), 20, tone) + 22
