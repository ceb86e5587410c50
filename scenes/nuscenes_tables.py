"""The tables of nuScenes v1.0: key frames of each scene, in order of time, with the pose of the ego.

The table of sensor data holds 2.6 million rows in the whole data set, so tables are read row by row and only what is needed
of them is kept.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenes.motion import planar_pose_of_quaternion

SENSOR = "LIDAR_TOP"  # a key frame's time is its time, and the ego frame of Occ3D is the ego's at that time
_VERSIONS = ("v1.0-trainval", "v1.0-mini", "v1.0-test")
_READ = 1 << 20  # characters read at a time
_BETWEEN = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class KeyFrames:
    """The key frames of one scene in order of time: tokens of the samples, and world poses (T, 3) float64."""

    tokens: tuple[str, ...]
    poses: Tensor


def key_frames(root: str | os.PathLike[str]) -> dict[str, KeyFrames]:
    """Key frames by name of the scene, from the tables in `root`, which holds `v1.0-trainval` or `v1.0-mini` or is one of them.

    A pose is that of the ego when the lidar was read out, which nuScenes takes as the time of the sample. Raises ValueError
    naming the table where one is missing, cut short or does not fit the others.
    """
    folder = _tables(Path(root))
    names = {row["token"]: row["name"] for row in _rows(folder, "scene", "token", "name")}
    samples = {row["token"]: row for row in _rows(folder, "sample", "token", "timestamp", "scene_token")}
    poses = _ego_poses(folder)
    by_scene: dict[str, list[tuple[int, str]]] = {}
    for token, sample in samples.items():
        if sample["scene_token"] not in names:
            raise ValueError(f"{folder / 'scene.json'}: no scene {sample['scene_token']}, which sample {token} is of")
        if token not in poses:
            raise ValueError(f"{folder / 'sample_data.json'}: no key frame of {SENSOR} for sample {token}")
        by_scene.setdefault(names[sample["scene_token"]], []).append((sample["timestamp"], token))
    if not by_scene:
        raise ValueError(f"{folder / 'sample.json'}: no samples")
    found = {}
    for scene, entries in sorted(by_scene.items()):
        tokens = tuple(token for _, token in sorted(entries))
        found[scene] = KeyFrames(tokens, torch.stack([poses[token] for token in tokens]))
    return found


def _tables(root: Path) -> Path:
    for folder in (root, *(root / version for version in _VERSIONS)):
        if (folder / "scene.json").is_file():
            return folder
    raise ValueError(f"{root}: expected the nuScenes tables, scene.json and others, here or in {' or '.join(_VERSIONS)}")


def _ego_poses(folder: Path) -> dict[str, Tensor]:
    """Pose (3,) of the ego by sample token, when the lidar was read out."""
    sensors = {row["token"] for row in _rows(folder, "sensor", "token", "channel") if row["channel"] == SENSOR}
    mounted = _rows(folder, "calibrated_sensor", "token", "sensor_token")
    lidars = {row["token"] for row in mounted if row["sensor_token"] in sensors}
    columns = ("sample_token", "ego_pose_token", "calibrated_sensor_token", "is_key_frame")
    sample_of = {
        row["ego_pose_token"]: row["sample_token"]
        for row in _rows(folder, "sample_data", *columns)
        if row["is_key_frame"] and row["calibrated_sensor_token"] in lidars
    }
    if not sample_of:
        raise ValueError(f"{folder / 'sample_data.json'}: no key frames of {SENSOR}")
    found: dict[str, Tensor] = {}
    for row in _rows(folder, "ego_pose", "token", "translation", "rotation"):
        if row["token"] in sample_of:
            place, turn = (torch.tensor(row[name], dtype=torch.float64) for name in ("translation", "rotation"))
            found[sample_of[row["token"]]] = planar_pose_of_quaternion(place, turn)
    missing = sorted(set(sample_of.values()) - set(found))
    if missing:
        raise ValueError(f"{folder / 'ego_pose.json'}: no pose for sample {missing[0]}, and {len(missing) - 1} more")
    return found


def _rows(folder: Path, table: str, *columns: str) -> Iterator[dict[str, Any]]:
    """The rows of a table, a JSON list of objects, one after another; each is checked for these columns."""
    path = folder / f"{table}.json"
    if not path.is_file():
        raise ValueError(f"{path}: no such table of nuScenes")
    decoder = json.JSONDecoder()
    with open(path, encoding="utf-8") as file:
        text = file.read(_READ)
        start = text.find("[") + 1
        if start == 0:
            raise ValueError(f"{path}: expected a list of rows")
        while True:
            between = _BETWEEN.match(text, start)
            start = between.end() if between else start
            if text.startswith("]", start):
                return
            try:
                row, start = decoder.raw_decode(text, start)
            except json.JSONDecodeError as error:
                more = file.read(_READ)
                if not more:
                    raise ValueError(f"{path}: cut short or no JSON ({error})") from None
                text, start = text[start:] + more, 0
                continue
            if not isinstance(row, dict) or any(column not in row for column in columns):
                raise ValueError(f"{path}: expected rows with {', '.join(columns)}, found {str(row)[:80]}")
            yield row
