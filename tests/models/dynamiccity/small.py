"""A HexPlane VAE of a few thousand weights that the tests here share."""

from __future__ import annotations

from dataclasses import replace

import torch

from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.projection import Layer
from models.dynamiccity.vae import HexPlaneVae
from scenes.grid import MINI

GRID = replace(MINI, shape=(16, 20, 4))
CONFIG = HexPlaneConfig(frames=4, channels=8, mlp=12, plane_channels=12, hidden=16, fine=8, query_hidden=16, query_layers=2)


def make_vae(**changes: str) -> HexPlaneVae:
    """An untrained VAE, of which no layer is zero."""
    torch.manual_seed(0)
    vae = HexPlaneVae(GRID, replace(CONFIG, **changes))
    still = [widen.leave for widen in vae.decoder.planes.widen.values()]
    still += [leave for layer in vae.modules() if isinstance(layer, Layer) for leave in (layer.out, layer.narrow)]
    for layer in still:
        torch.nn.init.normal_(layer.weight, std=0.1)
    return vae


def make_clips(batch: int = 2) -> torch.Tensor:
    """Occupancy uint8 (B, T, X, Y, Z) of random classes."""
    generator = torch.Generator().manual_seed(1)
    shape = (batch, CONFIG.frames, *GRID.shape)
    return torch.randint(0, GRID.num_classes, shape, generator=generator, dtype=torch.uint8)
