"""What the ego hits: its box swept along the commanded path against the voxels it was shown before and those it is shown now.

Three things are hit:
- static obstacles of the last frame before the step, carried along rigidly, at every integration step;
- obstacles of each new frame, static and moving, at the integration steps nearest to that frame in time; the agents of the
  last frame before likewise, which is the beginning of the step only, so that a follower does not hit its leader's past;
- agents of the last frame before that have no match of their kind in a new frame within the distance they could have gone:
  they count as still there, since a world that makes an obstacle vanish does not make it harmless.
A voxel column is hit when its centre lies in the ego's box.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from occworld_env.footprint import CYCLE, NO_CLASS, PEDESTRIAN, STATIC, TOP_SPEED, VEHICLE, Reach
from scenes.grid import FREE
from scenes.motion import relative

_GRAVITY = (STATIC, VEHICLE, CYCLE, PEDESTRIAN)  # of several things hit in one step, the last of these kinds is named


def inside_box(centres: Tensor, pose: Tensor, box: Tensor) -> Tensor:
    """Which points centres (N, 2) lie in the boxes of cars at pose (B, S, 3): bool (B, S, N).

    box (B, 3): length, width, and how far the box's centre lies ahead of the rear axle, metres.
    """
    pose, box = pose.to(centres.dtype), box.to(centres.dtype)
    cos, sin = torch.cos(pose[..., 2:]), torch.sin(pose[..., 2:])
    dx, dy = centres[:, 0] - pose[..., :1], centres[:, 1] - pose[..., 1:2]
    length, width, ahead = (box[:, None, None, index] for index in range(3))
    along, across = cos * dx + sin * dy - ahead, cos * dy - sin * dx
    return (along.abs() <= length / 2) & (across.abs() <= width / 2)


def nearest_steps(steps: int, frames: int) -> list[slice]:
    """Of `steps` integration steps, those nearest in time to the frame before, and to each of the `frames` new ones."""
    every = steps // frames
    nearest = [(2 * step + every) // (2 * every) for step in range(1, steps + 1)]
    starts = [nearest.index(frame) if frame in nearest else 0 for frame in range(frames + 1)]
    return [slice(start, start + nearest.count(frame)) for frame, start in enumerate(starts)]


def collide(
    before: Tensor, after: Tensor, start: Tensor, frames: Tensor, path: Tensor, box: Tensor, frame_dt: float, reach: Reach
) -> Tensor:
    """Class id of what each car hits in a step, int64 (B,), NO_CLASS for nothing.

    before: obstacle classes uint8 (B, X, Y) of the last frame before, see `footprint.look_down`. after: those of the new
    frames (B, F, X, Y). start: world pose (B, 3) of the last frame before. frames: world poses (B, F, 3) of the new frames.
    path: world poses (B, S, 3) of the integration steps, S a multiple of F. box: see `inside_box`. frame_dt: seconds.
    """
    steps = nearest_steps(path.shape[1], frames.shape[1])
    old = reach.crop(before).long()
    kind = reach.kinds[old]
    swept = inside_box(reach.centres, relative(start.unsqueeze(1), path), box)
    hits = [(old, swept.any(1) & (kind == STATIC)), (old, swept[:, steps[0]].any(1) & (kind > STATIC))]
    for index, now in enumerate(steps[1:]):
        pose = relative(frames[:, index].unsqueeze(1), path[:, now])
        new = reach.crop(after[:, index]).long()
        hits.append((new, inside_box(reach.centres, pose, box).any(1) & (new != FREE)))
        moved = relative(frames[:, index], start)
        gone = vanished(kind, after[:, index], moved, (index + 1) * frame_dt, reach)
        hits.append((old, swept[:, now].any(1) & gone))
    classes, hit = (torch.cat(parts, dim=1) for parts in zip(*hits, strict=True))
    return _worst(classes, hit, reach)


def collide_at(obstacle: Tensor, box: Tensor, reach: Reach) -> Tensor:
    """Class id of what a car that stands in the frame's own ego pose overlaps, int64 (B,); obstacle uint8 (B, X, Y)."""
    classes = reach.crop(obstacle).long()
    here = torch.zeros(len(obstacle), 1, 3, device=obstacle.device)
    return _worst(classes, inside_box(reach.centres, here, box)[:, 0] & (classes != FREE), reach)


def vanished(kind: Tensor, after: Tensor, pose: Tensor, time: float, reach: Reach) -> Tensor:
    """Which agent columns of the frame before have no match of their kind in a new frame, bool (B, N).

    kind: of each column within reach in the frame before, int64 (B, N). after: obstacle classes (B, X, Y) of the new frame.
    pose: of the frame before in the new frame (B, 3). time: seconds between the two.
    """
    grid, (nx, ny) = reach.grid, reach.grid.shape[:2]
    new_kind = reach.kinds[after.long()]
    moving = torch.stack([new_kind == which for which in (VEHICLE, PEDESTRIAN, CYCLE)], dim=1)
    total = torch.nn.functional.pad(moving.to(torch.int32), (1, 0, 1, 0)).cumsum(-1, dtype=torch.int32)
    total = total.cumsum(-2, dtype=torch.int32).flatten(1)
    cos, sin = torch.cos(pose[:, 2:]), torch.sin(pose[:, 2:])
    x, y = reach.centres[:, 0].double(), reach.centres[:, 1].double()
    i = ((cos * x - sin * y + pose[:, :1] - grid.origin[0]) / grid.voxel).floor().long()
    j = ((sin * x + cos * y + pose[:, 1:2] - grid.origin[1]) / grid.voxel).floor().long()
    cells = torch.tensor([_cells(speed, time, grid.voxel) for speed in _TOP_SPEEDS], device=kind.device)[kind]
    layer = (kind - VEHICLE).clamp(min=0) * (nx + 1) * (ny + 1)
    low_i, high_i = (i - cells).clamp(0, nx), (i + cells + 1).clamp(0, nx)
    low_j, high_j = (j - cells).clamp(0, ny), (j + cells + 1).clamp(0, ny)

    def corner(a: Tensor, b: Tensor) -> Tensor:
        return total.gather(1, layer + a * (ny + 1) + b)

    matches = corner(high_i, high_j) - corner(low_i, high_j) - corner(high_i, low_j) + corner(low_i, low_j)
    return (kind > STATIC) & (matches == 0)


_TOP_SPEEDS = (0.0, 0.0, TOP_SPEED[VEHICLE], TOP_SPEED[PEDESTRIAN], TOP_SPEED[CYCLE])


def _cells(speed: float, time: float, voxel: float) -> int:
    """Voxels that an agent at `speed` can have gone, and one for the rounding."""
    return math.ceil(speed * time / voxel) + 1


def _worst(classes: Tensor, hit: Tensor, reach: Reach) -> Tensor:
    """The class id (B,) of the gravest of classes (B, N) that are hit, NO_CLASS where none is."""
    order = torch.zeros(len(_GRAVITY) + 1, dtype=torch.int64, device=classes.device)
    for rank, which in enumerate(_GRAVITY, start=1):
        order[which] = rank
    score = torch.where(hit, order[reach.kinds[classes]] * 256 + classes, torch.zeros_like(classes))
    best = score.amax(dim=1)
    return torch.where(best > 0, best % 256, torch.full_like(best, NO_CLASS))
