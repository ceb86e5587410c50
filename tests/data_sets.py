"""Folders in the layout of the voxel data sets, filled with drives through the bundled scenes."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from scenes.dataset import SceneClips
from scenes.grid import FREE, Grid
from scenes.motion import motion_from_poses
from scenes.render import render
from scenes.scene_file import load_scenes

SCENES = Path(__file__).resolve().parents[1] / "occworld_env" / "data"


@dataclass(frozen=True)
class Drive:
    """Frames (T, X, Y, Z) uint8 in the classes of Occ3D-nuScenes, and where the ego was, (T, 3) float64."""

    occupancy: Tensor
    poses: Tensor

    @property
    def motion(self) -> Tensor:
        """Motion (T, 3) float32."""
        return motion_from_poses(self.poses)


@lru_cache(maxsize=8)
def drives(grid: Grid, dt: float, frames: int, count: int = 2) -> tuple[Drive, ...]:
    """Drives through the bundled scenes, placed far from the origin and turned, as recordings are."""
    clips = SceneClips(load_scenes(SCENES)[:2], grid, dt, frames, standing=0.0)
    found = []
    for number in range(count):
        scene, ego, path = clips.drive(number)
        occupancy = render(scene, path.poses, path.times, grid, ego)
        found.append(Drive(occupancy, path.poses + torch.tensor([600.0, 1600.0, 0.0], dtype=torch.float64)))
    return tuple(found)


def transform(pose: Tensor, tilt: float = 0.02) -> np.ndarray:
    """The transform (4, 4) of a planar pose (3,), on a road that climbs and leans by `tilt` radians."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("ZYX", [float(pose[2]), tilt, -tilt]).as_matrix()
    matrix[:3, 3] = (float(pose[0]), float(pose[1]), 0.7)
    return matrix


def _pose_fields(pose: Tensor) -> dict[str, Any]:
    matrix = transform(pose)
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return {"translation": matrix[:3, 3].tolist(), "rotation": [w, x, y, z]}


def write_labels(path: Path, semantics: np.ndarray) -> None:
    """One frame of Occ3D-nuScenes: the lidar saw what is ahead, the cameras half of that."""
    mask_lidar = np.zeros(semantics.shape, dtype=np.uint8)
    mask_lidar[100:] = 1
    mask_camera = np.zeros_like(mask_lidar)
    mask_camera[150:] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, semantics=semantics, mask_lidar=mask_lidar, mask_camera=mask_camera)


def token(scene: str, frame: int) -> str:
    """A token whose order is not that of time, as in nuScenes."""
    return f"{(frame * 7919 + 13) % 101:028x}{scene[-4:]}"


def write_occ3d(root: Path, scenes: dict[str, Drive], val: tuple[str, ...] = ()) -> None:
    """`gts` and `annotations.json` of Occ3D-nuScenes; the scenes `val` are for validation."""
    infos: dict[str, Any] = {}
    for name, drive in scenes.items():
        infos[name] = {}
        tokens = [token(name, frame) for frame in range(len(drive.poses))]
        for frame, key in enumerate(tokens):
            write_labels(root / "gts" / name / key / "labels.npz", drive.occupancy[frame].numpy())
            infos[name][key] = {
                "timestamp": str(1_532_402_927_647_951 + 500_000 * frame),
                "camera_sensor": {},
                "ego_pose": _pose_fields(drive.poses[frame]),
                "gt_path": f"gts/{name}/{key}/labels.npz",
                "prev": tokens[frame - 1] if frame else "",
                "next": tokens[frame + 1] if frame + 1 < len(tokens) else "",
            }
    train = [name for name in scenes if name not in val]
    content = {"train_split": train, "val_split": list(val), "scene_infos": infos}
    (root / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def write_nuscenes(root: Path, scenes: dict[str, Drive]) -> Path:
    """The nuScenes tables that belong to `write_occ3d`, in `root/v1.0-trainval`, with a camera and sweeps besides."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "log")}
    tables["sensor"] = [
        {"token": "sensor-lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
        {"token": "sensor-camera", "channel": "CAM_FRONT", "modality": "camera"},
    ]
    tables["calibrated_sensor"] = [
        {"token": f"mounted-{kind}", "sensor_token": f"sensor-{kind}", "translation": [1.0, 0.0, 1.8], "rotation": [1, 0, 0, 0]}
        for kind in ("lidar", "camera")
    ]
    for name, drive in scenes.items():
        tokens = [token(name, frame) for frame in range(len(drive.poses))]
        tables["log"].append({"token": f"log-{name}", "location": "singapore-onenorth"})
        tables["scene"].append(
            {
                "token": f"id-{name}",
                "log_token": f"log-{name}",
                "nbr_samples": len(tokens),
                "first_sample_token": tokens[0],
                "last_sample_token": tokens[-1],
                "name": name,
                "description": 'a [list], {an object} and "quotes"',
            }
        )
        for frame in reversed(range(len(tokens))):
            _add_sample(tables, name, tokens, frame, drive.poses[frame])
    folder = root / "v1.0-trainval"
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=0), encoding="utf-8")
    return root


def _add_sample(tables: dict[str, list[dict[str, Any]]], scene: str, tokens: list[str], frame: int, pose: Tensor) -> None:
    key, time = tokens[frame], 1_532_402_927_647_951 + 500_000 * frame
    tables["sample"].append(
        {
            "token": key,
            "timestamp": time,
            "prev": tokens[frame - 1] if frame else "",
            "next": tokens[frame + 1] if frame + 1 < len(tokens) else "",
            "scene_token": f"id-{scene}",
        }
    )
    away = torch.tensor([5.0, -3.0, 0.4], dtype=torch.float64)
    for kind, is_key, late, place in (
        ("lidar", True, 0, pose),
        ("camera", True, 30_000, pose + away),
        ("lidar", False, 50_000, pose - away),
    ):
        row = f"{key}-{kind}-{late}"
        tables["ego_pose"].append({"token": row, "timestamp": time + late, **_pose_fields(place)})
        tables["sample_data"].append(
            {
                "token": row,
                "sample_token": key,
                "ego_pose_token": row,
                "calibrated_sensor_token": f"mounted-{kind}",
                "timestamp": time + late,
                "fileformat": "pcd" if kind == "lidar" else "jpg",
                "is_key_frame": is_key,
                "height": 0,
                "width": 0,
                "filename": f"samples/{kind}/{row}",
                "prev": "",
                "next": "",
            }
        )


def write_carlasc(root: Path, sequences: dict[str, np.ndarray], drive: Drive) -> None:
    """Sequences `<split>/<name>` of CarlaSC with raw tags (T, X, Y, Z) in CARLA's own frame, where y is to the right."""
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    transforms = [mirror @ transform(pose, tilt=0.0) @ mirror for pose in drive.poses]
    first = np.linalg.inv(transforms[0])
    rows = [(first @ matrix)[:3].reshape(-1) for matrix in transforms]
    for name, tags in sequences.items():
        folder = root / name / "cartesian" / "evaluation"
        folder.mkdir(parents=True)
        for frame, voxels in enumerate(tags):
            voxels.astype("<u4").tofile(folder / f"{frame:06d}.label")
            (voxels != 0).astype("<f4").tofile(folder / f"{frame:06d}.bin")
        params = {
            "grid_size": [128.0, 128.0, 8.0],
            "min_bound": [-25.6, -25.6, -2.0],
            "max_bound": [25.6, 25.6, 1.0],
            "num_channels": 25,
            "coordinates": "cartesian",
        }
        (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
        np.savetxt(folder.parent / "poses.txt", np.array(rows))
        np.savetxt(folder.parent / "times.txt", 0.1 * np.arange(len(tags)))


def write_occ3d_waymo(root: Path, scenes: dict[str, np.ndarray], drive: Drive, poses_in_frames: bool = True) -> None:
    """Scenes `<split>/<number>` of Occ3D-Waymo with stored ids (T, X, Y, Z), poses in the frames or in the pickles beside."""
    infos: dict[str, dict[int, Any]] = {"training": {}, "validation": {}}
    for name, labels in scenes.items():
        split, number = name.split("/")
        folder = root / name
        folder.mkdir(parents=True)
        frames = {}
        for frame, voxels in enumerate(labels):
            seen = np.zeros(voxels.shape, dtype=np.uint8)
            seen[100:] = 1
            arrays = {"voxel_label": voxels, "origin_voxel_state": seen, "final_voxel_state": seen, "infov": seen[:, ::-1] > 0}
            arrays["infov"][:, :100] = False
            matrix = transform(drive.poses[frame])
            if poses_in_frames:
                arrays["ego2global"] = matrix
            np.savez_compressed(folder / f"{frame:03d}_04.npz", **arrays)
            camera = {"intrinsics": np.eye(4), "sensor2ego": np.eye(4), "ego2global": matrix}
            frames[frame] = [camera] * 5
        infos[split][int(number)] = frames
    if not poses_in_frames:
        for name, content in (("cam_infos.pkl", infos["training"]), ("cam_infos_vali.pkl", infos["validation"])):
            (root / name).write_bytes(pickle.dumps(content))


def carlasc_tags(occupancy: Tensor) -> np.ndarray:
    """CARLA's tags, in its frame, of an occupancy (..., X, Y, Z) in the classes of Occ3D-nuScenes."""
    table = np.zeros(FREE + 1, dtype=np.uint32)  # free is 0
    table[:FREE] = (20, 17, 10, 10, 10, 10, 10, 4, 19, 10, 10, 7, 14, 8, 22, 1, 9)
    return np.flip(table[occupancy.numpy()], axis=-2)
