"""Where the ego is along its route: projection and look-ahead on routes of evenly spaced points, for B worlds at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scenes.motion import wrap_angle

SPACING = 2.0  # metres between the points of a resampled route
_TURNED = 4.0  # metres further away that a stretch at right angles to the ego's heading counts
WINDOW = 30.0  # metres to each side of the last place along the route where the next one is looked for
_STRIDE = 10.0  # metres from one place to the next when a path is followed, well within the window


@dataclass(frozen=True)
class RoutePlace:
    """Where a pose, or each of K poses, is with respect to its route: all (B,) or (B, K).

    Attributes:
        arc: metres from the route's first point to the nearest point; negative a little way before it.
        lateral: distance to the route, metres, positive to the left of it.
        heading: ego heading minus route heading, radians in [-pi, pi).
    """

    arc: Tensor
    lateral: Tensor
    heading: Tensor

    def pick(self, index: Tensor) -> RoutePlace:
        """The places at index, int64 (B,), of (B, K)."""
        at = index.unsqueeze(1)
        return RoutePlace(*(part.gather(1, at).squeeze(1) for part in (self.arc, self.lateral, self.heading)))


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


def follow(routes: Tensor, poses: Tensor, arc: Tensor, apart: float) -> RoutePlace:
    """Places (B, K) along a path of world poses (B, S, 3), each found from the one before and the first from `arc` (B,).

    Poses lie at most `apart` metres apart. Those are taken that are at most 10 m apart, counted from the last one: a path of
    up to 10 m has that one alone, and of a longer one nothing is lost beyond the window.
    """
    every = max(1, int(_STRIDE / apart + 1e-9))
    places: list[RoutePlace] = []
    for pose in poses[:, (poses.shape[1] - 1) % every :: every].unbind(1):
        places.append(locate(routes, pose, places[-1].arc if places else arc))
    return RoutePlace(*(torch.stack([getattr(place, name) for place in places], 1) for name in ("arc", "lateral", "heading")))


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
