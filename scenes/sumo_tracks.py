"""From boxes over time to the tracks of a scene."""

from __future__ import annotations

import numpy as np
import torch

from scenes.grid import CLASS_ID
from scenes.scene import Tracks
from scenes.sumo_bodies import Body


def make_tracks(bodies: list[Body], start: int, frames: int, at_least: int = 2) -> Tracks:
    """Tracks of the bodies that show in `at_least` of the frames start to start + frames; elsewhere their pose is held."""
    kept, poses, valid = [], [], []
    for body in bodies:
        low, high = max(body.first, start), min(body.first + len(body.poses), start + frames)
        if high - low < at_least:
            continue
        index = np.arange(start, start + frames)
        there = (index >= low) & (index < high)
        kept.append(body)
        poses.append(body.poses[np.clip(index, low, high - 1) - body.first])
        valid.append(there)
    return Tracks(
        ids=tuple(body.name for body in kept),
        classes=torch.tensor([CLASS_ID[body.label] for body in kept], dtype=torch.uint8),
        sizes=torch.tensor([body.size for body in kept], dtype=torch.float32).reshape(-1, 3),
        rear_axle=torch.tensor([body.rear_axle for body in kept], dtype=torch.float32),
        poses=torch.from_numpy(np.array(poses, dtype=np.float64).reshape(-1, frames, 3)),
        valid=torch.from_numpy(np.array(valid, dtype=bool).reshape(-1, frames)),
    )
