"""Ego trajectories to generate clips along: named shapes, files of poses, and what clips drove."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenes.motion import accumulate, interpolate, motion_from_poses, relative

_SUBSTEP = 0.05  # seconds of integration, at most
_STANDS = 1e-3  # metres between two poses below which they say nothing of a heading


@dataclass(frozen=True)
class Shape:
    """How the ego drives: constant acceleration up to a top speed, and at most one turn.

    Attributes:
        speed: m/s at the start.
        acceleration: m/s^2 until `top` is reached.
        top: m/s.
        turn: radians turned in all, positive to the left.
        turn_rate: rad/s while it turns.
        turn_after: seconds after which it turns.
    """

    speed: float
    acceleration: float = 0.0
    top: float = math.inf
    turn: float = 0.0
    turn_rate: float = math.radians(15)
    turn_after: float = 3.0


SHAPES = {
    "straight": Shape(8.0),
    "right": Shape(6.0, turn=-math.pi / 2),
    "left": Shape(6.0, turn=math.pi / 2),
    "still": Shape(0.0),
    "accelerate": Shape(0.0, acceleration=1.0, top=12.0),
}


def shape_motion(name: str, frames: int, dt: float) -> Tensor:
    """Motion float32 (T, 3) of a shape by name, its first row zero; raises ValueError with the names there are."""
    if name not in SHAPES:
        raise ValueError(f"trajectory: expected one of {', '.join(SHAPES)} or a file, found {name!r}")
    shape, parts = SHAPES[name], max(math.ceil(dt / _SUBSTEP - 1e-9), 1)
    step = dt / parts
    time = torch.arange(frames * parts + 1, dtype=torch.float64) * step
    turning = (time - shape.turn_after).clamp(min=0) * shape.turn_rate
    yaw = math.copysign(1.0, shape.turn) * turning.clamp(max=abs(shape.turn))
    speed = (shape.speed + shape.acceleration * (time[:-1] + step / 2)).clamp(max=shape.top)
    turned = yaw.diff()
    along = torch.stack((speed * step * torch.cos(turned / 2), speed * step * torch.sin(turned / 2), turned), dim=-1)
    poses = torch.cat((torch.zeros(1, 3, dtype=torch.float64), accumulate(along)))
    return motion_from_poses(poses[: frames * parts : parts])


def file_motion(path: Path, frames: int, dt: float, file_dt: float | None = None) -> Tensor:
    """Motion float32 (T, 3) along the poses of a file, its first row zero.

    Poses are x ahead and y to the left in metres, in the axes of any fixed frame, and the yaw in radians, counter-clockwise;
    without a yaw the ego looks along its path. Formats: `.json`, {"dt": seconds, "poses": [[x, y, yaw], ...]}; `.csv` with a
    header of x, y and maybe yaw and t, seconds; `.npy`, an array (N, 2) or (N, 3). file_dt: seconds between poses of a file
    that does not say them, by default `dt`. Raises ValueError that names the file and what is wrong in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"trajectory: expected one of {', '.join(SHAPES)} or a file, found no file {path}")
    readers = {".json": _read_json, ".csv": _read_csv, ".npy": _read_npy}
    if path.suffix not in readers:
        raise ValueError(f"{path}: expected a trajectory as {', '.join(readers)}, found {path.suffix!r}")
    values, times = readers[path.suffix](path, file_dt or dt)
    if values.ndim != 2 or values.shape[1] not in (2, 3) or len(values) < 2:
        raise ValueError(f"{path}: expected two or more poses x, y or x, y, yaw, found an array {values.shape}")
    if not np.isfinite(values).all() or not np.isfinite(times).all():
        raise ValueError(f"{path}: found NaN or infinity")
    if (np.diff(times) <= 0).any():
        raise ValueError(f"{path}: expected seconds that grow from pose to pose")
    poses = torch.from_numpy(values)
    if values.shape[1] == 2:
        poses = torch.cat((poses, _headings(poses).unsqueeze(1)), dim=1)
    return _along(poses, times, frames, dt, str(path))


def clip_motion(motion: Tensor, clip_dt: float, frames: int, dt: float, source: str) -> Tensor:
    """Motion float32 (T, 3) with frames dt seconds apart along that of a clip, (N, 3) with frames clip_dt seconds apart.

    The first rows of both are zero. Raises ValueError that names the source where the clip ends too early.
    """
    return _along(accumulate(motion), clip_dt * np.arange(len(motion)), frames, dt, source)


def _along(poses: Tensor, times: np.ndarray, frames: int, dt: float, source: str) -> Tensor:
    """Motion (T, 3) along poses (N, 3) of so many seconds, from the first on."""
    last = (frames - 1) * dt
    if times[-1] - times[0] < last - 1e-6:
        raise ValueError(f"{source}: goes on for {times[-1] - times[0]:g} s, and a clip of {frames} frames needs {last:g} s")
    wanted = times[0] + dt * np.arange(frames)
    place = torch.from_numpy(np.interp(wanted, times, np.arange(len(times), dtype=np.float64)))
    return motion_from_poses(interpolate(relative(poses[:1], poses), place))


def _headings(xy: Tensor) -> Tensor:
    """Yaw (N,) along a path (N, 2): towards the next pose, and as before where it stands."""
    step = xy.diff(dim=0)
    yaw = torch.atan2(step[:, 1], step[:, 0])
    moving = (step.norm(dim=-1) > _STANDS).nonzero().flatten().tolist()
    if not moving:
        return torch.zeros(len(xy), dtype=xy.dtype)
    latest = [max([place for place in moving if place <= number], default=moving[0]) for number in range(len(xy))]
    return yaw[latest]


_Table = tuple[np.ndarray, np.ndarray]  # poses and their seconds


def _evenly(values: np.ndarray, dt: float) -> _Table:
    return values, dt * np.arange(len(values))


def _read_json(path: Path, dt: float) -> _Table:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        values, seconds = np.asarray(content["poses"], dtype=np.float64), float(content["dt"])
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f'{path}: expected {{"dt": seconds, "poses": [[x, y, yaw], ...]}}: {error!r}') from None
    if not seconds > 0:
        raise ValueError(f"{path}: dt: expected positive seconds, found {seconds}")
    return _evenly(values, seconds)


def _read_csv(path: Path, dt: float) -> _Table:
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, skipinitialspace=True))
    names = list(rows[0]) if rows else []
    if not {"x", "y"} <= set(names) or set(names) - {"x", "y", "yaw", "t"}:
        raise ValueError(f"{path}: expected a header of x, y and maybe yaw and t, and rows under it, found {names}")
    try:
        columns = {name: np.array([float(row[name]) for row in rows]) for name in names}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected a number in each column: {error}") from None
    values = np.stack([columns[name] for name in ("x", "y", "yaw") if name in columns], axis=1)
    return (values, columns["t"]) if "t" in columns else _evenly(values, dt)


def _read_npy(path: Path, dt: float) -> _Table:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not an array of numbers: {error}") from None
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected numbers, found {values.dtype}")
    return _evenly(values.astype(np.float64), dt)
