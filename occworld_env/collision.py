"""What the ego hits: its box swept along the commanded path against the voxels it was shown before and those it is shown now.

Three things are hit:
- static obstacles of the last frame before the step, carried along rigidly, at every integration step;
- obstacles of each new frame, static and moving, where the car is at that frame's time, and in between what both that frame
  and the one before it show in the car's place; so a follower does not hit where its leader was, or will be;
- agents of the last frame before that have no match of their kind in a new frame within the distance they could have gone:
  they count as still there, since a world that makes an obstacle vanish does not make it harmless.
A voxel column is hit when its centre lies in the ego's box.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from occworld_env.constant import constant
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


def collide(
    before: Tensor, after: Tensor, start: Tensor, frames: Tensor, path: Tensor, box: Tensor, frame_dt: float, reach: Reach
) -> Tensor:
    """Class id of what each car hits in a step, int64 (B,), NO_CLASS for nothing.

    before: obstacle classes uint8 (B, X, Y) of the last frame before, see `footprint.look_down`. after: those of the new
    frames (B, F, X, Y). start: world pose (B, 3) of the last frame before. frames: world poses (B, F, 3) of the new frames.
    path: world poses (B, S, 3) of the integration steps, S a multiple of F. box: see `inside_box`. frame_dt: seconds.
    """
    count = frames.shape[1]
    every = path.shape[1] // count
    old = reach.crop(before).long()
    old_kind = reach.kinds[old]
    swept = inside_box(reach.centres, relative(start.unsqueeze(1), path), box)
    hits = [(old, swept.any(1) & (old_kind == STATIC))]
    last, last_pose, last_kind = swept[:, :every], start, old_kind
    for index in range(count):
        now = slice(index * every, (index + 1) * every)
        if index:
            last = inside_box(reach.centres, relative(last_pose.unsqueeze(1), path[:, now]), box)
        new = reach.crop(after[:, index]).long()
        kind, pose = reach.kinds[new], frames[:, index]
        inside = inside_box(reach.centres, relative(pose.unsqueeze(1), path[:, now]), box)
        seen = _kinds_inside(last, last_kind)
        seen[:, -1] = True  # at the frame's own time it alone decides
        both = seen.gather(2, kind.unsqueeze(1).expand(-1, every, -1))
        hits.append((new, (inside & both).any(1) & (kind > 0)))
        gone = vanished(old_kind, after[:, index], relative(pose, start), (index + 1) * frame_dt, reach)
        hits.append((old, swept[:, now].any(1) & gone))
        last_pose, last_kind = pose, kind
    classes, hit = (torch.cat(parts, dim=1) for parts in zip(*hits, strict=True))
    return _worst(classes, hit, reach)


def _kinds_inside(inside: Tensor, kind: Tensor) -> Tensor:
    """Which kinds are inside the box at each integration step, bool (B, S, K): inside (B, S, N), kind (B, N)."""
    kinds = kind.unsqueeze(-1) == torch.arange(len(_GRAVITY) + 1, device=kind.device)
    return (inside.float() @ kinds.float()) > 0


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
    cells = constant(tuple(_cells(speed, time, grid.voxel) for speed in _TOP_SPEEDS), torch.int64, kind.device)[kind]
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
    ranks = (0, *(_GRAVITY.index(kind) + 1 for kind in sorted(_GRAVITY)))  # of each kind, 0 for none
    order = constant(ranks, torch.int64, classes.device)
    score = torch.where(hit, order[reach.kinds[classes]] * 256 + classes, torch.zeros_like(classes))
    best = score.amax(dim=1)
    return torch.where(best > 0, best % 256, torch.full_like(best, NO_CLASS))
