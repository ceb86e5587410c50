"""The torch data set of clips that are rendered on the fly from scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from scenes.counterfactual import HORIZON, PERTURBED, EgoPath, counterfactual_path, recorded_path
from scenes.grid import Grid
from scenes.motion import motion_from_poses
from scenes.render import render
from scenes.route import ROUTE_HALF_WIDTH, resample_route, route_raster
from scenes.scene import Scene

MOVING = 1.0  # mean speed in m/s from which on an ego counts as moving
_START_SPACING = 0.25  # seconds between the moments at which a clip may start


@dataclass(frozen=True)
class Starts:
    """Where clips of one length may begin in a scene: track and track frame, int64 (N, 2), of moving and of standing egos."""

    moving: Tensor
    standing: Tensor


def clip_starts(scene: Scene, seconds: float, lead: float = 0.0) -> Starts:
    """All starts from which on an ego is there for `seconds`, and for `lead` seconds before; moving means 1 m/s or more."""
    before = int(np.ceil(lead / scene.dt - 1e-6))
    span = before + int(np.ceil(seconds / scene.dt - 1e-6))
    egos = torch.tensor(scene.egos, dtype=torch.int64)
    windows = scene.frames - span
    if windows < 1 or not len(egos):
        empty = torch.zeros(0, 2, dtype=torch.int64)
        return Starts(empty, empty)
    valid = scene.tracks.valid[egos].cpu()
    xy = scene.tracks.poses[egos, :, :2].cpu()
    step = (xy[:, 1:] - xy[:, :-1]).norm(dim=-1) * (valid[:, 1:] & valid[:, :-1])
    travelled = torch.nn.functional.pad(step.nan_to_num().cumsum(1), (1, 0))
    speed = (travelled[:, span:] - travelled[:, :windows]) / max(span * scene.dt, 1e-9)
    present = torch.nn.functional.pad(valid.long().cumsum(1), (1, 0))
    throughout = present[:, span + 1 :] - present[:, :windows] == span + 1
    throughout[:, torch.arange(windows) % max(1, round(_START_SPACING / scene.dt)) != 0] = False

    def listed(chosen: Tensor) -> Tensor:
        row, frame = chosen.nonzero(as_tuple=True)
        return torch.stack((egos[row], frame + before), dim=-1)

    return Starts(listed(throughout & (speed >= MOVING)), listed(throughout & (speed < MOVING)))


def nearby_route(route: Tensor, poses: Tensor, grid: Grid) -> Tensor:
    """The stretch of a scene's route (M, 2) that can touch the grid at any of the poses (N, 3), resampled: (K, 2) float64.

    The route raster of this stretch equals the one of the whole route, at a fraction of the work.
    """
    points = resample_route(route, points=max(2, int(_length(route) / 2.0) + 2))
    half = torch.tensor(grid.shape[:2], dtype=torch.float64) * grid.voxel / 2
    reach = float(half.norm() + (half + torch.tensor(grid.origin[:2], dtype=torch.float64)).norm()) + ROUTE_HALF_WIDTH + 2.0
    near = (torch.cdist(points, poses[:, :2].to(points)) < reach).any(1).nonzero().squeeze(1)
    if not len(near):
        return points[:1]
    return points[max(int(near[0]) - 1, 0) : int(near[-1]) + 2]


def _length(route: Tensor) -> float:
    return float((route[1:] - route[:-1]).norm(dim=-1).sum())


class SceneClips(Dataset[dict[str, Any]]):
    """Clips rendered from scenes; item i depends on `seed` and i alone, so a resumed training sees the same clips.

    An item is a dict: `occupancy` uint8 (T, X, Y, Z), every frame in its own ego frame; `motion` float32 (T, 3), its first
    row zero; `route` uint8 (T / k, 2, X, Y), the route raster at frames k - 1, 2k - 1, ... for k = `route_every`, absent
    where that is 0; `source`, the network or recording; `kind`, how the ego path was made.

    Args:
        scenes: where clips come from; each is drawn equally often. Tensors come out on the device of the scenes.
        grid: voxel grid to render.
        dt: seconds between the frames of a clip.
        frames: frames T of a clip.
        length: number of items, which only bounds i.
        seed: chooses another sequence of clips.
        route_every: k above.
        standing: share of the clips in which the ego stands or creeps, where the scene has such.
        counterfactual: share of the clips whose ego leaves its recorded path in the last two seconds, one kind as often as
            another, where the scene has an ego that is there for two seconds longer than a clip.

    Raises ValueError if no scene has an ego that is there for a whole clip.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        grid: Grid,
        dt: float = 0.25,
        frames: int = 16,
        *,
        length: int = 1_000_000,
        seed: int = 0,
        route_every: int = 0,
        standing: float = 0.1,
        counterfactual: float = 0.0,
    ) -> None:
        if route_every < 0 or (route_every and frames % route_every):
            raise ValueError(f"route_every must divide the {frames} frames of a clip, found {route_every}")
        self.grid, self.dt, self.frames, self.length, self.seed = grid, dt, frames, length, seed
        self.route_every, self.standing, self.counterfactual = route_every, standing, counterfactual
        seconds = (frames - 1) * dt
        found = [(scene, clip_starts(scene, seconds), clip_starts(scene, seconds, lead=HORIZON)) for scene in scenes]
        self.scenes = [entry for entry in found if len(entry[1].moving) or len(entry[1].standing)]
        if not self.scenes:
            raise ValueError(f"SceneClips: none of {len(scenes)} scenes has an ego that is there for {seconds:g} s")

    def __len__(self) -> int:
        return self.length

    @property
    def sources(self) -> list[str]:
        """Names of all that clips come from."""
        return [scene.source for scene, *_ in self.scenes]

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene, ego, path = self.drive(index)
        item = {
            "occupancy": render(scene, path.poses, path.times, self.grid, ego),
            "motion": motion_from_poses(path.poses),
            "source": scene.source,
            "kind": str(path.kind),
        }
        if self.route_every:
            item["route"] = self._route(scene, ego, path.poses)
        return item

    def drive(self, index: int) -> tuple[Scene, int, EgoPath]:
        """What item i is rendered from: the scene, the track that is the ego, and its path."""
        if not 0 <= index < self.length:
            raise IndexError(f"SceneClips: item {index} of {self.length}")
        generator = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        scene, starts, early_starts = self.scenes[int(generator.integers(len(self.scenes)))]
        return scene, *self._path(scene, starts, early_starts, generator)

    def _path(self, scene: Scene, starts: Starts, early: Starts, generator: np.random.Generator) -> tuple[int, EgoPath]:
        """An ego of the scene and a path for it."""
        perturbed = generator.random() < self.counterfactual and len(early.moving) + len(early.standing) > 0
        if perturbed:
            starts = early
        wants_standing = generator.random() < self.standing
        pool = starts.standing if (wants_standing and len(starts.standing)) or not len(starts.moving) else starts.moving
        ego, frame = pool[int(generator.integers(len(pool)))].tolist()
        if not perturbed:
            return ego, recorded_path(scene, ego, frame * scene.dt, self.frames, self.dt)
        kind = PERTURBED[int(generator.integers(len(PERTURBED)))]
        return ego, counterfactual_path(scene, ego, frame * scene.dt, self.frames, self.dt, kind, generator)

    def _route(self, scene: Scene, ego: int, poses: Tensor) -> Tensor:
        ends = poses[self.route_every - 1 :: self.route_every]
        stretch = nearby_route(scene.routes[ego], ends, self.grid)
        return route_raster(stretch.expand(len(ends), -1, -1), ends, [scene.static] * len(ends), self.grid)


def split(scenes: Sequence[Scene], held_out: float | Collection[str] = 0.1) -> tuple[list[Scene], list[Scene]]:
    """Scenes to train on and scenes held out, divided by source and never by ego.

    held_out: names of the held-out sources, or their share: then a hash of each name decides, and at least one source falls
    on either side where there are two. Raises ValueError for a name that no scene has.
    """
    sources = sorted({scene.source for scene in scenes})
    if isinstance(held_out, float | int):
        if not 0 <= held_out < 1:
            raise ValueError(f"held_out: expected a share in [0, 1) or names of sources, found {held_out}")
        by_hash = sorted(sources, key=lambda name: hashlib.sha256(name.encode()).digest())
        count = round(held_out * len(sources))
        if held_out > 0 and len(sources) > 1:
            count = min(max(count, 1), len(sources) - 1)
        names = set(by_hash[:count])
    else:
        names = set(held_out)
        if names - set(sources):
            raise ValueError(f"held_out: no scene comes from {sorted(names - set(sources))}; there are {sources}")
    kept = [scene for scene in scenes if scene.source not in names]
    return kept, [scene for scene in scenes if scene.source in names]
