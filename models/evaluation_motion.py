"""Does the generated world move as commanded: ego motion by registration, under recorded, swapped and turning commands."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from models.evaluation_cells import number
from models.evaluation_clips import ClipBatch
from models.interface import Rollout, WorldModel
from models.registration import motion_errors, register
from scenes.grid import Grid
from scenes.motion import accumulate

_SPEEDS = (3.0, 12.0)  # m/s, bounds of the speed at which turns are commanded
_YAW_RATE, _LATERAL = 0.6, 4.0  # rad/s and m/s^2 that a commanded turn stays below


class MotionTally:
    """Errors of the motion found in pairs of frames, by who made the frames: "model" or "truth"."""

    def __init__(self) -> None:
        self._errors: dict[str, list[Tensor]] = defaultdict(list)

    @property
    def counted(self) -> bool:
        """Whether anything was added."""
        return bool(self._errors)

    def add(self, who: str, before: Tensor, after: Tensor, pose: Tensor, grid: Grid) -> None:
        """Register frames uint8 (B, X, Y, Z) and hold the result against the commanded pose (B, 3) of `after` in `before`."""
        found, _ = register(before, after, grid)
        self._errors[who].append(torch.stack(motion_errors(found, pose.cpu()), dim=-1))

    def report(self) -> dict[str, Any]:
        """By who: median and 90th percentile of the errors in metres and degrees; a failed one counts as infinite."""
        out: dict[str, Any] = {}
        for who, parts in self._errors.items():
            errors = torch.cat(parts)
            failed = errors.isnan().any(-1)
            errors[failed] = torch.inf
            out[who] = {"chunks": len(errors), "failed": int(failed.sum())}
            for name, column in zip(("translation_m", "yaw_deg"), errors.T, strict=True):
                ordered, count = column.sort().values, len(column)
                median = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
                out[who][name] = {"median": number(median), "p90": number(ordered[math.ceil(0.9 * count) - 1])}
        return out


def commands(clips: ClipBatch, history: int, frames: int, dt: float) -> dict[str, Tensor]:
    """Motions (B, F, 3) to command for the chunk after the history: recorded, another clip's, and a turn to either side.

    Turns are arcs at the speed of the last recorded frame, 3 to 12 m/s, with a yaw rate of 0.6 rad/s, or less where 4 m/s^2 of
    lateral acceleration would be passed. A batch of one clip has nothing to swap.
    """
    recorded = clips.motion[:, history : history + frames]
    out = {"recorded": recorded}
    if len(clips) > 1:
        out["swapped"] = recorded.roll(1, dims=0)
    speed = (clips.motion[:, history - 1, :2].norm(dim=-1) / dt).clamp(*_SPEEDS)
    for name, side in (("turn_left", 1.0), ("turn_right", -1.0)):
        turn = side * (_LATERAL / speed).clamp(max=_YAW_RATE) * dt
        chord = speed * dt * torch.sinc(turn / (2 * torch.pi))
        arc = torch.stack((chord * torch.cos(turn / 2), chord * torch.sin(turn / 2), turn), dim=-1)
        out[name] = arc.unsqueeze(1).repeat(1, frames, 1)
    return out


def motion_response(model: WorldModel, clips: ClipBatch, history: int, tallies: dict[str, MotionTally], seed: int) -> None:
    """Command each motion of `commands` for the chunk after the history and add the errors of what comes to its tally.

    "truth" in a tally is the floor: the same registration on true frames under the same command, where clips can be rendered.
    """
    frames = model.chunk_frames
    seeds = torch.arange(len(clips), device=clips.motion.device) + seed
    begun = clips.start(model, history, seeds)
    before = clips.occupancy[:, history - 1]
    for name, motion in commands(clips, history, frames, model.dt).items():
        route = clips.route_at(history, frames) if name == "recorded" else None
        voxels = model.advance(Rollout(begun.state_dict()), motion, route).voxels
        if voxels is None:
            raise ValueError("motion_response: the world model gave no voxels")
        pose = accumulate(motion)[:, -1]
        tallies[name].add("model", before, voxels[:, -1], pose, model.grid)
        if clips.truth is not None:
            true = torch.stack([truth(history - 1, m)[-1] for truth, m in zip(clips.truth, motion, strict=True)])
            tallies[name].add("truth", before, true.to(before.device), pose, model.grid)
        elif name == "recorded":
            tallies[name].add("truth", before, clips.occupancy[:, history + frames - 1], pose, model.grid)
