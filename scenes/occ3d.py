"""Frames of the Occ3D ground truth, `gts/<scene>/<token>/labels.npz`: what sensors saw of the world, with masks that say so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from scenes.clip import Clip
from scenes.grid import OCC3D, Grid
from scenes.label_file import check_voxels, mapped, read_arrays
from scenes.motion import motion_from_poses

Mask = Literal["none", "lidar", "camera"]  # whose mask says what was seen; what was not becomes free
_ARRAYS = ("semantics", "mask_lidar", "mask_camera")


@dataclass(frozen=True)
class Occ3DFrame:
    """One frame in its own ego frame.

    Attributes:
        semantics: class ids uint8 (X, Y, Z), free where nothing was seen or nothing is.
        mask_lidar: voxels that the lidar's rays reached, bool (X, Y, Z).
        mask_camera: voxels that some camera saw, bool (X, Y, Z).
    """

    semantics: Tensor
    mask_lidar: Tensor
    mask_camera: Tensor

    def seen(self, mask: Mask, free: int) -> Tensor:
        """Class ids with all that the sensor of `mask` did not see set to `free`; "none" leaves them as they are."""
        if mask == "none":
            return self.semantics
        return self.semantics.masked_fill(~(self.mask_lidar if mask == "lidar" else self.mask_camera), free)


def load_frame(path: str | os.PathLike[str], grid: Grid = OCC3D) -> Occ3DFrame:
    """Read one `labels.npz`.

    Raises ValueError naming the file if it is not a whole npz archive, lacks one of the three arrays, or holds another shape,
    another type or a class id that `grid` does not have; FileNotFoundError if there is no file.
    """
    arrays = read_arrays(path, _ARRAYS)
    for name, array in arrays.items():
        check_voxels(path, name, array, grid.shape)
    semantics = mapped(path, arrays["semantics"], np.arange(grid.num_classes, dtype=np.uint8))
    return Occ3DFrame(
        semantics=torch.from_numpy(semantics),
        mask_lidar=torch.from_numpy(arrays["mask_lidar"] != 0),
        mask_camera=torch.from_numpy(arrays["mask_camera"] != 0),
    )


def find_frames(root: str | os.PathLike[str]) -> dict[str, dict[str, Path]]:
    """Files of the frames under `root`, the folder that holds `gts` or `gts` itself: scene -> token -> path of labels.npz.

    Both come in the order of their names, which for tokens is not that of time. Raises ValueError if there are no frames.
    """
    folder = Path(root)
    folder = folder / "gts" if (folder / "gts").is_dir() else folder
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*/*/labels.npz")):
        found.setdefault(path.parts[-3], {})[path.parts[-2]] = path
    if not found:
        raise ValueError(f"{root}: no frames gts/<scene>/<token>/labels.npz")
    return found


def clip_from_frames(
    paths: Sequence[str | os.PathLike[str]],
    poses: Tensor,
    dt: float,
    source: str,
    grid: Grid = OCC3D,
    mask: Mask = "none",
) -> Clip:
    """A clip of the frames at `paths`, in order and `dt` seconds apart, seen from world poses (T, 3) of the rear axle.

    mask: see `Occ3DFrame.seen`.
    """
    if not paths or poses.shape != (len(paths), 3):
        raise ValueError(f"poses: expected one pose (x, y, yaw) for each of {len(paths)} frames, found {tuple(poses.shape)}")
    if not bool(torch.isfinite(poses).all()):
        raise ValueError("poses: found NaN or infinity")
    occupancy = torch.stack([load_frame(path, grid).seen(mask, grid.free) for path in paths])
    return Clip(occupancy, motion_from_poses(poses), dt, source)
