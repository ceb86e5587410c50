"""Frames of the Occ3D ground truth, `gts/<scene>/<token>/labels.npz`: what sensors saw of the world, with masks that say so."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scenes.clip import Clip
from scenes.grid import OCC3D, Grid
from scenes.motion import motion_from_poses

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


def load_frame(path: str | os.PathLike[str], grid: Grid = OCC3D) -> Occ3DFrame:
    """Read one `labels.npz`.

    Raises ValueError naming the file if it is not a whole npz archive, lacks one of the three arrays, or holds another shape,
    another type or a class id that `grid` does not have; FileNotFoundError if there is no file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in _ARRAYS if name not in archive]
            if missing:
                raise ValueError(f"{path}: no array {missing}; it has {sorted(archive.files)}")
            arrays = {name: archive[name] for name in _ARRAYS}
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a whole npz archive ({error})") from error
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: not a whole npz archive ({error})") from error
    for name, array in arrays.items():
        if array.shape != grid.shape:
            raise ValueError(f"{path}: {name} should have shape {grid.shape}, found {array.shape}")
        if array.dtype.kind not in "bu" and array.dtype != np.int64:
            raise ValueError(f"{path}: {name} should hold whole numbers from 0 on, found {array.dtype}")
    low, high = int(arrays["semantics"].min()), int(arrays["semantics"].max())
    if low < 0 or high >= grid.num_classes:
        raise ValueError(f"{path}: class ids should lie in 0 to {grid.num_classes - 1}, found {low if low < 0 else high}")
    return Occ3DFrame(
        semantics=torch.from_numpy(arrays["semantics"].astype(np.uint8)),
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
    paths: Sequence[str | os.PathLike[str]], poses: Tensor, dt: float, source: str, grid: Grid = OCC3D
) -> Clip:
    """A clip of the frames at `paths`, in order and `dt` seconds apart, seen from world poses (T, 3) of the rear axle."""
    if not paths or poses.shape != (len(paths), 3):
        raise ValueError(f"poses: expected one pose (x, y, yaw) for each of {len(paths)} frames, found {tuple(poses.shape)}")
    if not bool(torch.isfinite(poses).all()):
        raise ValueError("poses: found NaN or infinity")
    occupancy = torch.stack([load_frame(path, grid).semantics for path in paths])
    return Clip(occupancy, motion_from_poses(poses), dt, source)
