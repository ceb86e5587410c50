"""Trained diffusion world models of clips on disk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from models.checkpoint import from_plain
from models.model_folder import CONFIG, read_config, read_weights, write_model
from models.occsora.clip_diffusion import ClipDiffusion, ClipDiffusionConfig

KIND = "occsora_diffusion"


def save_diffusion(model: ClipDiffusion, folder: Path | str) -> None:
    """Write config and weights into a folder."""
    write_model(folder, KIND, asdict(model.cfg), model.state_dict())


def load_diffusion(folder: Path | str, device: torch.device | str = "cpu") -> ClipDiffusion:
    """Model from a folder that `save_diffusion` wrote, ready for inference; raises ValueError where it is of another kind."""
    folder = Path(folder)
    _, config = read_config(folder, KIND)
    return read_weights(ClipDiffusion(from_plain(ClipDiffusionConfig, config, str(folder / CONFIG))), folder, device)
