"""Does the world of a clip move as its ego motion says: registration of what is static, told nothing of the motion."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.registration import MAX_SHIFT, MAX_YAW, motion_errors, register
from scenes.grid import Grid
from scenes.motion import accumulate, relative

SPAN = 0.5  # seconds between the two frames of a pair
_SHIFTED, _TURNED = 0.25, math.radians(2.0)  # metres and radians by which commands differ


def found_motion(occupancy: Tensor, motion: Tensor, grid: Grid, dt: float, pairs: int) -> tuple[Tensor, Tensor]:
    """Commanded motion, float64 (pairs, 3), between evenly spread pairs of frames SPAN apart, and the motion found in them.

    occupancy: uint8 (T, X, Y, Z); motion: (T, 3), as commanded. Found motion is NaN where a frame has no static structure, and
    both are where the command is out of the registration's reach. Raises ValueError where a clip is shorter than SPAN.
    """
    step = max(round(SPAN / dt), 1)
    if len(occupancy) <= step:
        raise ValueError(f"found_motion: frames {SPAN} s apart need clips of {step + 1} or more, found {len(occupancy)}")
    first = torch.linspace(0, len(occupancy) - 1 - step, pairs).round().long()
    poses = accumulate(motion)
    commanded = relative(poses[first], poses[first + step]).cpu()
    found, _ = register(occupancy[first], occupancy[first + step], grid)
    beyond = (commanded[:, :2].abs().amax(-1) > MAX_SHIFT) | (commanded[:, 2].abs() > MAX_YAW)
    commanded[beyond] = torch.nan
    return commanded, found


def response_errors(commanded: Tensor, found: Tensor) -> Tensor:
    """Errors in metres and degrees, float64 (..., 2), of found against commanded motion (..., 3).

    Infinite where nothing was found; NaN, not to be counted, where nothing can be commanded.
    """
    errors = torch.stack(motion_errors(found.flatten(0, -2), commanded.flatten(0, -2)), dim=-1).reshape(*found.shape[:-1], 2)
    errors = torch.where(found.isnan().any(-1, keepdim=True), torch.inf, errors)
    return torch.where(commanded.isnan().any(-1, keepdim=True), torch.nan, errors)


def others_commands(commanded: Tensor) -> Tensor:
    """For each clip the command (N, pairs, 3) of the nearest clip before it, around the end, that was commanded something else.

    Something else is a quarter of a metre or two degrees apart in one pair at least. NaN where all were commanded the same.
    """
    found = torch.full_like(commanded, torch.nan)
    for clip in range(len(commanded)):
        others = commanded.roll(-clip, dims=0).flip(0)[:-1]  # the clip before first, then the one before that
        apart = (others - commanded[clip]).abs().nan_to_num(0.0).amax(-2)
        differs = ((apart[:, :2] > _SHIFTED).any(-1) | (apart[:, 2] > _TURNED)).nonzero()
        if len(differs):
            found[clip] = others[differs[0, 0]]
    return found


def median(errors: Tensor) -> float:
    """Median of errors of any shape, NaN left out; infinite where half of them failed, NaN where none is left."""
    known = errors[~errors.isnan()].sort().values
    if not len(known):
        return math.nan
    return float((known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2)
