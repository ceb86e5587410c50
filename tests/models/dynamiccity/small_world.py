"""A DynamicCity world model of a few thousand weights that the tests here share; no layer of it is zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from models.diffusion_sampling import SamplerConfig
from models.dit import DiTConfig
from models.dynamiccity.conditions import NAMES, Conditions
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.transformer import PlaneTransformerConfig
from models.dynamiccity.world_model import DynamicCityWorldModel
from tests.models.dynamiccity.small import CONFIG as VAE
from tests.models.dynamiccity.small import GRID

TRANSFORMER = PlaneTransformerConfig(DiTConfig(width=16, depth=2, heads=2), conditions=NAMES)
CONFIG = DynamicCityConfig(grid=GRID, vae=VAE, transformer=TRANSFORMER, sampler=SamplerConfig("ddim", steps=3, limit=3.0))
FRAMES = VAE.frames


def awake(module: torch.nn.Module) -> torch.nn.Module:
    """The module with its zero weights replaced by small ones, so that everything in it has an effect."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        if not bool(parameter.detach().any()):
            parameter.data.normal_(std=0.2, generator=generator)
    return module


def make_world(**changes: Any) -> DynamicCityWorldModel:
    """An untrained world model; `conditions` among the changes are the transformer's."""
    torch.manual_seed(0)
    names = changes.pop("conditions", NAMES)
    model = DynamicCityWorldModel(replace(CONFIG, transformer=replace(TRANSFORMER, conditions=names), **changes))
    awake(model)
    return model.eval().requires_grad_(False)


def make_conditions(batch: int = 2, seed: int = 0) -> Conditions:
    """Random conditions of every kind."""
    draw = torch.Generator().manual_seed(seed)
    shape, above = make_shape(), (batch, FRAMES, *GRID.shape[:2])
    return Conditions(
        previous=torch.randn(batch, *shape, generator=draw),
        carried=torch.randn(batch, *shape, generator=draw),
        command=torch.randint(0, 4, (batch,), generator=draw),
        trajectory=make_motion(batch, FRAMES, seed),
        drivable=torch.rand(above, generator=draw) < 0.4,
        vehicles=torch.rand(above, generator=draw) < 0.1,
    )


def make_shape() -> tuple[int, int, int]:
    """Channels, height and width of the map."""
    return (VAE.channels, *CONFIG.layout.shape)


def make_motion(batch: int, frames: int, seed: int = 0) -> torch.Tensor:
    """Motion (B, T, 3) of egos that drive on and turn a little."""
    draw = torch.Generator().manual_seed(seed)
    step = torch.tensor([0.8, 0.0, 0.0]) + torch.tensor([0.3, 0.1, 0.1]) * torch.randn(batch, frames, 3, generator=draw)
    return step
