"""Reading the npz files that voxel labels come in: whole, of the right shape, with class ids that exist."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Collection

import numpy as np

NO_CLASS = 255  # in a table for `mapped`: the data set has no class of this number


def read_arrays(path: str | os.PathLike[str], names: Collection[str], optional: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays `names` of an npz file, and those of `optional` that it has.

    Raises ValueError naming the file if it is not a whole npz archive of plain arrays or lacks one of `names`, and
    FileNotFoundError if there is no file.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise ValueError(f"{path}: no array {missing}; it has {sorted(archive.files)}")
            return {name: archive[name] for name in (*names, *(name for name in optional if name in archive))}
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not a whole npz archive ({error})") from error
    except ValueError as error:
        raise error if str(path) in str(error) else ValueError(f"{path}: not a whole npz archive ({error})") from error


def check_voxels(path: str | os.PathLike[str], name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError naming the file unless the array has this shape and holds whole numbers."""
    if array.shape != shape:
        raise ValueError(f"{path}: {name} should have shape {shape}, found {array.shape}")
    if array.dtype.kind not in "bu" and array.dtype != np.int64:
        raise ValueError(f"{path}: {name} should hold whole numbers from 0 on, found {array.dtype}")


def mapped(path: str | os.PathLike[str], ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Class ids `table[ids]`, uint8; raises ValueError naming the file for an id that the table has no class for (255)."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= len(table):
        raise ValueError(f"{path}: class ids should lie in 0 to {len(table) - 1}, found {low if low < 0 else high}")
    classes = np.take(table, ids)
    if int(classes.max()) == NO_CLASS:
        known = np.flatnonzero(table != NO_CLASS).tolist()
        raise ValueError(f"{path}: class ids should be among {known}, found {int(ids[classes == NO_CLASS][0])}")
    return classes
