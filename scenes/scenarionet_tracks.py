"""The tracks of a recording in ScenarioNet's format: checked, completed and turned into `Tracks`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from scenes.grid import CLASS_ID, CLASSES
from scenes.scenarionet_classes import DEFAULT_SIZES, SIZE_BOUNDS, class_of
from scenes.scenarionet_nuscenes import CENTRE_AHEAD, SIZE, place_ego, smooth
from scenes.scene import Tracks

REAR_AXLE_SHARE = 0.28  # of a vehicle's length that its rear axle lies behind the middle of its box
STILL = 0.5  # metres within which a thing that does not move is seen
LONGEST_GAP = 1.0  # seconds of occlusion that are closed by interpolation
_FIXTURES = ("barrier", "traffic_cone")

Array = np.ndarray[Any, Any]


@dataclass
class Track:
    """One checked track: class id, size (3,), centre pose (T, 3) and validity (T,), still as numpy arrays."""

    name: str
    class_id: int
    size: Array
    rear_axle: float
    poses: Array
    valid: Array


def read_tracks(recording: dict[str, Any], frames: int, dt: float, origin: Array) -> Tracks:
    """Tracks of a recording with the recorded ego first; poses (A, T, 3) are relative to the world point `origin` (2,).

    Raises ValueError, naming the track, for missing or misshapen arrays and for NaN at a valid frame. Tracks that are never
    valid are left out; gaps of a second or less are closed; barriers and cones that never move are there at all times.
    """
    metadata = recording["metadata"]
    ego, dataset = str(metadata["sdc_id"]), str(metadata.get("dataset", ""))
    named = {str(name): track for name, track in recording["tracks"].items()}
    if ego not in named:
        raise ValueError(f"the ego's track '{ego}' is not among the {len(named)} tracks")
    order = [ego, *(name for name in named if name != ego)]
    tracks = [_read(name, named[name], frames, dt, origin) for name in order]
    found = [track for track in tracks if track is not None]
    if not found or found[0].name != ego:
        raise ValueError(f"the ego's track '{ego}' is valid at no frame")
    if dataset == "nuscenes":
        found[0].size, found[0].rear_axle = np.array(SIZE), CENTRE_AHEAD
        found[0].poses = place_ego(found[0].poses, dt)
        for track in found[1:]:
            track.poses = smooth(track.poses, track.valid)
    return Tracks(
        ids=tuple(track.name for track in found),
        classes=torch.tensor([track.class_id for track in found], dtype=torch.uint8),
        sizes=torch.from_numpy(np.stack([track.size for track in found]).astype(np.float32)),
        rear_axle=torch.tensor([track.rear_axle for track in found], dtype=torch.float32),
        poses=torch.from_numpy(np.stack([track.poses for track in found])),
        valid=torch.from_numpy(np.stack([track.valid for track in found])),
    )


def _read(name: str, track: dict[str, Any], frames: int, dt: float, origin: Array) -> Track | None:
    state = track.get("state") if isinstance(track, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"track '{name}' has no 'state'")
    valid = _column(name, state, "valid", frames) > 0.5
    if not valid.any():
        return None
    position = _array(name, state, "position", frames)[:, :2] - origin
    heading = _column(name, state, "heading", frames)
    poses = np.concatenate((position, heading[:, None]), axis=1)
    if not np.isfinite(poses[valid]).all():
        frame = int(np.flatnonzero(valid & ~np.isfinite(poses).all(1))[0])
        raise ValueError(f"track '{name}': position or heading is not finite at frame {frame}, which is marked valid")
    size = np.array([np.median(_column(name, state, key, frames)[valid]) for key in ("length", "width", "height")])
    category = (track.get("metadata") or {}).get("type")
    class_id = class_of(track.get("type"), category, float(size[0]), float(size[2]))
    default = np.array(DEFAULT_SIZES[CLASSES[class_id]])
    low, high = np.array(SIZE_BOUNDS).T
    size = np.where(np.isfinite(size) & (size >= low), np.minimum(size, high), default)
    poses, valid = _completed(poses, valid, round(LONGEST_GAP / dt), CLASSES[class_id] in _FIXTURES)
    wheeled = class_id not in (CLASS_ID["pedestrian"], *(CLASS_ID[fixture] for fixture in _FIXTURES), CLASS_ID["others"])
    return Track(name, class_id, size, REAR_AXLE_SHARE * float(size[0]) if wheeled else 0.0, poses, valid)


def _completed(poses: Array, valid: Array, longest: int, fixture: bool) -> tuple[Array, Array]:
    """Poses (T, 3) at every frame, held or interpolated where invalid, and validity (T,) with short gaps closed."""
    index = np.flatnonzero(valid)
    unwrapped = np.unwrap(poses[index, 2])
    every = np.arange(len(valid))
    columns = [np.interp(every, index, values) for values in (poses[index, 0], poses[index, 1], unwrapped)]
    full = np.stack(columns, axis=-1)
    spread = np.ptp(poses[index, :2], axis=0).max()
    if fixture and spread < STILL:
        return full, np.ones_like(valid)
    closed = valid.copy()
    for before, after in pairwise(index):
        if after - before <= longest:
            closed[before:after] = True
    return full, closed


def _array(name: str, state: dict[str, Any], key: str, frames: int) -> Array:
    if key not in state:
        raise ValueError(f"track '{name}' has no '{key}'")
    values = np.asarray(state[key])
    if values.dtype.kind not in "biuf":
        raise ValueError(f"track '{name}': '{key}' should hold numbers, found {values.dtype}")
    if values.ndim == 0 or len(values) != frames:
        raise ValueError(f"track '{name}': '{key}' should have {frames} rows, one a time step, found shape {values.shape}")
    values = values.astype(np.float64).reshape(frames, -1)
    if key == "position" and values.shape[1] < 2:
        raise ValueError(f"track '{name}': 'position' should have two or three columns, found {values.shape[1]}")
    return values


def _column(name: str, state: dict[str, Any], key: str, frames: int) -> Array:
    values = _array(name, state, key, frames)
    if values.shape[1] != 1:
        raise ValueError(f"track '{name}': '{key}' should be one number a time step, found {values.shape[1]}")
    return values[:, 0]
