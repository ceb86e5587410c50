"""Where a car's box on its way touches other agents or standing things: oriented boxes against boxes and raster cells."""

from __future__ import annotations

import torch
from torch import Tensor

from scenes.grid import FREE
from scenes.motion import compose, interpolate, relative, transform
from scenes.scene import Scene, StaticWorld, Tracks

LENGTH, WIDTH = 4.6, 1.9  # of the ego's box, metres
REAR_AXLE = 1.3  # how far its rear axle lies behind the middle, metres
CLEARANCE = 1.5  # metres: what begins higher than this is driven under


def box_centres(poses: Tensor, offset: float = REAR_AXLE) -> Tensor:
    """Poses (..., 3) of the middle of the ego's box from poses of its rear axle, both in world coordinates."""
    ahead = torch.zeros_like(poses)
    ahead[..., 0] = offset
    return compose(poses, ahead)


def boxes_touch(a: Tensor, a_size: Tensor, b: Tensor, b_size: Tensor) -> Tensor:
    """Whether boxes with centre poses a, b (..., 3) and length and width a_size, b_size (..., 2) overlap: bool (...)."""
    return ~(_separated(a, a_size, b, b_size) | _separated(b, b_size, a, a_size))


def _separated(a: Tensor, a_size: Tensor, b: Tensor, b_size: Tensor) -> Tensor:
    """Whether one of the two axes of box a keeps the boxes apart."""
    offset = relative(a, b)
    cos, sin = offset[..., 2].cos().abs(), offset[..., 2].sin().abs()
    length, width = b_size[..., 0], b_size[..., 1]
    along = (a_size[..., 0] + cos * length + sin * width) / 2
    across = (a_size[..., 1] + sin * length + cos * width) / 2
    return (offset[..., 0].abs() > along) | (offset[..., 1].abs() > across)


def agents_touched(tracks: Tracks, poses: Tensor, index: Tensor, ego: int | None) -> Tensor:
    """Which agents the ego's box touches, bool (N, A), with its rear axle at world poses (N, 3) at track frames index (N,)."""
    centres = box_centres(poses)
    agents = interpolate(tracks.poses, index).transpose(0, 1)
    last = tracks.valid.shape[1] - 1
    low, high = index.floor().long().clamp(0, last), index.ceil().long().clamp(0, last)
    there = (tracks.valid[:, low] & tracks.valid[:, high]).T.clone()
    if ego is not None:
        there[:, ego] = False
    size = poses.new_tensor((LENGTH, WIDTH))
    return there & boxes_touch(centres[:, None], size, agents, tracks.sizes[:, :2].to(poses))


def static_touched(static: StaticWorld, poses: Tensor) -> Tensor:
    """Whether the ego's box stands on cells with something that begins below 1.5 m: bool (N,), rear axle at poses (N, 3)."""
    along = torch.linspace(-LENGTH / 2, LENGTH / 2, 15, dtype=poses.dtype, device=poses.device)
    across = torch.linspace(-WIDTH / 2, WIDTH / 2, 7, dtype=poses.dtype, device=poses.device)
    points = torch.stack(torch.meshgrid(along, across, indexing="ij"), dim=-1).reshape(1, -1, 2)
    i, j, inside = static.cells(transform(box_centres(poses), points))
    low = (static.standing[:, i, j] != FREE) & (static.bottom[:, i, j] < CLEARANCE * 10)
    return (low.any(0) & inside).any(-1)


def first_impact(scene: Scene, poses: Tensor, times: Tensor, ego: int | None = None) -> int | None:
    """Index of the first of the world poses (N, 3) of the ego's rear axle, at times (N,) seconds, at which it hits something.

    What already touches at index 0 is left aside: it is an inaccuracy of the recording.
    """
    device = scene.static.ground.device
    poses = poses.to(device, torch.float64)
    agents = agents_touched(scene.tracks, poses, times.to(device, torch.float64) / scene.dt, ego)
    hit = (agents & ~agents[0]).any(-1)
    static = static_touched(scene.static, poses)
    if not bool(static[0]):
        hit |= static
    found = hit.nonzero()
    return int(found[0]) if len(found) else None
