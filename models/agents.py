"""Agents in voxels: seen from above, told apart as connected columns, and moved as rigid bodies.

All ids here are those of Occ3D-nuScenes; `scenes.label_sets` translates what is of another data set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import connected_components
from scenes.grid import FREE, Grid, is_agent

_UNITS = 2.0**32  # in which means are summed: of cells up to 1e5, values up to 1e4


def seen_from_above(occupancy: Tensor, free: int) -> Tensor:
    """Class of the highest agent in each column or, where none is, free: uint8 (..., X, Y) from (..., X, Y, Z)."""
    agent = is_agent(occupancy)
    level = torch.arange(1, occupancy.shape[-1] + 1, device=occupancy.device, dtype=torch.uint8)
    top = (agent * level).amax(-1, keepdim=True)
    highest = occupancy.gather(-1, (top.long() - 1).clamp(min=0)).squeeze(-1)
    return highest.masked_fill(top.squeeze(-1) == 0, free)


def agent_blobs(occupancy: Tensor) -> tuple[Tensor, Tensor]:
    """Agents seen from above: class int64 (N, X, Y), -1 where none, and number of the connected columns of one class.

    occupancy: uint8 (N, X, Y, Z). The numbers, int64 (N, X, Y), are 0 where no agent is, and otherwise one and the same in
    columns that touch by a side or a corner; they are not consecutive. The highest agent of a column counts.
    """
    classes = seen_from_above(occupancy, FREE).long()
    classes = classes.masked_fill(classes == FREE, -1)
    return classes, connected_components(classes)


def blob_mean(values: Tensor, blobs: Tensor) -> Tensor:
    """The mean of values (N, X, Y, C) over each blob, in all its columns; blobs int64 (N, X, Y) as from `agent_blobs`."""
    flat, number = values.flatten(1, 2), blobs.flatten(1).unsqueeze(-1)
    size = number.shape[1] + 1
    index = number.expand(-1, -1, flat.shape[-1])
    # Sums of whole numbers, which come out the same in whatever order a GPU adds them.
    whole = (flat.double() * _UNITS).round().long()
    total = whole.new_zeros(len(flat), size, flat.shape[-1]).scatter_add(1, index, whole)
    count = whole.new_zeros(len(flat), size, 1).scatter_add(1, number, torch.ones_like(whole[..., :1]))
    mean = total.double() / (_UNITS * count.clamp(min=1))
    return mean.to(values.dtype).gather(1, index).reshape(values.shape)


def rigid_velocity(velocity: Tensor, blobs: Tensor, grid: Grid) -> Tensor:
    """The rigid motion of each blob that is nearest to the velocities of its columns: (N, F, X, Y, 2) from the same.

    v + w x r about the blob's centre, by least squares; else a car whose columns differ in speed would be torn or crushed.
    blobs: int64 (N, X, Y). Beside the blobs the result means nothing.
    """
    centres = grid.column_centres(velocity.device, velocity.dtype).expand(len(blobs), -1, -1, -1)
    arm = centres - blob_mean(centres, blobs)
    inertia = blob_mean(arm.square().sum(-1, keepdim=True), blobs).clamp(min=grid.voxel**2)
    frames = []
    for part in velocity.unbind(1):
        mean = blob_mean(part, blobs)
        rest = part - mean
        torque = arm[..., :1] * rest[..., 1:] - arm[..., 1:] * rest[..., :1]
        spin = blob_mean(torque, blobs) / inertia
        frames.append(mean + spin * torch.stack((-arm[..., 1], arm[..., 0]), dim=-1))
    return torch.stack(frames, dim=1)
