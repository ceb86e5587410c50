"""The trajectory that a clip is generated from: where the ego is in each frame, as section 3.3 of the paper has it."""

from __future__ import annotations

from torch import Tensor

from scenes.motion import accumulate, relative


def trajectory_from_motion(motion: Tensor) -> Tensor:
    """Positions float32 (..., T, 2) in metres, in the ego frame of the first of T frames, of a motion (..., T, 3).

    The paper speaks of absolute x and y; in world axes, though, the same turn would be told in as many ways as there are
    headings. The first frame's own motion, which leads to it, plays no part.
    """
    poses = accumulate(motion)
    return relative(poses[..., :1, :], poses)[..., :2].float()
