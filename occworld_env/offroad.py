"""Whether the ego has left the road: the ground under its footprint, as the frame before the step and the new ones show it."""

from __future__ import annotations

import torch
from torch import Tensor

from occworld_env.footprint import Reach
from scenes.motion import relative, transform

_ALONG, _ACROSS = 9, 5  # points of the footprint
_KNOWN_AT_LEAST = 0.25  # share of the footprint that must be known, or nothing is said


def footprint_points(box: Tensor) -> Tensor:
    """Points (B, 45, 2) in the ego frame, spread evenly over boxes (B, 3): length, width, centre ahead of the rear axle."""
    u = (torch.arange(_ALONG, device=box.device) + 0.5) / _ALONG - 0.5
    v = (torch.arange(_ACROSS, device=box.device) + 0.5) / _ACROSS - 0.5
    u, v = (part.flatten().to(box.dtype) for part in torch.meshgrid(u, v, indexing="ij"))
    return torch.stack((u * box[:, :1] + box[:, 2:], v * box[:, 1:2]), dim=-1)


def offroad_share(ground: Tensor, shown_at: Tensor, ego: Tensor, box: Tensor, reach: Reach) -> Tensor:
    """Share of the footprint on ground that is known and not drivable, float64 (B,), 0 to 1, the worst over the ego's poses.

    ground: ground classes uint8 (B, R, X, Y) of R frames, see `footprint.look_down`. shown_at: their world poses (B, R, 3).
    ego: world poses (B, P, 3) of the car. box (B, 3). Each frame votes on each point that it knows, and a tie means drivable,
    so that holes and short-lived errors of a generated frame count for nothing; cells under objects are unknown.
    """
    grid, (worlds, frames) = reach.grid, shown_at.shape[:2]
    points = footprint_points(box).unsqueeze(1)
    local = transform(relative(shown_at[:, :, None], ego[:, None]), points.unsqueeze(1))  # (B, R, P, N, 2)
    flat, inside = grid.columns_at(local)
    vote = reach.flat[ground.flatten(2).gather(2, flat.reshape(worlds, frames, -1)).long()].reshape(inside.shape) * inside
    known = (vote != 0).any(1)
    off = known & (vote.sum(1) < 0)
    share = off.sum(-1).double() / known.sum(-1).clamp(min=1)
    enough = known.double().mean(-1) >= _KNOWN_AT_LEAST
    return torch.where(enough, share, torch.zeros_like(share)).amax(-1)
