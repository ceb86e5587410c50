"""A bird's eye film of how an episode ended, as a data URI that a page can hold."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np

from agents.evaluation.episode import Episode
from agents.evaluation.geometry import to_ego
from occworld_env.drawing import Overlay, draw_bev
from occworld_env.footprint import obstacle_layers
from occworld_env.window import draw_text
from scenes.grid import FREE

Array = np.ndarray
SIZE = 384  # pixels
SECONDS = 6.0  # of the episode's end that are shown
HOLD = 4  # pictures for which the last one stays
_QUALITY = "26"  # constant rate factor of x264
_LOUD, _QUIET = (255, 106, 96), (226, 232, 240)


def film(episode: Episode, title: str) -> tuple[str, str]:
    """The last SECONDS of an episode in real time, and its last picture, as data URIs: MP4 and JPEG."""
    count = len(episode.frame_poses)
    first = max(count - 1 - round(SECONDS / episode.frame_dt), 0)
    pictures = [draw(episode, frame, title if frame == count - 1 else "") for frame in range(first, count)]
    return _video(pictures + HOLD * pictures[-1:], 1 / episode.frame_dt), _still(pictures[-1])


def draw(episode: Episode, frame: int, note: str = "") -> Array:
    """One frame from above, uint8 (SIZE, SIZE, 3), with route, the path driven from here on, the ego and a note."""
    pose = episode.frame_poses[frame]
    every = round(episode.frame_dt / episode.dt)
    near = np.linalg.norm(episode.route - pose[:2], axis=-1) < 80.0
    length, width, centre = episode.box
    overlay = Overlay(
        route=to_ego(pose, episode.route[near]) if near.any() else None,
        path=to_ego(pose, episode.poses[frame * every :, :2]),
        length=float(length),
        width=float(width),
        rear=float(length / 2 - centre),
        heading=float(pose[2]),
    )
    image = draw_bev(_voxels(episode, frame), episode.grid, SIZE, overlay)
    image[: 56 if note else 32] //= 3  # so that text can be read on any ground
    draw_text(
        image, f"{frame * episode.frame_dt:5.2f} s   {3.6 * episode.speed[frame * every]:3.0f} km/h", (10, 10), 22, _QUIET
    )
    if note:
        draw_text(image, note, (10, 32), 30, _LOUD)
    return image


def _voxels(episode: Episode, frame: int) -> Array:
    """What the record knows of a frame as occupancy (X, Y, Z): the ground, and what stands at the height of a car."""
    grid = episode.grid
    voxels = np.full(grid.shape, FREE, dtype=np.uint8)
    voxels[..., grid.ground_index] = episode.ground[frame]
    for layer in obstacle_layers(grid):
        stands = episode.obstacle[frame] != FREE
        voxels[..., layer][stands] = episode.obstacle[frame][stands]
    return voxels


def _video(pictures: list[Array], fps: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        options: Any = {"fps": fps, "codec": "libx264", "macro_block_size": 1, "ffmpeg_log_level": "error"}
        writer: Any = imageio.get_writer(path, output_params=["-crf", _QUALITY, "-movflags", "+faststart"], **options)
        with writer:
            for picture in pictures:
                writer.append_data(picture)
        return _uri("video/mp4", path.read_bytes())


def _still(picture: Array) -> str:
    buffer = io.BytesIO()
    imageio.imwrite(buffer, picture, format="jpeg", quality=82)
    return _uri("image/jpeg", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
