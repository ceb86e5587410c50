"""Trained DynamicCity world models on disk: the VAE and the diffusion transformer in one folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from models.checkpoint import from_plain, half_floats, load_weights, read_json, read_tensors, write_json, write_tensors
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.world_model import DynamicCityWorldModel

KIND, CONFIG, WEIGHTS = "dynamiccity", "config.json", "model.safetensors"


def save_dynamiccity(model: DynamicCityWorldModel, folder: Path | str, *, half: bool = False) -> None:
    """Write config and weights into a folder; `half` stores floats in 16 bits."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = model.state_dict()
    write_tensors(folder / WEIGHTS, half_floats(tensors) if half else tensors)
    write_json(folder / CONFIG, {"kind": KIND, "config": asdict(model.cfg)})


def load_dynamiccity(folder: Path | str, device: torch.device | str = "cpu") -> DynamicCityWorldModel:
    """Model from a folder that `save_dynamiccity` wrote, ready for inference; raises ValueError where it is of another kind."""
    folder = Path(folder)
    content, where = read_json(folder / CONFIG), str(folder / CONFIG)
    if content.get("kind") != KIND:
        raise ValueError(f"{where}: expected the config of kind {KIND!r}, found {content.get('kind')!r}")
    model = DynamicCityWorldModel(from_plain(DynamicCityConfig, content.get("config"), where))
    load_weights(model, read_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return model.eval().requires_grad_(False).to(device)
