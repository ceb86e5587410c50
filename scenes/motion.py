"""Planar rigid motion, SE(2): the one place that composes, inverts and applies poses.

A pose is (..., 3): x and y in metres, yaw in radians, counter-clockwise. A motion is the pose of this ego frame in the
previous one. World poses are kept in float64, so that nothing loses precision in the tenth minute.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wrap_angle(angle: Tensor) -> Tensor:
    """Map angles in radians to [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def rotate(xy: Tensor, yaw: Tensor) -> Tensor:
    """Turn vectors xy (..., 2) by yaw (...) radians; the leading shapes broadcast."""
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    x, y = xy[..., 0], xy[..., 1]
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)


def compose(a: Tensor, b: Tensor) -> Tensor:
    """Pose of b's frame, given in a's frame, in the frame that a is given in: (..., 3) each."""
    xy = a[..., :2] + rotate(b[..., :2], a[..., 2])
    yaw = wrap_angle(a[..., 2] + b[..., 2])
    return torch.cat((xy, yaw.unsqueeze(-1)), dim=-1)


def inverse(a: Tensor) -> Tensor:
    """Pose of the outer frame in the frame of a: compose(a, inverse(a)) is the identity."""
    xy = -rotate(a[..., :2], -a[..., 2])
    return torch.cat((xy, wrap_angle(-a[..., 2]).unsqueeze(-1)), dim=-1)


def relative(a: Tensor, b: Tensor) -> Tensor:
    """Pose of b in the frame of a, both given in one outer frame: (..., 3)."""
    xy = rotate(b[..., :2] - a[..., :2], -a[..., 2])
    return torch.cat((xy, wrap_angle(b[..., 2] - a[..., 2]).unsqueeze(-1)), dim=-1)


def transform(pose: Tensor, xy: Tensor) -> Tensor:
    """Points xy (..., N, 2) given in the frame of pose (..., 3), in pose's outer frame."""
    return rotate(xy, pose[..., 2].unsqueeze(-1)) + pose[..., None, :2]


def to_local(pose: Tensor, xy: Tensor) -> Tensor:
    """Points xy (..., N, 2) given in pose's outer frame, in the frame of pose (..., 3)."""
    return rotate(xy - pose[..., None, :2], -pose[..., 2].unsqueeze(-1))


def planar_pose(matrix: Tensor) -> Tensor:
    """Poses (..., 3) float64 of transforms (..., 3 or 4, 4): the place on the ground and where the x axis points to."""
    matrix = matrix.to(torch.float64)
    yaw = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return torch.stack((matrix[..., 0, 3], matrix[..., 1, 3], yaw), dim=-1)


def planar_pose_of_quaternion(translation: Tensor, rotation: Tensor) -> Tensor:
    """Poses (..., 3) float64 of translations (..., 3) in metres and rotations (..., 4), quaternions (w, x, y, z)."""
    translation, rotation = translation.to(torch.float64), rotation.to(torch.float64)
    w, x, y, z = rotation.unbind(-1)
    yaw = torch.atan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z)
    return torch.stack((translation[..., 0], translation[..., 1], yaw), dim=-1)


def accumulate(motion: Tensor, start: Tensor | None = None) -> Tensor:
    """World poses after each motion, (..., T, 3) float64, starting from pose `start` (..., 3), by default the origin."""
    motion = motion.to(torch.float64)
    yaw0 = motion.new_zeros(motion.shape[:-2]) if start is None else start[..., 2].to(torch.float64)
    xy0 = motion.new_zeros(*motion.shape[:-2], 2) if start is None else start[..., :2].to(torch.float64)
    yaw_after = yaw0.unsqueeze(-1) + motion[..., 2].cumsum(-1)
    yaw_before = yaw_after - motion[..., 2]
    xy = xy0.unsqueeze(-2) + rotate(motion[..., :2], yaw_before).cumsum(-2)
    return torch.cat((xy, wrap_angle(yaw_after).unsqueeze(-1)), dim=-1)


def motion_from_poses(poses: Tensor) -> Tensor:
    """Motion (..., T, 3) float32 between successive world poses (..., T, 3); the first motion is zero."""
    poses = poses.to(torch.float64)
    step = relative(poses[..., :-1, :], poses[..., 1:, :])
    return (
        torch.cat((torch.zeros_like(step[..., :1, :]), step), dim=-2).to(torch.float32)
        if poses.shape[-2] > 1
        else (torch.zeros_like(poses, dtype=torch.float32))
    )


def interpolate(poses: Tensor, index: Tensor) -> Tensor:
    """Poses (..., T, 3) at fractional frame numbers index (N,): (..., N, 3), linear in xy and along the shorter arc in yaw."""
    last = poses.shape[-2] - 1
    index = index.clamp(0, last)
    low = index.floor().long().clamp(max=max(last - 1, 0))
    weight = (index - low).to(poses.dtype).unsqueeze(-1)
    return between(poses[..., low, :], poses[..., (low + 1).clamp(max=last), :], weight)


def between(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Poses on the way from a to b, (..., 3) each, at weight (..., 1) in [0, 1]; yaw takes the shorter arc."""
    xy = a[..., :2] + weight * (b[..., :2] - a[..., :2])
    yaw = wrap_angle(a[..., 2:] + weight * wrap_angle(b[..., 2:] - a[..., 2:]))
    return torch.cat((xy, yaw), dim=-1)
