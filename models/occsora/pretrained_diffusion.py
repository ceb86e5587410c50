"""Trained diffusion world models of clips on disk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from models.checkpoint import from_plain, load_weights, read_json, read_tensors, write_json, write_tensors
from models.occsora.clip_diffusion import ClipDiffusion, ClipDiffusionConfig

KIND, CONFIG, WEIGHTS = "occsora_diffusion", "config.json", "model.safetensors"


def save_diffusion(model: ClipDiffusion, folder: Path | str) -> None:
    """Write config and weights into a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, model.state_dict())
    write_json(folder / CONFIG, {"kind": KIND, "config": asdict(model.cfg)})


def load_diffusion(folder: Path | str, device: torch.device | str = "cpu") -> ClipDiffusion:
    """Model from a folder that `save_diffusion` wrote, ready for inference; raises ValueError where it is of another kind."""
    folder = Path(folder)
    content, where = read_json(folder / CONFIG), str(folder / CONFIG)
    if content.get("kind") != KIND:
        raise ValueError(f"{where}: expected the config of kind {KIND!r}, found {content.get('kind')!r}")
    model = ClipDiffusion(from_plain(ClipDiffusionConfig, content.get("config"), where))
    load_weights(model, read_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return model.eval().requires_grad_(False).to(device)
