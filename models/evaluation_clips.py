"""Clips to measure world models on: recorded paths through held-out scenes, in batches, with the truth under other commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.interface import Rollout, WorldModel
from scenes.dataset import clip_starts, nearby_route
from scenes.grid import Grid, check_occupancy
from scenes.motion import accumulate, compose, motion_from_poses
from scenes.render import render
from scenes.route import route_raster
from scenes.scene import Scene

Truth = Callable[[int, Tensor], Tensor]  # (frame, motion (F, 3)) -> uint8 (F, X, Y, Z)


def scene_clips(
    scenes: Sequence[Scene], grid: Grid, count: int, frames: int, chunk_frames: int, dt: float = 0.25, seed: int = 0
) -> list[dict[str, Any]]:
    """`count` clips of recorded driving, taken in turn from each scene, egos that move first; the same ones for the same seed.

    A clip is a dict as `scenes.dataset.SceneClips` makes it: `occupancy` uint8 (T, X, Y, Z), `motion` float32 (T, 3), `route`
    uint8 (T / chunk_frames, 2, X, Y) at chunk ends, `source`; and `truth`, a function (frame, motion (F, 3)) that renders what
    the ego would see if, from that frame on, it moved otherwise and everybody else went on as recorded: uint8 (F, X, Y, Z).
    Raises ValueError if no scene has an ego that is there long enough.
    """
    generator = torch.Generator().manual_seed(seed)
    pools = []
    for scene in scenes:
        starts = clip_starts(scene, (frames - 1) * dt)
        pool = starts.moving if len(starts.moving) else starts.standing
        if len(pool):
            pools.append((scene, pool[torch.randperm(len(pool), generator=generator)[:count]]))
    if not pools:
        raise ValueError(f"none of {len(scenes)} scenes has an ego that is there for {(frames - 1) * dt:g} s")
    clips: list[dict[str, Any]] = []
    for turn in range(count):
        for scene, pool in pools:
            if turn < len(pool) and len(clips) < count:
                ego, frame = pool[turn].tolist()
                clips.append(_clip(scene, ego, frame * scene.dt, grid, frames, chunk_frames, dt))
    return clips


def _clip(scene: Scene, ego: int, start: float, grid: Grid, frames: int, chunk_frames: int, dt: float) -> dict[str, Any]:
    times = start + torch.arange(frames, dtype=torch.float64) * dt
    poses = scene.ego_poses(ego, times)
    ends = poses[chunk_frames - 1 :: chunk_frames]
    route = nearby_route(scene.routes[ego], ends, grid).expand(len(ends), -1, -1)

    def truth(frame: int, motion: Tensor) -> Tensor:
        later = times[frame] + dt * torch.arange(1, len(motion) + 1, dtype=torch.float64)
        return render(scene, compose(poses[frame], accumulate(motion.to(poses.device))), later, grid, ego)

    return {
        "occupancy": render(scene, poses, times, grid, ego),
        "motion": motion_from_poses(poses),
        "route": route_raster(route, ends, [scene.static] * len(ends), grid),
        "source": scene.source,
        "truth": truth,
    }


@dataclass(frozen=True)
class ClipBatch:
    """B clips of one length on one device.

    Attributes:
        occupancy: uint8 (B, T, X, Y, Z), every frame in its own ego frame.
        motion: float32 (B, T, 3), into each frame.
        route: route rasters at chunk ends, uint8 (B, K, 2, X, Y), or None where a clip has none.
        truth: how to render each clip under another motion, or None where a clip cannot.
    """

    occupancy: Tensor
    motion: Tensor
    route: Tensor | None
    truth: list[Truth] | None

    def __len__(self) -> int:
        return len(self.occupancy)

    @property
    def frames(self) -> int:
        """Frames T of each clip."""
        return self.occupancy.shape[1]

    def motion_after(self, history: int, done: int, frames: int) -> Tensor:
        """Motion (B, F, 3) of the F frames from `done` frames after the history on; behind the clip's end it begins again."""
        span = (self.frames - history) // frames * frames
        return self.motion[:, history + torch.arange(done, done + frames, device=self.motion.device) % span]

    def start(self, model: WorldModel, history: int, seeds: Tensor) -> Rollout:
        """Worlds that continue each clip from frame `history` on, given as many of the frames before it as the model takes."""
        keep = slice(history - min(history, model.history_frames), history)
        return model.start(self.occupancy[:, keep], self.motion[:, keep], seeds)

    def route_at(self, frame: int, chunk_frames: int) -> Tensor | None:
        """Route rasters uint8 (B, 2, X, Y) of the chunk whose first frame is `frame`, or None where there are none."""
        chunk = frame // chunk_frames
        return None if self.route is None or chunk >= self.route.shape[1] else self.route[:, chunk]


def batches(
    clips: Sequence[dict[str, Any]], size: int, grid: Grid, device: torch.device | str, min_frames: int
) -> Iterator[ClipBatch]:
    """Clips in order, `size` at a time and cut to the shortest of each batch; clips below `min_frames` frames are left out.

    Raises ValueError if no clip is long enough.
    """
    fit = [clip for clip in clips if len(clip["occupancy"]) >= min_frames]
    if not fit:
        longest = max((len(clip["occupancy"]) for clip in clips), default=0)
        raise ValueError(f"clips: expected at least one of {min_frames} frames or more, found at most {longest}")
    for first in range(0, len(fit), size):
        part = fit[first : first + size]
        frames = min(len(clip["occupancy"]) for clip in part)
        for clip in part:
            check_occupancy(clip["occupancy"], grid, f"clip of {clip.get('source', 'unknown source')}")
        yield ClipBatch(
            occupancy=torch.stack([clip["occupancy"][:frames] for clip in part]).to(device),
            motion=torch.stack([clip["motion"][:frames] for clip in part]).to(device),
            route=_stacked([clip.get("route") for clip in part], device),
            truth=[clip["truth"] for clip in part] if all("truth" in clip for clip in part) else None,
        )


def _stacked(routes: list[Tensor | None], device: torch.device | str) -> Tensor | None:
    known = [route for route in routes if route is not None]
    if len(known) < len(routes):
        return None
    return torch.stack([route[: min(map(len, known))] for route in known]).to(device)
