"""Where the agents that an ego sees are going: displacement of every column that an agent stands in."""

from __future__ import annotations

import torch
from torch import Tensor

from scenes.grid import Grid
from scenes.motion import between, relative, to_local, transform
from scenes.render import agent_columns, boxes_in_reach
from scenes.scene import Scene, Tracks


def agent_displacement(
    scene: Scene, poses: Tensor, times: Tensor, ahead: Tensor, grid: Grid, ego: int | None = None
) -> tuple[Tensor, Tensor]:
    """How far the agent in each column moves over ground from times (N,) until `ahead` (M,) seconds later.

    Returns displacements float32 (N, M, X, Y, 2), metres in the axes of the ego frame at `times`, of the point of the agent
    that is at the column's centre, and bool (N, X, Y): where an agent is that is still there at the last moment. Elsewhere the
    displacement is 0. `poses` (N, 3) and `ego` are as in `scenes.render.render`.
    """
    device = scene.static.ground.device
    poses, times = poses.to(device, torch.float64), times.to(device, torch.float64)
    boxes = boxes_in_reach(scene.tracks, poses, times / scene.dt, grid, ego)
    owner = agent_columns(scene.tracks, boxes, len(poses), grid)
    moments = (times[boxes.frame].unsqueeze(1) + ahead.to(times)) / scene.dt  # (P, M)
    stays = _there(scene.tracks, boxes.track, moments.amax(1))
    there = (owner >= 0) & torch.cat((stays, stays.new_zeros(1)))[owner]
    frame, i, j = there.nonzero(as_tuple=True)
    box = owner[frame, i, j]
    centre = grid.column_centres(device)[i, j].unsqueeze(1)
    local = to_local(boxes.pose[box], centre)
    moved = torch.zeros(len(poses), len(ahead), *grid.shape[:2], 2, device=device)
    for step, moment in enumerate(moments.unbind(1)):
        later = relative(poses[boxes.frame], _poses_at(scene.tracks, boxes.track, moment))
        moved[frame, step, i, j] = (transform(later[box], local) - centre).squeeze(1).float()
    return moved, there


def _there(tracks: Tracks, track: Tensor, moment: Tensor) -> Tensor:
    """Whether tracks (P,) are there at their fractional frames (P,)."""
    last = tracks.valid.shape[1] - 1
    before, after = (part.long().clamp(max=last) for part in (moment.floor(), moment.ceil()))
    return tracks.valid[track, before] & tracks.valid[track, after] & (moment <= last)


def _poses_at(tracks: Tracks, track: Tensor, moment: Tensor) -> Tensor:
    """World poses (P, 3) of tracks (P,) at fractional frames (P,)."""
    last = tracks.valid.shape[1] - 1
    low = moment.floor().long().clamp(max=max(last - 1, 0))
    weight = (moment.clamp(max=last) - low).unsqueeze(-1)
    return between(tracks.poses[track, low], tracks.poses[track, (low + 1).clamp(max=last)], weight)
