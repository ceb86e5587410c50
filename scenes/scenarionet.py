"""Recorded driving, nuScenes, Waymo, nuPlan and Argoverse 2 in ScenarioNet's format, as scenes.

The recording gives tracks, drivable surface and traffic lights; what it lacks is grown as along generated roads, clear of
every place a recorded agent ever was. World coordinates of the scene are metres relative to the ego's first position.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from scenes.grid import CLASS_ID, DRIVABLE
from scenes.grow import grow
from scenes.motion import compose
from scenes.scenarionet_classes import light_state
from scenes.scenarionet_map import ground_raster
from scenes.scenarionet_tracks import read_tracks
from scenes.scene import Lights, Scene, StaticWorld, Tracks, no_lights
from scenes.unpickle import load_pickle

CELL = 0.4  # metres, edge length of a raster cell
MARGIN = 128.0  # metres of world around the recorded ego's path
EGO_REACH = 64.0  # metres from that path within which another vehicle may be the ego, so that its surroundings are known
ROUTE_AHEAD = 60.0  # metres that a route goes straight on where the recording ends
_EGO_CLASSES = tuple(CLASS_ID[name] for name in ("car", "bus", "truck", "motorcycle", "construction_vehicle"))
_EGO_SECONDS, _EGO_METRES = 5.0, 5.0  # how long another vehicle must be seen, and how far it must drive, to be an ego


def recordings(path: Path) -> list[Path]:
    """The recordings (*.pkl) in a folder, or the one that `path` is; ScenarioNet's own index files are none."""
    files = sorted(path.glob("*.pkl")) if path.is_dir() else [path] * (path.suffix == ".pkl" and path.is_file())
    return [file for file in files if not file.name.startswith("dataset_")]


def load_scenario(path: str | os.PathLike[str], cell: float = CELL, seed: int | None = None) -> Scene:
    """The scene recorded in one ScenarioNet file, read through a restricted unpickler.

    cell: edge length of the raster cells in metres. seed: of what is grown, by default from the file's scene id.
    Track 0 is the recorded ego; vehicles that move and stay near it are egos too. Raises ValueError naming the file where
    something is missing, misshapen or not finite, and FileNotFoundError where there is no file.
    """
    recording = load_pickle(path)
    try:
        return _scene(recording, cell, seed, Path(path).stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def scenario_name(path: str | os.PathLike[str]) -> str:
    """Name of the scene that `load_scenario` makes of a file, without making it; errors as there."""
    recording = load_pickle(path)
    try:
        _check(recording)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return _name(recording, Path(path).stem)


def _name(recording: dict[str, Any], stem: str) -> str:
    return str(recording.get("id", stem))


def _scene(recording: Any, cell: float, seed: int | None, stem: str) -> Scene:
    _check(recording)
    metadata = recording["metadata"]
    dt, frames = _clock(metadata)
    origin = _origin(recording)
    tracks = read_tracks(recording, frames, dt, origin)
    name = _name(recording, stem)
    low, shape = _extent(tracks, cell)
    corner = (float(low[0] + origin[0]), float(low[1] + origin[1]))
    ground = ground_raster(recording["map_features"], corner, cell, shape)
    static = _static(ground, (float(low[0]), float(low[1])), cell, tracks, crc32(name.encode()) if seed is None else seed)
    lights = _lights(recording, frames, origin)
    dataset = str(metadata.get("dataset", "recording"))
    return Scene(name, f"{dataset}/{name}", dt, static, tracks, _routes(tracks, dt), lights)


def _check(recording: Any) -> None:
    if not isinstance(recording, dict):
        raise ValueError(f"expected a dict, a scenario of ScenarioNet, found {type(recording).__name__}")
    for key in ("tracks", "metadata", "map_features"):
        if not isinstance(recording.get(key), dict):
            raise ValueError(f"no '{key}' in the recording; it has {sorted(map(str, recording))}")
    if not recording["tracks"]:
        raise ValueError("'tracks' is empty")
    if "sdc_id" not in recording["metadata"]:
        raise ValueError("metadata has no 'sdc_id', the name of the ego's track")


def _clock(metadata: dict[str, Any]) -> tuple[float, int]:
    """Seconds between frames and number of frames, from the recorded time stamps."""
    stamps = metadata.get("ts", metadata.get("timestep"))
    if stamps is None:
        raise ValueError("metadata has no 'ts', the time stamps")
    stamps = np.asarray(stamps, dtype=np.float64)
    if stamps.ndim != 1 or len(stamps) < 2:
        raise ValueError(f"metadata 'ts' should hold two time stamps or more, found shape {stamps.shape}")
    steps = np.diff(stamps)
    dt = float(np.median(steps))
    if not np.isfinite(stamps).all() or dt <= 0 or abs(steps - dt).max() > 0.25 * dt:
        raise ValueError("metadata 'ts' should rise evenly and be finite")
    return round(dt, 3), len(stamps)


def _origin(recording: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Whole metres next to the ego's first position: the origin of the scene's world coordinates, (2,)."""
    ego = recording["tracks"].get(recording["metadata"]["sdc_id"])
    position = np.asarray(ego["state"]["position"], dtype=np.float64) if ego is not None else np.zeros((0, 3))
    usable = position[np.isfinite(position).all(1)] if position.ndim == 2 else position[:0]
    return np.round(usable[0, :2]) if len(usable) else np.zeros(2)


def _extent(tracks: Tracks, cell: float) -> tuple[np.ndarray[Any, Any], tuple[int, int]]:
    """Lower corner (2,) and shape (H, W) of the raster around the recorded ego's path."""
    path = tracks.poses[0, tracks.valid[0], :2].numpy()
    low = np.floor((path.min(0) - MARGIN) / cell) * cell
    size = np.ceil((path.max(0) + MARGIN - low) / cell).astype(int)
    return low, (int(size[0]), int(size[1]))


def _static(ground: Tensor, origin: tuple[float, float], cell: float, tracks: Tracks, seed: int) -> StaticWorld:
    recorded = tuple(name for name in ("driveable_surface", "sidewalk") if bool((ground == CLASS_ID[name]).any()))
    clear = occupied(tracks, origin, cell, tuple(ground.shape)) | (ground == DRIVABLE)
    return grow(ground, origin, cell, seed, clear, recorded)


def occupied(tracks: Tracks, origin: tuple[float, float], cell: float, shape: tuple[int, ...], margin: float = 0.6) -> Tensor:
    """Raster cells, bool (H, W), that the box of any track covers at any frame, widened by `margin` metres on each side."""
    mask = torch.zeros(shape[0] * shape[1], dtype=torch.bool)
    corner = torch.tensor(origin, dtype=torch.float64)
    for poses, valid, size in zip(tracks.poses, tracks.valid, tracks.sizes, strict=True):
        placed = torch.unique((poses[valid] * 20).round(), dim=0) / 20  # a parked car is stamped once
        half = size[:2].to(torch.float64) / 2 + margin
        count = (half * 2 / (0.7 * cell)).ceil().long() + 1
        u, v = (torch.linspace(-float(half[axis]), float(half[axis]), int(count[axis]), dtype=torch.float64) for axis in (0, 1))
        local = torch.stack(torch.meshgrid(u, v, indexing="ij"), dim=-1).reshape(1, -1, 2)
        cos, sin = placed[:, 2:].cos(), placed[:, 2:].sin()
        x = placed[:, :1] + cos * local[..., 0] - sin * local[..., 1]
        y = placed[:, 1:2] + sin * local[..., 0] + cos * local[..., 1]
        i, j = (((values - corner[axis]) / cell).floor().long() for axis, values in ((0, x), (1, y)))
        inside = (i >= 0) & (j >= 0) & (i < shape[0]) & (j < shape[1])
        mask[(i * shape[1] + j)[inside]] = True
    return mask.reshape(shape[0], shape[1])


def _routes(tracks: Tracks, dt: float) -> dict[int, Tensor]:
    """Routes of the recorded ego and of the moving vehicles near it: their own paths, then straight on."""
    reference = tracks.poses[0, tracks.valid[0], :2]
    back = torch.zeros_like(tracks.poses)
    back[..., 0] = -tracks.rear_axle[:, None].to(back)
    axles = compose(tracks.poses, back)
    routes = {}
    for ego in range(len(tracks.ids)):
        seen = tracks.valid[ego].nonzero().squeeze(1)
        path = axles[ego, seen]
        driven = _thinned(path)
        enough = len(seen) * dt >= _EGO_SECONDS and float((driven[1:] - driven[:-1]).norm(dim=-1).sum()) >= _EGO_METRES
        near = float(torch.cdist(driven, reference).min(1).values.max()) <= EGO_REACH
        if ego == 0 or (enough and near and int(tracks.classes[ego]) in _EGO_CLASSES):
            heading = path[-1, 2]
            ahead = torch.arange(2.0, ROUTE_AHEAD + 1.0, 2.0, dtype=torch.float64)[:, None]
            straight = driven[-1] + ahead * torch.stack((heading.cos(), heading.sin()))
            routes[ego] = torch.cat((driven, straight))
    return routes


def _thinned(path: Tensor, spacing: float = 2.0) -> Tensor:
    """Points (M, 2) of a path (N, 3) that lie `spacing` metres or more apart; a standing car's jitter does not count."""
    kept = [path[0, :2]]
    for point in path[:, :2]:
        if float((point - kept[-1]).norm()) >= spacing:
            kept.append(point)
    return torch.stack(kept)


def _lights(recording: dict[str, Any], frames: int, origin: np.ndarray[Any, Any]) -> Lights:
    """Traffic lights at their recorded stop points, facing along the lane they stand on."""
    poses, states = [], []
    for light in (recording.get("dynamic_map_states") or {}).values():
        recorded = (light.get("state") or {}).get("object_state")
        stop = np.asarray(light.get("stop_point", ()), dtype=np.float64).reshape(-1)[:2]
        lanes = recording["map_features"]
        lane = lanes.get(str(light.get("lane"))) or lanes.get(light.get("lane"))
        if recorded is None or len(recorded) != frames or len(stop) != 2 or lane is None or not np.isfinite(stop).all():
            continue  # a light whose place or state the recording leaves out says nothing
        line = np.asarray(lane["polyline"], dtype=np.float64)[:, :2]
        nearest = int(np.linalg.norm(line - stop, axis=1).argmin())
        along = line[min(nearest + 1, len(line) - 1)] - line[max(nearest - 1, 0)]
        poses.append([*(stop - origin), float(np.arctan2(along[1], along[0]))])
        states.append([light_state(state) for state in recorded])
    if not poses:
        return no_lights(frames)
    return Lights(torch.tensor(poses, dtype=torch.float64), torch.tensor(states, dtype=torch.uint8))
