"""Named DynamicCity world models: grid, VAE, transformer, conditions and how chunks are sampled."""

from __future__ import annotations

from dataclasses import replace

from models.diffusion_sampling import SamplerConfig
from models.dynamiccity.conditions import NAMES, ConditionName
from models.dynamiccity.config import hexplane_preset
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.transformer import SIZES, PlaneTransformerConfig

PAPER: tuple[ConditionName, ...] = ("previous", "command", "trajectory", "drivable", "vehicles")
_RELEASE = SamplerConfig("ddpm", steps=1000)


def _config(name: str, size: str, conditions: tuple[ConditionName, ...], dt: float) -> DynamicCityConfig:
    """Grid, VAE and transformer; sampled in 20 steps without guidance and without frames in common."""
    grid, vae = hexplane_preset(name)
    return DynamicCityConfig(grid, vae, PlaneTransformerConfig(SIZES[size], conditions=conditions), dt)


WORLD_PRESETS: dict[str, DynamicCityConfig] = {
    # the release's sizes and sampler, 1.6 s of CarlaSC and 8 s of Occ3D-nuScenes a window
    "dynamiccity-carlasc": replace(_config("dynamiccity-carlasc", "dc/2", PAPER, 0.1), sampler=_RELEASE, guidance=4.0),
    "dynamiccity-occ3d": replace(_config("dynamiccity-occ3d", "dc/1", PAPER, 0.5), sampler=_RELEASE, guidance=4.0),
    # for two CPU cores and the closed loop: the past is carried along as well, four frames are kept, 20 steps
    "dynamiccity-small": replace(_config("dynamiccity-small", "small", NAMES, 0.25), overlap=4),
}


def dynamiccity_preset(name: str) -> DynamicCityConfig:
    """World model of a preset; raises ValueError with the names there are."""
    if name not in WORLD_PRESETS:
        raise ValueError(f"dynamiccity_preset: expected one of {sorted(WORLD_PRESETS)}, found {name!r}")
    return WORLD_PRESETS[name]
