"""Whether the ego keeps to the road, to the direction of its route and to its speed: nuPlan's terms, on what is known here."""

from __future__ import annotations

import numpy as np

from agents.evaluation.episode import Episode
from agents.evaluation.geometry import columns_at, corners, to_ego, to_world
from scenes.grid import DRIVABLE, FREE, Grid

Array = np.ndarray
TOLERANCE = 0.3  # metres that a corner may be beside the drivable area
AGAINST_SOME, AGAINST_MUCH = 2.0, 6.0  # metres driven against the route within a second
OVERSPEED = 2.23  # m/s, mean excess over the limit that costs all of the term


def beside_drivable(ground: Array, points: Array, grid: Grid) -> Array:
    """Metres (N,) from points (N, 2) of the ego frame to the nearest drivable column around them, 0 on one.

    ground: class ids (X, Y). Looks at the column a point is in and its eight neighbours; infinity where none is drivable. A
    point on a column of unknown ground (a hole, or what stands on it hides it) or beyond the grid counts as on drivable ground.
    """
    column, inside = columns_at(points, grid)
    unknown = ~inside | (ground[column[:, 0], column[:, 1]] == FREE)
    offset = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1).reshape(-1, 2)
    around = column[:, None] + offset
    valid = ((around >= 0) & (around < np.asarray(grid.shape[:2]))).all(-1)
    around = np.clip(around, 0, np.asarray(grid.shape[:2]) - 1)
    drivable = (ground[around[..., 0], around[..., 1]] == DRIVABLE) & valid
    centre = np.asarray(grid.origin[:2]) + (around + 0.5) * grid.voxel
    gap = np.maximum(np.abs(points[:, None] - centre) - grid.voxel / 2, 0.0)
    nearest = np.where(drivable, np.hypot(gap[..., 0], gap[..., 1]), np.inf).min(axis=1)
    return np.where(unknown, 0.0, nearest)


def drivable_area_compliance(episode: Episode) -> float:
    """0 where a corner of the ego was more than TOLERANCE beside drivable ground, as the frames show it, else 1.

    nuPlan measures against the map's polygons; here it is voxels, and a corner must be beside in two frames that follow each
    other, the earlier one carried along, so that one wrong column of one generated frame is no exit.
    """
    for frame in range(1, len(episode.frame_poses)):
        world = to_world(episode.frame_poses[frame], corners(episode.box))
        beside = np.ones(len(world), dtype=bool)
        for shown in (frame - 1, frame):
            local = to_ego(episode.frame_poses[shown], world)
            beside &= beside_drivable(episode.ground[shown], local, episode.grid) > TOLERANCE
        if beside.any():
            return 0.0
    return 1.0


def route_direction_compliance(gained: Array, step_seconds: float) -> float:
    """nuPlan's thresholds of driving direction, on the metres lost along the ego's own route within a second.

    1 below AGAINST_SOME, 0 above AGAINST_MUCH, else 0.5. nuPlan asks for the direction of the lane that the ego is in; lanes
    are not known here, so driving in an oncoming lane in the route's direction goes unnoticed.

    gained: metres along the route after each environment step (K + 1,), step_seconds apart.
    """
    window = max(round(1.0 / step_seconds), 1)
    lost = np.maximum(-np.diff(gained), 0.0)
    total = np.concatenate(([0.0], np.cumsum(lost)))
    ends = np.arange(1, len(total))
    worst = float((total[ends] - total[np.maximum(ends - window, 0)]).max(initial=0.0))
    return 1.0 if worst < AGAINST_SOME else 0.5 if worst <= AGAINST_MUCH else 0.0


def speed_limit_compliance(speed: Array, limit: float, dt: float) -> float:
    """nuPlan's term: 1 less the mean excess over the limit in parts of OVERSPEED; here the limit is the task's target speed.

    speed: m/s at the integration steps (S + 1,), dt seconds apart.
    """
    if len(speed) < 2:
        return 1.0
    excess = np.trapezoid(np.maximum(speed - limit, 0.0), dx=dt)
    return max(0.0, 1.0 - float(excess) / (OVERSPEED * dt * (len(speed) - 1)))
