"""Road users in voxels: connected columns of one kind, and how fast they go, by where the same shape was a moment before.

Metrics that are defined on tracked boxes need an agent's place and velocity. Voxels give the place to half a voxel, and the
velocity to a voxel in the time between the two frames compared, 0.8 m/s for voxels of 0.8 m and a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from agents.evaluation.episode import Episode
from agents.evaluation.geometry import cell_centres, columns_at, to_ego, to_world
from occworld_env.footprint import STATIC, TOP_SPEED, kind_table
from scenes.grid import Grid

Array = np.ndarray
_BASELINES = (1.0, 0.5, 0.25)  # seconds between the frames compared, the longest first
_MATCHED = 0.6  # least share of an agent's columns that must be found again
_SAMPLED = 24  # columns of an agent that are compared
_TOUCHING = np.ones((3, 3), dtype=bool)  # by a side or a corner


@dataclass(frozen=True)
class VoxelAgent:
    """One road user in one frame.

    Attributes:
        kind: as in `occworld_env.footprint`: VEHICLE, PEDESTRIAN or CYCLE.
        cells: world centres (N, 2) of its columns, metres.
        velocity: m/s in the world (2,).
    """

    kind: int
    cells: Array
    velocity: Array


def kinds(obstacle: Array, grid: Grid) -> Array:
    """Kind of obstacle, 0 for none, of class ids (...)."""
    return kind_table(grid).numpy()[obstacle]


def agents_at(episode: Episode, frame: int, reach: float = np.inf, bearing: float = np.inf) -> list[VoxelAgent]:
    """The road users of a frame with a column within `reach` metres of the ego's rear axle and their middle below `bearing`.

    bearing: radians from straight ahead, to either side.
    """
    grid, pose = episode.grid, episode.frame_poses[frame]
    kind = kinds(episode.obstacle[frame], grid)
    found = []
    for which in TOP_SPEED:
        label, count = ndimage.label(kind == which, structure=_TOUCHING)
        for number in range(1, count + 1):
            local = cell_centres(np.argwhere(label == number), grid)
            x, y = local.mean(axis=0)
            if np.hypot(local[:, 0], local[:, 1]).min() <= reach and abs(np.arctan2(y, x)) < bearing:
                cells = to_world(pose, local)
                found.append(VoxelAgent(which, cells, _velocity(episode, frame, which, cells)))
    return found


def _velocity(episode: Episode, frame: int, kind: int, cells: Array) -> Array:
    """Velocity (2,) of the agent in `cells` (N, 2), zero where it is in no frame near this one."""
    sample = cells[:: max(len(cells) // _SAMPLED, 1)]
    for seconds in _BASELINES:
        gap = round(seconds / episode.frame_dt)
        apart = gap * episode.frame_dt
        for other in (frame - gap, frame + gap):
            if gap and 0 <= other < len(episode.obstacle):
                shift, share = _shift(episode, other, kind, sample, TOP_SPEED[kind] * apart)
                if share >= _MATCHED:
                    return shift * (1.0 if other < frame else -1.0) / apart
    return np.zeros(2)


def _shift(episode: Episode, frame: int, kind: int, sample: Array, farthest: float) -> tuple[Array, float]:
    """How far (2,) points (N, 2) have come since another frame, and the share of them that it shows where they came from.

    Of equally good shifts the shortest counts: in a row of parked cars each stays what it is.
    """
    grid = episode.grid
    steps = np.arange(-int(farthest / grid.voxel), int(farthest / grid.voxel) + 1) * grid.voxel
    shifts = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    length = np.linalg.norm(shifts, axis=-1)
    shifts = shifts[np.argsort(length, kind="stable")][: int((length <= farthest).sum())]
    column, inside = columns_at(to_ego(episode.frame_poses[frame], sample[None] - shifts[:, None]), grid)
    there = kinds(episode.obstacle[frame], grid) == kind
    share = (there[column[..., 0], column[..., 1]] & inside).mean(axis=1)
    best = int(share.argmax())
    return shifts[best], float(share[best])


def solid_cells(episode: Episode, frame: int, class_id: int) -> Array:
    """World centres (N, 2) of the columns of a class in a frame."""
    local = cell_centres(np.argwhere(episode.obstacle[frame] == class_id), episode.grid)
    return to_world(episode.frame_poses[frame], local)


def is_static(class_id: int, grid: Grid) -> bool:
    """Whether a class stands still for good."""
    return int(kind_table(grid)[class_id]) == STATIC
