"""World models that learn nothing, from the same voxels a learned one sees: what any learned model must beat.

`CopyWorldModel` repeats the last frame, `WarpWorldModel` (in models/warp) carries it along under the ego's motion, and
`ConstantVelocityWorldModel` also moves the agents in it on as they moved before.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.agents import agent_blobs
from models.interface import Chunk, Rollout, WorldModel
from models.warp import warp
from scenes.grid import CLASS_ID, Grid, check_occupancy, is_agent
from scenes.motion import accumulate, relative, transform

# Fastest that an agent of a class is taken to move, m/s: beyond it, two blobs are not the same agent.
_TOP_SPEED = {CLASS_ID["pedestrian"]: 4.0, CLASS_ID["bicycle"]: 12.0}
_TOP_SPEED_VEHICLE = 25.0


class CopyWorldModel(WorldModel):
    """The baseline 'copy the last frame': every new frame looks as the last recorded one did."""

    def __init__(self, grid: Grid, dt: float = 0.25, chunk_frames: int = 2) -> None:
        super().__init__()
        self.grid, self.dt, self.chunk_frames = grid, dt, chunk_frames
        self.history_frames = chunk_frames
        self.token_shape, self.num_codes = None, 0

    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`."""
        check_occupancy(occupancy, self.grid)
        return Rollout({"photograph": occupancy[:, -1].clone(), "seeds": seeds.clone()})

    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """See `WorldModel.advance`."""
        copies = rollout["photograph"].unsqueeze(1).expand(-1, motion.shape[1], -1, -1, -1)
        return Chunk(codes=None, voxels=copies.clone() if decode else None)


class ConstantVelocityWorldModel(WorldModel):
    """The baseline 'warp the last frame and move its agents on at constant velocity'; unseen and left cells are free.

    Agents are connected columns of one class. Each is followed back through the history, up to one second, to the nearest
    blob of its class, like in size, that it can have come from; blobs cut by the edge of the grid, and those that moved less
    than a voxel, stand still.
    """

    def __init__(self, grid: Grid, dt: float = 0.25, chunk_frames: int = 2) -> None:
        super().__init__()
        self.grid, self.dt, self.chunk_frames = grid, dt, chunk_frames
        chunks = -(-(round(1.0 / dt) + 1) // chunk_frames)
        self.history_frames = chunks * chunk_frames
        self.token_shape, self.num_codes = None, 0

    def start(self, occupancy: Tensor, motion: Tensor, seeds: Tensor) -> Rollout:
        """See `WorldModel.start`; two frames of history are enough, and more than one second is not used."""
        check_occupancy(occupancy, self.grid)
        last = occupancy[:, -1]
        agent = is_agent(last)
        followed = [follow_agents(frames, steps, self.grid, self.dt) for frames, steps in zip(occupancy, motion, strict=True)]
        return Rollout(
            {
                "photograph": last.masked_fill(agent, self.grid.free),
                "agents": last.masked_fill(~agent, self.grid.free),
                "blobs": torch.stack([blobs for blobs, _ in followed]),
                "velocity": torch.stack([velocity for _, velocity in followed]),
                "pose": torch.zeros(len(last), 3, dtype=torch.float64, device=last.device),
                "elapsed": torch.zeros(len(last), dtype=torch.float64, device=last.device),
                "seeds": seeds.clone(),
            }
        )

    def advance(self, rollout: Rollout, motion: Tensor, route: Tensor | None = None, *, decode: bool = True) -> Chunk:
        """See `WorldModel.advance`."""
        batch, frames = motion.shape[:2]
        poses = accumulate(motion, rollout["pose"])
        ahead = rollout["elapsed"][:, None] + self.dt * torch.arange(1, frames + 1, device=motion.device)
        rollout["pose"], rollout["elapsed"] = poses[:, -1], ahead[:, -1]
        if not decode:
            return Chunk(codes=None, voxels=None)
        flat = poses.reshape(-1, 3)
        voxels = warp(rollout["photograph"].repeat_interleave(frames, dim=0), flat, self.grid, self.grid.free)
        voxels = voxels.reshape(batch, frames, *self.grid.shape)
        for world in range(batch):
            agents, blobs, velocity = (rollout[name][world] for name in ("agents", "blobs", "velocity"))
            _move_on(voxels[world], agents, blobs, velocity, poses[world], ahead[world], self.grid)
        return Chunk(codes=None, voxels=voxels)


def follow_agents(occupancy: Tensor, motion: Tensor, grid: Grid, dt: float) -> tuple[Tensor, Tensor]:
    """Blobs of the last frame of one world, int64 (X, Y), and the velocity of each column's blob there, float64 (X, Y, 2).

    occupancy: uint8 (T, X, Y, Z); motion: (T, 3). Velocity is over ground, m/s, in the axes of the last ego frame.
    """
    count = min(len(occupancy), round(1.0 / dt) + 1)
    occupancy = occupancy[-count:]
    poses = accumulate(motion[-count:])
    poses = relative(poses[-1:].expand_as(poses), poses)  # every frame in the last ego frame
    classes, blobs = agent_blobs(occupancy)
    described = [_describe(c, b, pose, grid) for c, b, pose in zip(classes, blobs, poses, strict=True)]
    last = described[-1]
    velocity = torch.zeros(len(last.number), 2, dtype=torch.float64, device=occupancy.device)
    current = torch.arange(len(last.number), device=occupancy.device)  # where in the frame followed so far each agent is
    alive = last.whole.clone()
    for back in range(1, count):
        here, before = described[-back], described[-back - 1]
        match = _match(here, before, dt, grid.voxel)
        came = match[current].masked_fill(~alive, -1)
        alive = came >= 0
        current = came.clamp(min=0)
        if not bool(alive.any()):
            break
        moved = last.centre - before.centre[current]
        moved = moved * (moved.norm(dim=-1, keepdim=True) >= grid.voxel)
        if back > 1 or count == 2:  # one step alone may be a wrong match, and rounding to voxels weighs most there
            velocity[alive] = moved[alive] / (back * dt)
    field = torch.zeros(*blobs.shape[1:], 2, dtype=torch.float64, device=occupancy.device)
    for number, v in zip(last.number, velocity, strict=True):
        field[blobs[-1] == number] = v
    return blobs[-1], field


class _Blobs(NamedTuple):
    """The K blobs of a frame, (K,) each; size in columns, centre (K, 2) in the last ego frame, whole: not cut by the edge."""

    number: Tensor
    classes: Tensor
    size: Tensor
    centre: Tensor
    whole: Tensor


def _describe(classes: Tensor, blobs: Tensor, pose: Tensor, grid: Grid) -> _Blobs:
    i, j = blobs.nonzero(as_tuple=True)
    number, index = blobs[i, j].unique(return_inverse=True)
    size = torch.bincount(index, minlength=len(number))
    centre = torch.zeros(len(number), 2, dtype=torch.float64, device=blobs.device)
    centre.index_add_(0, index, grid.column_centres(blobs.device)[i, j])
    centre = transform(pose, centre / size.clamp(min=1)[:, None])
    kind = torch.full_like(number, -1)
    kind[index] = classes[i, j]
    edge = (i == 0) | (j == 0) | (i == blobs.shape[0] - 1) | (j == blobs.shape[1] - 1)
    whole = torch.bincount(index[edge], minlength=len(number)) == 0
    return _Blobs(number, kind, size, centre, whole)


def _match(here: _Blobs, before: _Blobs, dt: float, voxel: float) -> Tensor:
    """The blob before that each blob here was, int64 (K,), or -1: mutually nearest, of one class, in reach, like in size."""
    if not len(here.number) or not len(before.number):
        return torch.full_like(here.number, -1)
    distance = torch.cdist(here.centre, before.centre)
    top = torch.full_like(here.classes, _TOP_SPEED_VEHICLE, dtype=torch.float64)
    for c, speed in _TOP_SPEED.items():
        top[here.classes == c] = speed
    size = here.size[:, None] / before.size[None, :].clamp(min=1)
    possible = (here.classes[:, None] == before.classes[None, :]) & before.whole[None, :] & (size <= 2) & (size >= 0.5)
    distance = distance.masked_fill(~possible | (distance > top[:, None] * dt + voxel), torch.inf)
    nearest, back = distance.argmin(1), distance.argmin(0)
    row = torch.arange(len(nearest), device=distance.device)
    good = distance[row, nearest].isfinite() & (back[nearest] == row)
    return nearest.masked_fill(~good, -1)


def _move_on(frames: Tensor, agents: Tensor, blobs: Tensor, velocity: Tensor, poses: Tensor, ahead: Tensor, grid: Grid) -> None:
    """Write the agents of a photograph into frames uint8 (F, X, Y, Z), seen from poses (F, 3) after `ahead` (F,) seconds."""
    nx, ny, nz = grid.shape
    centres = grid.column_centres(frames.device).reshape(-1, 2)
    columns, numbers, speeds = agents.reshape(-1, nz), blobs.reshape(-1), velocity.reshape(-1, 2)
    groups = _by_velocity(numbers, speeds)
    origin = centres.new_tensor(grid.origin[:2])
    for frame, pose, seconds in zip(frames, poses, ahead, strict=True):
        seen = transform(pose, centres)
        flat = frame.reshape(-1, nz)
        for group, speed in groups:
            index = ((seen - speed * seconds - origin) / grid.voxel).floor().long()
            inside = (index >= 0).all(-1) & (index[:, 0] < nx) & (index[:, 1] < ny)
            source = (index[:, 0] * ny + index[:, 1])[inside]
            target = inside.nonzero().squeeze(1)
            mine = torch.isin(numbers[source], group)
            source, target = source[mine], target[mine]
            flat[target] = torch.where(columns[source] != grid.free, columns[source], flat[target])


def _by_velocity(numbers: Tensor, speeds: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Blobs that move alike: their numbers and their velocity (2,), from the number (P,) and velocity (P, 2) of each column."""
    here = (numbers > 0).nonzero().squeeze(1)
    velocities, group = speeds[here].unique(dim=0, return_inverse=True)
    return [(numbers[here[group == g]].unique(), velocity) for g, velocity in enumerate(velocities)]
