"""Occ3D-Waymo as recordings: `<split>/<scene>/<frame>_04.npz`, 20 s of driving at 10 Hz in voxels of 0.4 m."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from scenes.clip import Clip
from scenes.grid import OCC3D, OCC3D_WAYMO, Grid
from scenes.label_file import NO_CLASS, check_voxels, mapped, read_arrays
from scenes.label_sets import to_occ3d
from scenes.motion import motion_from_poses, planar_pose
from scenes.occ3d import Mask
from scenes.unpickle import load_pickle

DT = 0.1  # seconds between frames
FREE_AS_STORED = 23
SPLITS = {"train": "training", "val": "validation"}
Classes = Literal["waymo", "occ3d"]
_SUFFIX = "_04.npz"
_POSE_FILES = {"training": "cam_infos.pkl", "validation": "cam_infos_vali.pkl"}
_POSE_FILE_BYTES = 8 << 30
_MASKS: dict[Mask, tuple[str, ...]] = {
    "none": (),
    "lidar": ("origin_voxel_state",),
    "camera": ("final_voxel_state", "infov"),  # the five cameras do not look back
}


def _table(ids: list[int]) -> np.ndarray:
    """From the stored id to the class: 0 to 14, and free as 23 in the files or 15 in the documentation."""
    table = np.full(FREE_AS_STORED + 1, NO_CLASS, dtype=np.uint8)
    table[: len(ids)] = ids
    table[FREE_AS_STORED] = ids[-1]
    return table


_TABLES = {
    "waymo": _table(list(range(OCC3D_WAYMO.num_classes))),
    "occ3d": _table(to_occ3d(torch.arange(OCC3D_WAYMO.num_classes), OCC3D_WAYMO).tolist()),
}


@dataclass(frozen=True)
class Occ3DWaymoRecording:
    """One scene of Occ3D-Waymo; nothing of it is read before `load`.

    Attributes:
        folder: the scene's folder, in that of its split.
        classes: "waymo" keeps the 16 classes of the release, "occ3d" maps them to the 18 of Occ3D-nuScenes.
        mask: whose mask says what was seen, see `Occ3DFrame.seen`; the camera's is its own and that of the field of view.
        poses: the pickle of the release with the poses, for frames that do not bring their own.
    """

    folder: Path
    classes: Classes = "waymo"
    mask: Mask = "none"
    poses: Path | None = None

    @property
    def source(self) -> str:
        """Name of the clip that comes of it."""
        return f"occ3d-waymo/{self.folder.parent.name}/{self.folder.name}"

    @property
    def grid(self) -> Grid:
        """Grid of the clip."""
        return OCC3D_WAYMO if self.classes == "waymo" else OCC3D

    def load(self) -> Clip:
        """The clip of the whole scene; raises ValueError naming the file that is missing, cut short or malformed."""
        paths = sorted(self.folder.glob(f"*{_SUFFIX}"))
        if not paths:
            raise ValueError(f"{self.folder}: no frames (*{_SUFFIX})")
        for number, path in enumerate(paths):
            if path.name != f"{number:03d}{_SUFFIX}":
                raise ValueError(f"{self.folder}: frame {number:03d}{_SUFFIX} is missing, found {path.name} in its place")
        frames = [self._frame(path, number) for number, path in enumerate(paths)]
        poses = planar_pose(torch.stack([pose for _, pose in frames]))
        return Clip(torch.stack([occupancy for occupancy, _ in frames]), motion_from_poses(poses), DT, self.source)

    def _frame(self, path: Path, number: int) -> tuple[Tensor, Tensor]:
        """Class ids (X, Y, Z) of a frame, and the transform (4, 4) from its ego frame to the world."""
        names = ("voxel_label", *_MASKS[self.mask])
        arrays = read_arrays(path, names, optional=("ego2global",))
        for name in names:
            check_voxels(path, name, arrays[name], self.grid.shape)
        occupancy = mapped(path, arrays["voxel_label"], _TABLES[self.classes])
        for name in _MASKS[self.mask]:
            occupancy[arrays[name] == 0] = self.grid.free
        transform = arrays.get("ego2global")
        if transform is None:
            transform = self._pose_from_file(path, number)
        if transform.shape != (4, 4) or not np.isfinite(transform).all():
            raise ValueError(f"{path}: expected a finite ego2global of shape (4, 4), found {transform.shape}")
        return torch.from_numpy(occupancy), torch.from_numpy(np.array(transform, dtype=np.float64))

    def _pose_from_file(self, path: Path, number: int) -> np.ndarray:
        if self.poses is None:
            wanted = _POSE_FILES.get(self.folder.parent.name, "cam_infos.pkl")
            raise ValueError(f"{path}: no array ego2global, and no {wanted} beside the splits that says where the ego was")
        try:
            return np.asarray(_pose_file(self.poses)[int(self.folder.name)][number][0]["ego2global"], dtype=np.float64)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{self.poses}: no ego2global of scene {self.folder.name}, frame {number} ({error!r})") from error


def recordings(
    root: str | os.PathLike[str],
    split: Literal["train", "val", "all"] = "all",
    classes: Classes = "waymo",
    mask: Mask = "none",
) -> list[Occ3DWaymoRecording]:
    """The scenes under `root`, the folder that holds `training` and `validation` (or `voxel04`, which holds them).

    Raises ValueError if the folder of a split has no scenes.
    """
    base = Path(root) / "voxel04" if (Path(root) / "voxel04").is_dir() else Path(root)
    found = []
    for name, folder in SPLITS.items():
        if split not in (name, "all"):
            continue
        scenes = sorted(entry for entry in (base / folder).glob("*") if entry.is_dir())
        if not scenes and split != "all":
            raise ValueError(f"{base / folder}: expected scenes of Occ3D-Waymo (<scene>/<frame>{_SUFFIX}), found none")
        files = [place / _POSE_FILES[folder] for place in (base, Path(root)) if (place / _POSE_FILES[folder]).is_file()]
        found += [Occ3DWaymoRecording(scene, classes, mask, files[0] if files else None) for scene in scenes]
    if not found:
        raise ValueError(f"{root}: expected the folders {' and '.join(SPLITS.values())} of Occ3D-Waymo, found neither")
    return found


@lru_cache(maxsize=1)
def _pose_file(path: Path) -> Any:
    return load_pickle(path, max_bytes=_POSE_FILE_BYTES)
