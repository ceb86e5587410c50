"""From what SUMO showed to boxes: headings that turn smoothly, trailers behind what pulls them. Knows no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scenes.sumo_run import Log
from scenes.sumo_traffic import HITCH, KINDS

_TRAILER_SIZE = {"towing": (4.0, 1.9, 1.6), "semi": (10.5, 2.5, 3.5)}
_FASTEST = 30.0  # m/s, and
_HARDEST = 20.0  # m/s^2: what moves faster or brakes harder has been moved by the simulator, which ends the track


@dataclass
class Body:
    """One box over time: name, Occ3D class, size (3,), rear axle, first frame, centre poses (N, 3)."""

    name: str
    label: str
    size: tuple[float, float, float]
    rear_axle: float
    first: int
    poses: np.ndarray


def moving_bodies(log: Log, dt: float) -> Iterator[Body]:
    """Boxes of all that moved in SUMO's log."""
    for name, (first, rows) in log.frames.items():
        yield from bodies_of(name, first, rows, dt)


def bodies_of(name: str, first: int, rows: np.ndarray, dt: float, since: int = 0) -> Iterator[Body]:
    """Boxes of a road user that SUMO showed at rows (N, 3) from frame `first` on; what pulls a trailer gives two.

    dt: seconds between rows. since: number of the first row that is asked for. Nothing where it has left before, or jumped.
    """
    kind = KINDS[name.split(".")[0]]
    size = (kind.length, kind.width, kind.height)
    rows = rows[: _unbroken(rows, dt)]
    if len(rows) <= since:
        return
    if kind.name == "pedestrian":
        yield Body(name, kind.label, size, 0.0, first + since, _walker_poses(rows)[since:])
        return
    trail = _Trail(rows, since)
    yield Body(name, kind.label, size, kind.rear_axle, first + since, trail.box(0.0, kind.length))
    if kind.trailer:
        trailer = _TRAILER_SIZE[kind.name]
        box = trail.box(kind.length + HITCH, trailer[0])
        yield Body(f"{name}.trailer", "trailer", trailer, 0.0, first + since, box)


def _unbroken(rows: np.ndarray, dt: float) -> int:
    """How many of the rows (N, 3) come before a jump that no road user makes."""
    speed = np.linalg.norm(rows[1:, :2] - rows[:-1, :2], axis=1) / dt
    jump = speed > _FASTEST
    jump[1:] |= np.abs(speed[1:] - speed[:-1]) > _HARDEST * dt
    return int(jump.argmax()) + 1 if jump.any() else len(rows)


def _walker_poses(rows: np.ndarray) -> np.ndarray:
    yaw = ndimage.gaussian_filter1d(np.unwrap(rows[:, 2]), 2.0, mode="nearest")
    xy = ndimage.gaussian_filter1d(rows[:, :2], 1.0, axis=0, mode="nearest")
    return np.column_stack((xy, yaw))


class _Trail:
    """The path of a front bumper: a rigid box spans it like a chord, so headings turn smoothly through junctions."""

    def __init__(self, rows: np.ndarray, since: int) -> None:
        back = rows[0, :2] - 30.0 * np.array([np.cos(rows[0, 2]), np.sin(rows[0, 2])])
        self.xy = np.concatenate((back[None], rows[:, :2]))
        self.along = np.concatenate(([0.0], np.linalg.norm(self.xy[1:] - self.xy[:-1], axis=1).cumsum()))
        self.since = since

    def at(self, behind: float) -> np.ndarray:
        """Points (N, 2) that lie `behind` metres back along the path at each frame from `since` on."""
        want = self.along[1 + self.since :] - behind
        return np.column_stack([np.interp(want, self.along, self.xy[:, axis]) for axis in (0, 1)])

    def box(self, behind: float, length: float) -> np.ndarray:
        """Centre poses (N, 3) of a box of that length whose front follows `behind` metres back."""
        front, rear = self.at(behind), self.at(behind + length)
        yaw = np.arctan2(*(front - rear).T[::-1])
        centre = front - length / 2 * np.column_stack((np.cos(yaw), np.sin(yaw)))
        return np.column_stack((centre, yaw))
