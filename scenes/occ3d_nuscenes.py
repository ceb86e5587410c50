"""Occ3D-nuScenes as recordings: `gts/<scene>/<token>/labels.npz` with poses from `annotations.json` or the nuScenes tables."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from scenes.clip import Clip
from scenes.grid import OCC3D, Grid
from scenes.motion import planar_pose_of_quaternion
from scenes.nuscenes_tables import KeyFrames, key_frames
from scenes.occ3d import Mask, clip_from_frames

DT = 0.5  # seconds between key frames
ANNOTATIONS = "annotations.json"


@dataclass(frozen=True)
class Occ3DRecording:
    """One scene of Occ3D-nuScenes, about forty frames; nothing of it is read before `load`.

    Attributes:
        scene: its name.
        folder: folder with a folder for each of its frames.
        frames: tokens and poses of its key frames, None where nothing says them.
        mask: whose mask says what was seen, see `Occ3DFrame.seen`.
    """

    scene: str
    folder: Path
    frames: KeyFrames | None
    mask: Mask = "none"

    @property
    def source(self) -> str:
        """Name of the clip that comes of it."""
        return f"occ3d-nuscenes/{self.scene}"

    @property
    def grid(self) -> Grid:
        """Grid of the clip."""
        return OCC3D

    def load(self) -> Clip:
        """The clip of the whole scene.

        Raises ValueError or FileNotFoundError naming the scene or the file where something is missing or broken.
        """
        if self.frames is None:
            raise ValueError(f"{self.scene}: neither {ANNOTATIONS} nor the nuScenes tables that were read know this scene")
        paths = [self.folder / token / "labels.npz" for token in self.frames.tokens]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{self.scene}: {len(missing)} of {len(paths)} frames are missing, the first is {missing[0]}"
            )
        return clip_from_frames(paths, self.frames.poses, DT, self.source, mask=self.mask)


def recordings(
    root: str | os.PathLike[str],
    nuscenes: str | os.PathLike[str] | None = None,
    split: Literal["train", "val", "all"] = "all",
    mask: Mask = "none",
) -> list[Occ3DRecording]:
    """The scenes under `root`, which holds `gts` and `annotations.json`, in the order of their names.

    nuscenes: folder of the nuScenes tables that poses are taken from; by default they are those of `annotations.json`.
    split: scenes to train on or to validate with, as `annotations.json` divides them, or all that are there.
    Raises ValueError naming the file that is missing or malformed.
    """
    folder = Path(root) / "gts"
    if not folder.is_dir():
        raise ValueError(f"{root}: expected the folder gts of Occ3D-nuScenes, found none")
    path = Path(root) / ANNOTATIONS
    if not path.is_file() and (split != "all" or nuscenes is None):
        wish = "which scenes are for training and which for validation" if split != "all" else "where the ego was"
        otherwise = "; --split all needs none" if split != "all" else "; or give the nuScenes tables with --nuscenes"
        raise ValueError(f"{path}: no such file; Occ3D ships it, and it says {wish}{otherwise}")
    annotations = _annotations(path) if path.is_file() else None
    if split == "all":
        scenes: Collection[str] = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    else:
        scenes = _scenes_of(annotations, f"{split}_split", path)
    if not scenes:
        raise ValueError(f"{folder}: no scenes")
    known = key_frames(nuscenes) if nuscenes is not None else _annotated(annotations, scenes, path)
    return [Occ3DRecording(scene, folder / scene, known.get(scene), mask) for scene in sorted(scenes)]


def _annotations(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: cut short or no JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("scene_infos"), dict):
        raise ValueError(f"{path}: expected an object with 'scene_infos', found {str(content)[:80]}")
    return content


def _scenes_of(annotations: Any, key: str, path: Path) -> list[str]:
    listed = annotations.get(key)
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ValueError(f"{path}: expected a list of scene names '{key}', found {str(listed)[:80]}")
    return sorted(set(listed))


def _annotated(annotations: Any, scenes: Collection[str], path: Path) -> dict[str, KeyFrames]:
    """Key frames of those of the scenes that the annotations know."""
    infos = annotations["scene_infos"]
    return {scene: _frames_of(scene, infos[scene], path) for scene in scenes if scene in infos}


def _frames_of(scene: str, infos: Any, path: Path) -> KeyFrames:
    if not isinstance(infos, dict) or not infos:
        raise ValueError(f"{path}: expected frames of {scene} by token, found {str(infos)[:80]}")
    try:
        order = sorted(infos, key=lambda token: int(infos[token]["timestamp"]))
        poses = [infos[token]["ego_pose"] for token in order]
        place, turn = (
            torch.tensor([pose[name] for pose in poses], dtype=torch.float64) for name in ("translation", "rotation")
        )
        return KeyFrames(tuple(order), planar_pose_of_quaternion(place.reshape(-1, 3), turn.reshape(len(order), 4)))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path}: each frame of {scene} should have a timestamp and an ego_pose of 3 and 4 numbers ({error!r})"
        ) from error
