"""nuPlan's `time_to_collision_within_bound`, with patches of voxels in place of boxes."""

from __future__ import annotations

import math

import numpy as np

from agents.evaluation.collisions import AHEAD, BEHIND, Collision, in_lane
from agents.evaluation.episode import Episode
from agents.evaluation.geometry import in_box, to_ego
from agents.evaluation.voxel_agents import VoxelAgent, agents_at

Array = np.ndarray
LEAST = 0.95  # seconds
HORIZON, STEP = 3.0, 0.1  # seconds
STOPPED = 5e-3  # m/s below which an ego has no time to collision
_FASTEST = 20.0  # m/s, of another road user


def least_time_to_collision(episode: Episode, collision: Collision | None) -> float:
    """The least time to collision over an episode's frames, seconds; infinity where none is below HORIZON.

    0 where the ego had a collision at its own fault. The frame at which another collision happened counts no more.
    """
    if collision is not None and collision.at_fault:
        return 0.0
    # a collision at the very time of a frame is in that frame: then it is the first that does not count
    last = len(episode.frame_poses) if collision is None else math.ceil(collision.seconds / episode.frame_dt - 1e-9)
    every = round(episode.frame_dt / episode.dt)
    times = [_at_frame(episode, frame, float(episode.speed[frame * every])) for frame in range(last)]
    return min(times, default=np.inf)


def _at_frame(episode: Episode, frame: int, speed: float) -> float:
    """Agents ahead count, and where the ego is not within one lane, all but those behind."""
    if speed <= STOPPED:
        return np.inf
    pose = episode.frame_poses[frame]
    bearing = AHEAD if in_lane(pose, episode.box, episode.route) else BEHIND
    return time_to_collision(pose, speed, episode.box, agents_at(episode, frame, HORIZON * (speed + _FASTEST), bearing))


def time_to_collision(pose: Array, speed: float, box: Array, agents: list[VoxelAgent]) -> float:
    """Seconds until a car at world pose (3,) meets an agent, all at constant velocity; infinity beyond HORIZON.

    box (3,): see `geometry.in_box`.
    """
    forward = speed * np.array([np.cos(pose[2]), np.sin(pose[2])])
    moments = np.arange(STEP, HORIZON, STEP)
    found = np.inf
    for agent in agents:
        closing = (agent.velocity - forward) * moments[:, None]
        met = in_box(to_ego(pose, agent.cells[None] + closing[:, None]), box).any(axis=1)
        if met.any():
            found = min(found, float(moments[met.argmax()]))
    return found
