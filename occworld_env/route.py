"""Where the ego is along its route: projection and look-ahead on routes of evenly spaced points, for B worlds at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scenes.motion import wrap_angle

SPACING = 2.0  # metres between the points of a resampled route
_TURNED = 4.0  # metres further away that a stretch at right angles to the ego's heading counts
WINDOW = 30.0  # metres to each side of the last place along the route where the next one is looked for


@dataclass(frozen=True)
class RoutePlace:
    """Where a pose is with respect to its route.

    Attributes:
        arc: metres from the route's first point to the nearest point, (B,); negative a little way before it.
        lateral: distance to the route, metres, positive to the left of it, (B,).
        heading: ego heading minus route heading, radians in [-pi, pi), (B,).
    """

    arc: Tensor
    lateral: Tensor
    heading: Tensor


def route_length(routes: Tensor) -> Tensor:
    """Length in metres (B,) of routes (B, M, 2); repeated points at the end add nothing."""
    return (routes[:, 1:] - routes[:, :-1]).norm(dim=-1).sum(-1)


def locate(routes: Tensor, poses: Tensor, arc: Tensor | None = None) -> RoutePlace:
    """Nearest place on routes (B, M, 2) to world poses (B, 3).

    With `arc` (B,), the last known place, only the route within WINDOW metres of it counts, so that a route that crosses
    itself is followed in order; without it, a stretch that runs across or against the ego's heading counts as further away.
    """
    step = routes[:, 1:] - routes[:, :-1]
    length = step.norm(dim=-1)
    along = torch.arange(step.shape[1], dtype=routes.dtype, device=routes.device) * SPACING
    there = length > 1e-6
    direction = step / length.clamp(min=1e-6).unsqueeze(-1)
    offset = poses[:, None, :2] - routes[:, :-1]
    first = torch.zeros_like(length)
    first[:, 0] = -WINDOW  # the first stretch reaches back, for a rear axle behind the route's beginning
    t = (offset * direction).sum(-1).maximum(first).minimum(length)
    distance = (offset - t.unsqueeze(-1) * direction).norm(dim=-1)
    yaw = torch.atan2(direction[..., 1], direction[..., 0])
    turn = wrap_angle(poses[:, 2:] - yaw)
    doubt = _TURNED * (1 - torch.cos(turn)) if arc is None else 1e4 * ((along + t - arc.unsqueeze(-1)).abs() > WINDOW)
    cost = distance + doubt + 1e8 * ~there
    best = cost.argmin(dim=-1, keepdim=True)
    place, near = (along + t).gather(1, best).squeeze(1), offset.gather(1, best.unsqueeze(-1).expand(-1, -1, 2)).squeeze(1)
    ahead = direction.gather(1, best.unsqueeze(-1).expand(-1, -1, 2)).squeeze(1)
    side = torch.sign(ahead[:, 0] * near[:, 1] - ahead[:, 1] * near[:, 0])
    return RoutePlace(place, side * distance.gather(1, best).squeeze(1), turn.gather(1, best).squeeze(1))


def points_at(routes: Tensor, arcs: Tensor) -> tuple[Tensor, Tensor]:
    """World points (B, N, 2) of routes (B, M, 2) at arcs (B, N) metres, and the route's unit direction there (B, N, 2)."""
    last = routes.shape[1] - 2
    ends = (routes[:, 1:] - routes[:, :-1]).norm(dim=-1) > 1e-6
    last_real = (ends.sum(-1, keepdim=True) - 1).clamp(0, last)
    place = (arcs / SPACING).clamp(min=0)
    index = place.floor().long().minimum(last_real)
    pick = index.unsqueeze(-1).expand(-1, -1, 2)
    a, b = routes.gather(1, pick), routes.gather(1, pick + 1)
    length = (b - a).norm(dim=-1, keepdim=True)
    direction = (b - a) / length.clamp(min=1e-6)
    beyond = ((place - index) * SPACING).unsqueeze(-1).minimum(length)
    return a + beyond * direction, direction
