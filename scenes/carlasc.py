"""CarlaSC as recordings: voxel labels of three minutes of driving at 10 Hz in the simulator CARLA, with the poses of the lidar.

CARLA's frames are left-handed, y to the right; here axis 1 is turned over and poses are mirrored, so that y is left.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from scenes.clip import Clip
from scenes.grid import CARLASC, Grid
from scenes.label_file import mapped
from scenes.motion import motion_from_poses, planar_pose

DT = 0.1  # seconds between frames
SPLITS = {"train": "Train", "val": "Val", "test": "Test"}
_BOUNDS = ((-25.6, -25.6, -2.0), (25.6, 25.6, 1.0))  # metres, in the frame of the lidar
_FRAMES = "cartesian/evaluation"

_ID = {name: index for index, name in enumerate(CARLASC.classes)}
# CARLA's 23 tags to the 12 classes that DynamicCity trains on; CARLA counts bicycles among the vehicles.
_RAW = (
    *("free", "building", "barrier", "other", "pedestrian", "pole", "road", "road", "sidewalk", "vegetation", "vehicle"),
    *("barrier", "pole", "other", "ground", "other", "other", "barrier", "pole", "other", "other", "other", "ground"),
)
_TABLE = np.array([_ID[name] for name in _RAW], dtype=np.uint8)


@dataclass(frozen=True)
class CarlaSCRecording:
    """One sequence of CarlaSC; nothing of it is read before `load`.

    Attributes:
        folder: the sequence's folder, which holds `cartesian`.
        split: name of the split it belongs to.
    """

    folder: Path
    split: str

    @property
    def source(self) -> str:
        """Name of the clip that comes of it."""
        return f"carlasc/{self.split}/{self.folder.name}"

    @property
    def grid(self) -> Grid:
        """Grid of the clip."""
        return CARLASC

    def load(self) -> Clip:
        """The clip of the whole sequence; raises ValueError naming the file that is missing, cut short or malformed."""
        frames = self.folder / _FRAMES
        paths = sorted(frames.glob("*.label"))
        if not paths:
            raise ValueError(f"{frames}: no frames (*.label)")
        for number, path in enumerate(paths):
            if path.stem != f"{number:06d}":
                raise ValueError(f"{frames}: frame {number:06d}.label is missing, found {path.name} in its place")
        _check_bounds(frames / "params.json")
        poses = _read_poses(self.folder / "cartesian" / "poses.txt", len(paths))
        occupancy = torch.stack([read_labels(path) for path in paths])
        return Clip(occupancy, motion_from_poses(poses), DT, self.source)


def recordings(root: str | os.PathLike[str], split: Literal["train", "val", "test", "all"] = "all") -> list[CarlaSCRecording]:
    """The sequences under `root`, the folder that holds Train, Val and Test, in the order of their names.

    Raises ValueError if the folder of a split is missing or has no sequences.
    """
    chosen = [name for name in SPLITS if split in (name, "all")]
    found = []
    for name in chosen:
        folder = Path(root) / SPLITS[name]
        sequences = sorted(path.parents[1] for path in folder.glob(f"*/{_FRAMES}") if path.is_dir())
        if not sequences and split != "all":
            raise ValueError(f"{folder}: expected CarlaSC's sequences (<sequence>/{_FRAMES}), found none")
        found += [CarlaSCRecording(sequence, name) for sequence in sequences]
    if not found:
        raise ValueError(f"{root}: expected CarlaSC's folders {', '.join(SPLITS.values())} with sequences, found none")
    return found


def read_labels(path: str | os.PathLike[str]) -> Tensor:
    """Class ids on `CARLASC`, uint8 (128, 128, 8), of one `.label` file: CARLA's 23 tags as uint32.

    Raises ValueError naming the file if its size is another or a tag is unknown.
    """
    expected = 4 * int(np.prod(CARLASC.shape))
    size = os.path.getsize(path)
    if size != expected:
        raise ValueError(f"{path}: expected {expected} bytes, uint32 of shape {CARLASC.shape}, found {size}")
    raw = np.fromfile(path, dtype="<u4").reshape(CARLASC.shape)
    return torch.from_numpy(np.ascontiguousarray(mapped(path, raw, _TABLE)[:, ::-1]))


def _check_bounds(path: Path) -> None:
    """The grid is fixed, so a release with other bounds must not be taken for it."""
    if not path.is_file():
        return
    try:
        params = json.loads(path.read_text(encoding="utf-8"))
        shape = tuple(int(size) for size in params["grid_size"])
        bounds = np.array([params["min_bound"], params["max_bound"]], dtype=np.float64)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected grid_size, min_bound and max_bound ({error!r})") from error
    if shape != CARLASC.shape or bounds.shape != (2, 3) or not np.allclose(bounds, _BOUNDS, atol=1e-3):
        raise ValueError(f"{path}: expected {CARLASC.shape} voxels within {_BOUNDS}, found {shape} within {bounds.tolist()}")


def _read_poses(path: Path, frames: int) -> Tensor:
    """World poses (T, 3), y to the left, from rows of 12 numbers: 3 x 4 transforms to the first frame."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it says where the ego was")
    try:
        rows = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path}: expected rows of 12 numbers ({error})") from error
    if rows.shape[1] != 12 or len(rows) < frames:
        raise ValueError(f"{path}: expected {frames} rows of 12 numbers, found {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{path}: found NaN or infinity")
    mirrored = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    return planar_pose(torch.from_numpy(rows[:frames].reshape(frames, 3, 4))) * mirrored
