"""Where everything in a bird's eye image will be in the next seconds: what stands stays, what moves goes on as it moved."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from agents.planner import Array
from occworld_env.observation import BEV_CHANNELS
from scenes.grid import Grid

TOP_SPEED = 20.0  # m/s that something is thought to move at the most
_JITTER = 1.0  # m/s below which something counts as standing: its cells come and go while it does
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
    """Metres from each cell to the nearest one with an obstacle at each of times (T,), seconds from now: (T, X, Y).

    image: uint8 (7, X, Y), see `occworld_env.observation.bev`; all in the ego frame of now.
    """
    layer = dict(zip(BEV_CHANNELS, image, strict=True))
    things, velocity = velocities(layer["vehicle"] | layer["vulnerable"], layer["agents_before"], grid, frame_dt)
    cells = np.argwhere(things)
    speed = velocity[things[tuple(cells.T)]] / grid.voxel
    size = np.array(things.shape)
    result = np.empty((len(times), *things.shape))
    for index, time in enumerate(times):
        free = layer["static_obstacle"] == 0
        there = np.rint(cells + speed * time).astype(int)
        there = there[((there >= 0) & (there < size)).all(axis=1)]
        free[tuple(there.T)] = False
        far = float(np.hypot(*size)) * grid.voxel
        result[index] = ndimage.distance_transform_edt(free) * grid.voxel if not free.all() else far
    return result
