"""Where everything in a bird's eye image may be in the next seconds: what stands stays, what moves goes on, or brakes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from agents.planner import Array
from occworld_env.observation import BEV_CHANNELS
from scenes.grid import Grid

TOP_SPEED = 20.0  # m/s that something is thought to move at the most
BRAKING = 3.0  # m/s^2 by which something that moves may brake
_JITTER = 2.0  # m/s below which something counts as standing: its outermost cells come and go, and with them its centre
_TOUCHING = np.ones((3, 3), dtype=bool)  # cells that touch by a side or a corner are one thing


def velocities(agents: Array, before: Array, grid: Grid, frame_dt: float) -> tuple[Array, Array]:
    """Number of the thing in each cell, int (X, Y), 0 for none, and velocity of each thing in m/s (A + 1, 2).

    agents, before: cells (X, Y) that road users are in, now and `frame_dt` seconds ago, both in the ego frame of now. A thing
    came from the nearest centre of a thing before, if it could have, and otherwise stands.
    """
    things, count = ndimage.label(agents, _TOUCHING)
    earlier, known = ndimage.label(before, _TOUCHING)
    velocity = np.zeros((count + 1, 2))
    if not count or not known:
        return things, velocity
    centres = np.array(ndimage.center_of_mass(agents > 0, things, range(1, count + 1))) * grid.voxel
    sources = np.array(ndimage.center_of_mass(before > 0, earlier, range(1, known + 1))) * grid.voxel
    moved = centres[:, None] - sources[None]
    distance = np.linalg.norm(moved, axis=-1)
    nearest = distance.argmin(axis=1)
    each = np.arange(count)
    possible = (distance[each, nearest] <= TOP_SPEED * frame_dt) & (distance[each, nearest] > _JITTER * frame_dt)
    velocity[1:][possible] = moved[each, nearest][possible] / frame_dt
    return things, velocity


def clearance(image: Array, grid: Grid, frame_dt: float, times: Array) -> Array:
    """Metres from each cell to the nearest one that may hold an obstacle at each of times (T,), seconds from now: (T, X, Y).

    What moves is expected in two places: where its velocity leads, and where it would be if it braked.
    image: uint8 (7, X, Y), see `occworld_env.observation.bev`; all in the ego frame of now.
    """
    layer = dict(zip(BEV_CHANNELS, image, strict=True))
    things, velocity = velocities(layer["vehicle"] | layer["vulnerable"], layer["agents_before"], grid, frame_dt)
    cells, size = np.argwhere(things), np.array(things.shape)
    speed = velocity[things[tuple(cells.T)]]
    stop = np.maximum(np.linalg.norm(speed, axis=-1, keepdims=True) / BRAKING, 1e-9)  # seconds after which it would stand
    result = np.full((len(times), *things.shape), float(np.hypot(*size)) * grid.voxel)
    for index, time in enumerate(times):
        free = layer["static_obstacle"] == 0
        braking = np.minimum(time, stop)
        for driven in (time, braking * (1 - braking / (2 * stop))):  # seconds at the speed of now that lead as far
            there = np.rint(cells + speed * driven / grid.voxel).astype(int)
            there = there[((there >= 0) & (there < size)).all(axis=1)]
            free[tuple(there.T)] = False
        if not free.all():
            result[index] = ndimage.distance_transform_edt(free) * grid.voxel
    return result
