"""Scenes for training: loaded whole, on the device that renders them."""

from __future__ import annotations

from pathlib import Path

import torch

from scenes.scene import Scene
from scenes.scene_file import load_scenes


def training_scenes(folder: Path, device: str) -> list[Scene]:
    """All scenes of a folder on `device`; "auto" is the GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return [scene.to(device) for scene in load_scenes(folder)]
