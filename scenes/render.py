"""Voxel rendering: the occupancy that an ego at given poses and times would see in a scene."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scenes.grid import FREE, Grid
from scenes.motion import interpolate, relative, rotate, transform
from scenes.scene import Scene, StaticWorld, Tracks

# A box thinner than a voxel would slip between voxel centres, so each side is widened to this many voxels.
_MIN_EXTENT = 1.0
_NUMBER = 2**32 - 1  # the bits of a column's key that hold the number of its box


def render(scene: Scene, poses: Tensor, times: Tensor, grid: Grid, ego: int | None = None, chunk: int = 16) -> Tensor:
    """Occupancy uint8 (N, X, Y, Z) seen from world poses (N, 3) at times (N,) in seconds, each in its own ego frame.

    `ego` names the track that is the ego: it is left out, so that its own cells are free. Agents are interpolated between
    track frames. Work is done `chunk` frames at a time on the device of the scene.
    """
    device = scene.static.ground.device
    poses = poses.to(device, torch.float64)
    times = times.to(device, torch.float64)
    if poses.shape != (times.shape[0], 3):
        raise ValueError(f"render: expected poses ({times.shape[0]}, 3) to fit times, found {tuple(poses.shape)}")
    parts = [_render_frames(scene, poses[i : i + chunk], times[i : i + chunk], grid, ego) for i in range(0, len(times), chunk)]
    return torch.cat(parts) if parts else torch.empty(0, *grid.shape, dtype=torch.uint8, device=device)


def _render_frames(scene: Scene, poses: Tensor, times: Tensor, grid: Grid, ego: int | None) -> Tensor:
    occupancy = render_static(scene.static, poses, grid)
    return draw_agents(occupancy, scene.tracks, poses, times / scene.dt, grid, ego)


def draw_agents(occupancy: Tensor, tracks: Tracks, poses: Tensor, index: Tensor, grid: Grid, ego: int | None = None) -> Tensor:
    """Fill the boxes of agents at fractional track frames index (N,) into occupancy (N, X, Y, Z), in place; returns it.

    The rest is as in `render`.
    """
    boxes = boxes_in_reach(tracks, poses, index, grid, ego)
    owner = agent_columns(tracks, boxes, len(poses), grid)
    column = (owner >= 0).nonzero(as_tuple=True)
    track = boxes.track[owner[column]]
    agent, top = tracks.classes[track], (tracks.sizes[track, 2] * 100).to(torch.int32).float() / 100
    fill = _filled(torch.zeros_like(top), top, grid)
    occupancy[column] = torch.where(fill, agent[:, None], occupancy[column])
    return occupancy


def render_static(static: StaticWorld, poses: Tensor, grid: Grid) -> Tensor:
    """What does not move, uint8 (N, X, Y, Z), seen from world poses (N, 3) float64 on the device of `static`."""
    frames, (nx, ny, nz) = poses.shape[0], grid.shape
    centres = grid.column_centres(poses.device).reshape(1, nx * ny, 2)
    i, j, inside = static.cells(transform(poses, centres))
    cell, inside = (i * static.ground.shape[1] + j).reshape(-1), inside.reshape(-1)
    occupancy = torch.full((frames * nx * ny, nz), FREE, dtype=torch.uint8, device=poses.device)
    occupancy[:, grid.ground_index] = static.ground.reshape(-1)[cell].masked_fill(~inside, FREE)
    for layer, shown in enumerate(static.shown(cell, grid.voxel)):
        standing = static.standing[layer].reshape(-1)[shown]
        column = ((standing != FREE) & inside).nonzero().squeeze(1)
        bottom, top = (heights[layer].reshape(-1)[shown[column]] / 10 for heights in (static.bottom, static.top))
        fill = _filled(bottom, top, grid)
        occupancy[column] = torch.where(fill, standing[column][:, None], occupancy[column])
    return occupancy.reshape(frames, nx, ny, nz)


def _filled(bottom: Tensor, top: Tensor, grid: Grid) -> Tensor:
    """Which voxels, bool (P, Z), a thing fills that reaches from bottom to top (P,) metres above ground: at least one."""
    low = ((bottom - grid.origin[2]) / grid.voxel + 0.499).floor()
    high = ((top - grid.origin[2]) / grid.voxel + 0.499).floor().maximum(low + 1)
    level = torch.arange(grid.shape[2], device=bottom.device)
    return (level >= low[:, None]) & (level < high[:, None])


class Boxes(NamedTuple):
    """Boxes of agents that may touch the grid: frame number (P,), track number (P,) and pose in the ego frame (P, 3)."""

    frame: Tensor
    track: Tensor
    pose: Tensor


def agent_columns(tracks: Tracks, boxes: Boxes, frames: int, grid: Grid) -> Tensor:
    """Which of the P boxes stands in each column, int64 (N, X, Y), -1 where none does; the highest wins."""
    nx, ny, _ = grid.shape
    key = torch.zeros(frames * nx * ny, dtype=torch.int64, device=boxes.pose.device)
    diagonal = tracks.sizes[:, :2].norm(dim=-1) / grid.voxel
    longest = int(diagonal.max()) + 3 if len(diagonal) else 0
    smaller = -1
    for window in (5, 9, 17, longest):  # boxes of like size together, so that small ones do not pay for large ones
        pick = (diagonal[boxes.track] > smaller) & (diagonal[boxes.track] <= window - 2)
        smaller = max(smaller, window - 2)
        _stamp(key, tracks, boxes, pick.nonzero().squeeze(1), window, grid)
    return (key & _NUMBER).reshape(frames, nx, ny) - 1


def boxes_in_reach(tracks: Tracks, poses: Tensor, index: Tensor, grid: Grid, ego: int | None) -> Boxes:
    """The boxes at fractional track frames index (N,) that may touch the grid of an ego at poses (N, 3)."""
    boxes = interpolate(tracks.poses, index).transpose(0, 1)
    low, high = index.floor().long(), index.ceil().long()
    last = tracks.valid.shape[1] - 1
    there = (tracks.valid[:, low.clamp(0, last)] & tracks.valid[:, high.clamp(0, last)]).T
    if ego is not None:
        there = there.clone()
        there[:, ego] = False
    half = torch.tensor(grid.shape[:2], dtype=torch.float64, device=poses.device) * grid.voxel / 2
    reach = float(half.norm() + half.new_tensor(grid.origin[:2]).add(half).norm()) + 12.0
    near = there & ((boxes[..., :2] - poses[:, None, :2]).norm(dim=-1) < reach)
    frame, agent = near.nonzero(as_tuple=True)
    return Boxes(frame, agent, relative(poses[frame], boxes[frame, agent]))


def _stamp(key: Tensor, tracks: Tracks, boxes: Boxes, pick: Tensor, window: int, grid: Grid) -> None:
    """Write the columns under some boxes into key, (N * X * Y,) int64, within a square of `window` columns a box."""
    nx, ny, _ = grid.shape
    frame, track, box = (part[pick] for part in boxes)
    offset = torch.arange(window, device=key.device) - window // 2
    first = torch.stack([((box[:, axis] - grid.origin[axis]) / grid.voxel).floor().long() for axis in (0, 1)], dim=-1)
    cell = first[:, None, None, :] + torch.stack(torch.meshgrid(offset, offset, indexing="ij"), dim=-1)
    corner = torch.tensor(grid.origin[:2], dtype=torch.float64, device=key.device)
    centre = corner + (cell.to(torch.float64) + 0.5) * grid.voxel
    local = rotate(centre - box[:, None, None, :2], -box[:, None, None, 2]).abs()
    half = (tracks.sizes[track, :2].to(torch.float64) / 2).clamp(min=_MIN_EXTENT * grid.voxel / 2)
    covered = (local <= half[:, None, None, :]).all(-1) | (cell == first[:, None, None, :]).all(-1)
    covered &= (cell >= 0).all(-1) & (cell[..., 0] < nx) & (cell[..., 1] < ny)
    # Height in centimetres, class id, number of the box: the highest box wins, on every device alike.
    rank = (tracks.sizes[track, 2] * 100).to(torch.int64) * 32 + tracks.classes[track].to(torch.int64)
    value = rank * (_NUMBER + 1) + pick + 1
    flat = (frame[:, None, None] * nx + cell[..., 0]) * ny + cell[..., 1]
    key.scatter_reduce_(0, flat[covered], value[:, None, None].expand_as(flat)[covered], reduce="amax")
