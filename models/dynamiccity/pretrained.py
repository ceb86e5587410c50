"""Trained HexPlane VAEs on disk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from models.checkpoint import from_plain
from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.vae import HexPlaneVae
from models.model_folder import CONFIG, read_config, read_weights, write_model
from scenes.grid import Grid

KIND = "hexplane_vae"


def save_vae(vae: HexPlaneVae, folder: Path | str) -> None:
    """Write config and weights into a folder, which is made."""
    write_model(folder, KIND, {"grid": asdict(vae.grid), "vae": asdict(vae.cfg)}, vae.state_dict())


def load_vae(folder: Path | str, device: torch.device | str = "cpu") -> HexPlaneVae:
    """The VAE in a folder, in evaluation mode and without gradients; raises ValueError where the folder holds another model."""
    folder = Path(folder)
    (_, config), where = read_config(folder, KIND), str(folder / CONFIG)
    vae = HexPlaneVae(from_plain(Grid, config.get("grid"), where), from_plain(HexPlaneConfig, config.get("vae"), where))
    return read_weights(vae, folder, device)
