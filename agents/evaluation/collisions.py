"""Whose fault a collision is, by nuPlan's rules read on voxels, and what it costs.

nuPlan's `no_ego_at_fault_collisions`: at fault are collisions with what stands and those of the front bumper with what moves,
and those of the sides where the ego is not within one lane. Here an agent is a patch of voxels, and lanes are not known: the
ego counts as within its lane while its corners keep to half a lane's width of its route.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from agents.evaluation.episode import Episode
from agents.evaluation.geometry import corners, distance_to_line, in_box, to_ego, to_world
from agents.evaluation.voxel_agents import VoxelAgent, agents_at, is_static, solid_cells
from occworld_env.footprint import NO_CLASS
from scenes.grid import CLASSES

Array = np.ndarray
EGO_STOPPED = 0.05  # m/s
AHEAD, BEHIND = np.radians(30.0), np.radians(150.0)  # bearings from the rear axle
HALF_LANE = 1.75  # metres
OBJECTS = ("barrier", "traffic_cone", "others")  # what nuPlan calls objects: one of them costs half


class CollisionType(StrEnum):
    """nuPlan's types of collisions."""

    STOPPED_EGO = "stopped ego"
    STOPPED_TRACK = "stopped track"
    ACTIVE_FRONT = "active front"
    ACTIVE_REAR = "active rear"
    ACTIVE_LATERAL = "active lateral"


@dataclass(frozen=True)
class Collision:
    """What the ego ran into, or what ran into it.

    Attributes:
        seconds: since the start of the episode.
        hit: name of the class. kind: how they met. at_fault: whether the ego is to blame.
        ego_speed, other_speed: m/s.
    """

    seconds: float
    hit: str
    kind: CollisionType
    at_fault: bool
    ego_speed: float
    other_speed: float


def collision_of(episode: Episode) -> Collision | None:
    """The collision that ended an episode, None where nothing was hit."""
    steps = np.flatnonzero(episode.collision_class != NO_CLASS)
    if not len(steps):
        return None
    step = int(steps[0])
    hit = int(episode.collision_class[step])
    index, frame = _first_contact(episode, step, hit)
    pose, speed = episode.poses[index], float(episode.speed[index])
    cells, velocity = _other(episode, frame, hit, pose)
    kind = collision_type(pose, speed, episode.box, cells, float(np.linalg.norm(velocity)), episode.grid.voxel, episode.dt)
    at_fault = kind in (CollisionType.STOPPED_TRACK, CollisionType.ACTIVE_FRONT)
    if kind is CollisionType.ACTIVE_LATERAL:
        at_fault = not in_lane(pose, episode.box, episode.route)
    return Collision(index * episode.dt, CLASSES[hit], kind, at_fault, speed, float(np.linalg.norm(velocity)))


def collision_type(
    pose: Array, speed: float, box: Array, cells: Array, other_speed: float, voxel: float, dt: float
) -> CollisionType:
    """How a car at world pose (3,) met what is at world points cells (N, 2), columns `voxel` metres wide.

    box (3,): see `geometry.in_box`. What moves less than a voxel a second stands: voxels tell no slower speed from standing.
    The front bumper met what touches its line, and what lies ahead between the sides, or behind its line by no more than both
    can have driven in the dt seconds since the state before.
    """
    if speed <= EGO_STOPPED:
        return CollisionType.STOPPED_EGO
    if other_speed < voxel:
        return CollisionType.STOPPED_TRACK
    local = to_ego(pose, cells)
    middle = local.mean(axis=0)
    if abs(np.arctan2(middle[1], middle[0])) > BEHIND:
        return CollisionType.ACTIVE_REAR
    front, half = box[2] + box[0] / 2, box[1] / 2
    behind, beside = front - local[:, 0], np.abs(local[:, 1])
    at_line = (np.abs(behind) <= voxel / 2) & (beside <= half + voxel / 2)
    # a voxel: half a one for where it is, half a one for where it was
    ahead = (behind <= voxel + (speed + other_speed) * dt) & (beside <= half - voxel / 2)
    bumper = at_line | ahead
    return CollisionType.ACTIVE_FRONT if bumper.any() else CollisionType.ACTIVE_LATERAL


def in_lane(pose: Array, box: Array, route: Array) -> bool:
    """Whether all corners of a car at world pose (3,) are within half a lane's width of its route (M, 2)."""
    return bool((distance_to_line(to_world(pose, corners(box)), route) <= HALF_LANE).all())


def _first_contact(episode: Episode, step: int, hit: int) -> tuple[int, int]:
    """Integration step at which the ego's box first covers a column of the class hit, and the last frame before it.

    A column may be of the frame before the moment or of the one after it. Where neither covers one, for an agent that
    vanished for example, it is the end of the environment step.
    """
    per_frame = round(episode.frame_dt / episode.dt)
    per_step = (len(episode.poses) - 1) // len(episode.collision_class)
    for index in range(step * per_step + 1, (step + 1) * per_step + 1):
        before = (index - 1) // per_frame
        for frame in (before, before + 1):
            cells = solid_cells(episode, frame, hit)
            if len(cells) and in_box(to_ego(episode.poses[index], cells), episode.box).any():
                return index, before
    return (step + 1) * per_step, ((step + 1) * per_step - 1) // per_frame


def _other(episode: Episode, frame: int, hit: int, pose: Array) -> tuple[Array, Array]:
    """World columns (N, 2) and velocity (2,) of the thing of class `hit` nearest to the ego at pose (3,)."""
    centre = to_world(pose, np.array([episode.box[2], 0.0]))
    for at in (frame, frame + 1):
        cells = solid_cells(episode, at, hit)
        if not len(cells):
            continue
        nearest = cells[np.linalg.norm(cells - centre, axis=-1).argmin()]
        if is_static(hit, episode.grid):
            return cells[np.linalg.norm(cells - nearest, axis=-1) < 2.0], np.zeros(2)
        agent = _holding(agents_at(episode, at), nearest)
        return agent.cells, agent.velocity
    return centre[None], np.zeros(2)


def _holding(agents: list[VoxelAgent], point: Array) -> VoxelAgent:
    """The agent one of whose columns is at a point."""
    return min(agents, key=lambda agent: float(np.linalg.norm(agent.cells - point, axis=-1).min()))


def no_at_fault_collision(collision: Collision | None) -> float:
    """nuPlan's term: 1 without a collision at fault, 0.5 after one with an object, 0 after one with a road user.

    Walls and trees, which nuPlan does not track, cost what a road user costs.
    """
    if collision is None or not collision.at_fault:
        return 1.0
    return 0.5 if collision.hit in OBJECTS else 0.0
