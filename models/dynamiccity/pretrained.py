"""Trained HexPlane VAEs on disk: a JSON config beside a safetensors file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from models.checkpoint import from_plain, load_weights, read_json, read_tensors, write_json, write_tensors
from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.vae import HexPlaneVae
from models.pretrained import CONFIG, WEIGHTS
from scenes.grid import Grid

_KIND = "hexplane_vae"


def save_vae(vae: HexPlaneVae, folder: Path | str) -> None:
    """Write config and weights into a folder, which is made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, vae.state_dict())
    write_json(folder / CONFIG, {"kind": _KIND, "config": {"grid": asdict(vae.grid), "vae": asdict(vae.cfg)}})


def load_vae(folder: Path | str, device: torch.device | str = "cpu") -> HexPlaneVae:
    """The VAE in a folder, in evaluation mode and without gradients; raises ValueError where the folder holds another model."""
    folder = Path(folder)
    where, content = folder / CONFIG, read_json(folder / CONFIG)
    config = content.get("config")
    if content.get("kind") != _KIND or not isinstance(config, dict) or set(config) != {"grid", "vae"}:
        raise ValueError(f"{where}: expected the config of a {_KIND}, found kind {content.get('kind')!r}")
    vae = HexPlaneVae(from_plain(Grid, config["grid"], str(where)), from_plain(HexPlaneConfig, config["vae"], str(where)))
    load_weights(vae, read_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return vae.eval().requires_grad_(False).to(device)
