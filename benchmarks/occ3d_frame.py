"""A rendered recording against the real Occ3D frame of the same moment, in bird's eye view: prints JSON, draws a PNG.

    python benchmarks/occ3d_frame.py --shared FOLDER --json -

The frame is scene-1077 of nuScenes at the key frame of 13.5 s. Precision and recall are over columns of the 200 x 200 grid:
all of them, and those of which the lidar's, or a camera's, mask holds a voxel. Occ3D shows what the sensors saw in 20 s,
the rendering all boxes and the whole map, so over all columns its precision is bounded by what stayed unseen.

In this frame the road lies in layer 0, the kerbs in layers 0 and 1, where `OCC3D` has the ground at z = 0 in layer 2. The
agreement of car voxels is therefore printed for both: as rendered, and with the ground in layer 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import machine
import numpy as np
import torch
import tyro
from torch import Tensor

from scenes.grid import CLASS_ID, FREE, OCC3D
from scenes.occ3d import Occ3DFrame, find_frames, load_frame
from scenes.render import render
from scenes.scenarionet import load_scenario

SCENE = "scene-1077"
CLASSES = ("car", "bus", "driveable_surface")


@dataclass(frozen=True)
class Config:
    """Where the recorded data are, which moment to render, and what to write."""

    shared: Path
    """Folder with nuscenes_mini/ and occ3d_nuscenes/."""
    seconds: float = 13.5
    """Moment of the recording to render."""
    png: Path = Path("occ3d_frame.png")
    """Picture: Occ3D, rendering, and where they agree."""
    json: str = "-"
    """Where to write JSON: a file, or - for standard output."""


def columns(occupancy: Tensor, name: str) -> Tensor:
    """Columns, bool (X, Y), of occupancy (X, Y, Z) that hold a voxel of that class."""
    return (occupancy == CLASS_ID[name]).any(-1)


def agreement(found: Tensor, true: Tensor, where: Tensor) -> dict[str, float | int | None]:
    """Precision and recall of columns or voxels found against true ones, bool, among those in `where`."""
    both, found_count, true_count = (int((mask & where).sum()) for mask in (found & true, found, true))
    return {
        "precision": round(both / found_count, 4) if found_count else None,
        "recall": round(both / true_count, 4) if true_count else None,
        "iou": round(both / (found_count + true_count - both), 4) if found_count + true_count else None,
        "occ3d": true_count,
        "rendered": found_count,
    }


def compare(rendered: Tensor, frame: Occ3DFrame) -> dict[str, Any]:
    """Agreement by class and by mask, and in which layers each class lies in both."""
    places = {
        "all": torch.ones_like(columns(rendered, "car")),
        "mask_lidar": frame.mask_lidar.any(-1),
        "mask_camera": frame.mask_camera.any(-1),
    }
    return {
        "agreement": {
            name: {
                place: agreement(columns(rendered, name), columns(frame.semantics, name), where)
                for place, where in places.items()
            }
            for name in CLASSES
        },
        "voxels_by_layer": {
            name: {
                source: [int(count) for count in (occupancy == CLASS_ID[name]).sum((0, 1))]
                for source, occupancy in (("occ3d", frame.semantics), ("rendered", rendered))
            }
            for name in CLASSES
        },
    }


def car_voxels(rendered: Tensor, frame: Occ3DFrame) -> dict[str, float | int | None]:
    """Agreement of car voxels (X, Y, Z) that the lidar's mask holds."""
    true = frame.semantics == CLASS_ID["car"]
    return agreement(rendered == CLASS_ID["car"], true, frame.mask_lidar)


def from_above(occupancy: Tensor) -> np.ndarray:
    """Colours uint8 (X, Y, 3) of the highest voxel of each column, vegetation and buildings dimmed."""
    layer = torch.arange(OCC3D.shape[2])
    highest = ((occupancy != FREE) * (layer + 1)).amax(-1)
    top = occupancy.gather(-1, (highest - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return np.array(OCC3D.colours, dtype=np.uint8)[top.numpy()]


def picture(rendered: Tensor, frame: Occ3DFrame) -> np.ndarray:
    """Three views side by side, forward up: Occ3D, rendering, agreement (green both, red rendered only, blue Occ3D only)."""
    shown = np.full((*OCC3D.shape[:2], 3), 18, dtype=np.uint8)
    for name, shade in (("driveable_surface", 0.35), ("car", 1.0), ("bus", 1.0)):
        found, true = columns(rendered, name).numpy(), columns(frame.semantics, name).numpy()
        for mask, colour in ((found & true, (90, 220, 100)), (found & ~true, (235, 70, 60)), (true & ~found, (80, 130, 250))):
            shown[mask] = np.array(colour) * shade
    views = [from_above(frame.semantics), from_above(rendered), shown]
    upright = [np.flip(view, (0, 1)).repeat(4, axis=0).repeat(4, axis=1) for view in views]
    gap = np.full((upright[0].shape[0], 8, 3), 255, dtype=np.uint8)
    return np.concatenate([upright[0], gap, upright[1], gap, upright[2]], axis=1)


def main(config: Config) -> None:
    """Render, compare, draw."""
    path = config.shared / "nuscenes_mini" / f"sd_nuscenes_v1.0-mini_{SCENE}.pkl"
    token, labels = next(iter(find_frames(config.shared / "occ3d_nuscenes")[SCENE].items()))
    frame, scene = load_frame(labels), load_scenario(path)
    times = torch.tensor([config.seconds], dtype=torch.float64)
    rendered = render(scene, scene.ego_poses(0, times), times, OCC3D, ego=0)[0]
    imageio.imwrite(config.png, picture(rendered, frame))
    lowered = replace(OCC3D, origin=(*OCC3D.origin[:2], -OCC3D.voxel / 2))
    heights = {"2": rendered, "0": render(scene, scene.ego_poses(0, times), times, lowered, ego=0)[0]}
    voxels = {layer: car_voxels(occupancy, frame) for layer, occupancy in heights.items()}
    result = {
        "scene": SCENE,
        "token": token,
        "seconds": config.seconds,
        **compare(rendered, frame),
        "car_voxels_by_ground_layer": voxels,
        **machine.describe(),
    }
    machine.write(result, config.json)
    machine.say(f"wrote {config.png}")


if __name__ == "__main__":
    main(tyro.cli(Config))
