"""What a driving scene is: a static world, the tracks of the agents in it, and where their routes lead."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scenes.grid import CLASSES, FREE
from scenes.motion import compose, interpolate
from scenes.widen import widen


@dataclass(frozen=True)
class StaticWorld:
    """All that does not move, as rasters in world coordinates: cell (i, j) covers origin + [(i, j), (i + 1, j + 1)) * cell.

    Attributes:
        origin: world position (x, y) of the raster's lower corner, metres.
        cell: edge length of a raster cell, metres.
        ground: class id of the surface at height 0, uint8 (H, W), axis 0 along world x; free where unknown.
        standing: class id of the things that stand on it, uint8 (L, H, W), one layer over the other; free where none.
        bottom: height of their lower end above ground, decimetres, uint8 (L, H, W).
        top: height of their upper end above ground, decimetres, uint8 (L, H, W).
        recorded: names of the classes (of `CLASSES`) that come from a recording or from the simulator's network.
        grown: names of the classes that were grown procedurally.
    """

    origin: tuple[float, float]
    cell: float
    ground: Tensor
    standing: Tensor
    bottom: Tensor
    top: Tensor
    recorded: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.ground.ndim != 2 or self.standing.shape[1:] != self.ground.shape:
            raise ValueError(
                f"StaticWorld: ground {tuple(self.ground.shape)} and standing {tuple(self.standing.shape)} do not fit"
            )
        if not self.standing.shape == self.bottom.shape == self.top.shape:
            raise ValueError("StaticWorld: standing, bottom and top must have one shape")
        for name in ("ground", "standing", "bottom", "top"):
            if getattr(self, name).dtype != torch.uint8:
                raise ValueError(f"StaticWorld.{name}: expected uint8, found {getattr(self, name).dtype}")

    def to(self, device: torch.device | str) -> StaticWorld:
        """The same world with its rasters on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ("ground", "standing", "bottom", "top")})

    def cells(self, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raster indices i, j of world points xy (..., 2), clamped, and which of the points lie inside the raster."""
        corner = torch.tensor(self.origin, dtype=xy.dtype, device=xy.device)
        index = ((xy - corner) / self.cell).floor().long()
        size = torch.tensor(self.ground.shape, device=xy.device)
        inside = ((index >= 0) & (index < size)).all(-1)
        index = index.clamp(min=0).minimum(size - 1)
        return index[..., 0], index[..., 1], inside

    def shown(self, cell: Tensor, voxel: float) -> Iterator[Tensor]:
        """For each layer the cells that voxel columns show whose middles are in `cell`, both flat indices.

        They are these cells themselves, or, beside a thing that is thinner than a voxel of this edge length in metres, that
        thing: it is widened to a voxel.
        """
        width, columns = math.ceil(voxel / self.cell - 1e-6), self.ground.shape[1]
        if width == 1:
            yield from [cell] * len(self.standing)
            return
        if width not in self._widened:
            self._widened[width] = widen(self.standing, width).flatten(1)
        back = torch.arange(width, device=cell.device)
        steps = (back[:, None] * columns + back).flatten()
        for codes in self._widened[width]:
            yield cell - steps[codes[cell].int()]

    @cached_property
    def _widened(self) -> dict[int, Tensor]:
        """By number of cells, see `widen`; made when first asked for."""
        return {}


@dataclass(frozen=True)
class Tracks:
    """Agents over time, A of them at T frames.

    Attributes:
        ids: name of each agent in its source.
        classes: class id of each, uint8 (A,).
        sizes: length, width, height, metres, float32 (A, 3).
        rear_axle: how far the rear axle lies behind the centre of the box, metres, float32 (A,). The ego frame of an
            agent sits on its rear axle, on the ground, x forward, as the ego frame of nuScenes does.
        poses: centre of the box and heading in world coordinates, float64 (A, T, 3).
        valid: whether the agent is there at that frame, bool (A, T).
    """

    ids: tuple[str, ...]
    classes: Tensor
    sizes: Tensor
    rear_axle: Tensor
    poses: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        agents, frames = self.valid.shape
        expected = {"classes": (agents,), "sizes": (agents, 3), "rear_axle": (agents,), "poses": (agents, frames, 3)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Tracks.{name}: expected shape {shape}, found {tuple(getattr(self, name).shape)}")
        if len(self.ids) != agents:
            raise ValueError(f"Tracks.ids: expected {agents} names, found {len(self.ids)}")
        if agents and int(self.classes.max()) >= len(CLASSES) - 1:
            raise ValueError(f"Tracks.classes: expected ids below {FREE}, found {int(self.classes.max())}")
        if not bool(torch.isfinite(self.poses[self.valid]).all()):
            raise ValueError("Tracks.poses: found NaN or infinity at a valid frame")

    def to(self, device: torch.device | str) -> Tracks:
        """The same tracks on another device."""
        moved = (getattr(self, name).to(device) for name in ("classes", "sizes", "rear_axle", "poses", "valid"))
        return Tracks(self.ids, *moved)


@dataclass(frozen=True)
class Lights:
    """Traffic lights: state of each stop line over time.

    Attributes:
        poses: middle of each stop line and direction of travel across it, world coordinates, float64 (L, 3).
        states: 0 unknown, 1 red, 2 yellow, 3 green, uint8 (L, T).
    """

    poses: Tensor
    states: Tensor


def no_lights(frames: int) -> Lights:
    """Lights of a scene whose source knows none."""
    return Lights(torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, frames, dtype=torch.uint8))


@dataclass(frozen=True)
class Scene:
    """One place and a stretch of time: every ego path through it is another clip.

    Attributes:
        name: unique in its source; splits are made by `source`, never by ego.
        source: the network or recording it comes from, for example "sumo/17" or "nuscenes/scene-1077".
        dt: seconds between track frames.
        static: what does not move.
        tracks: what moves.
        routes: for each track that can be the ego, the road its task leads along: world points float64 (M, 2), about 2 m apart.
        lights: what traffic lights show.
        recipe: arguments of `scenes.sumo.make_scene` that made it, numbers and strings by name; None for any other scene.
    """

    name: str
    source: str
    dt: float
    static: StaticWorld
    tracks: Tracks
    routes: dict[int, Tensor]
    lights: Lights = field(default_factory=lambda: no_lights(0))
    recipe: Mapping[str, Any] | None = None

    @property
    def frames(self) -> int:
        """Number of track frames."""
        return int(self.tracks.valid.shape[1])

    @property
    def duration(self) -> float:
        """Seconds from the first track frame to the last."""
        return (self.frames - 1) * self.dt

    @property
    def egos(self) -> tuple[int, ...]:
        """Tracks that can be the ego: those with a route."""
        return tuple(sorted(self.routes))

    def to(self, device: torch.device | str) -> Scene:
        """The same scene with rasters, tracks and routes on another device."""
        routes = {ego: route.to(device) for ego, route in self.routes.items()}
        return replace(self, static=self.static.to(device), tracks=self.tracks.to(device), routes=routes)

    def ego_poses(self, ego: int, times: Tensor) -> Tensor:
        """World poses (N, 3) float64 of the ego frame (rear axle) of track `ego` at times (N,) in seconds."""
        centre = interpolate(self.tracks.poses[ego], times.to(self.tracks.poses.device, torch.float64) / self.dt)
        back = torch.zeros_like(centre)
        back[..., 0] = -self.tracks.rear_axle[ego].to(centre)
        return compose(centre, back)

    def ego_span(self, ego: int) -> tuple[float, float]:
        """First and last time in seconds of the longest stretch in which track `ego` is there throughout."""
        valid = self.tracks.valid[ego].tolist()
        best, start = (0, 0), None
        for frame, there in enumerate([*valid, False]):
            if there and start is None:
                start = frame
            elif not there and start is not None:
                best = max(best, (start, frame - 1), key=lambda span: span[1] - span[0])
                start = None
        return best[0] * self.dt, best[1] * self.dt
