"""Named DynamicCity world models: grid, VAE, transformer, conditions, how chunks are sampled, and how each is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.diffusion_sampling import SamplerConfig
from models.dynamiccity.conditions import NAMES, ConditionName
from models.dynamiccity.config import hexplane_preset
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.train_diffusion import release_training
from models.dynamiccity.train_vae import short_training, training_config
from models.dynamiccity.transformer import SIZES, PlaneTransformerConfig
from models.training import TrainingConfig

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
    "dynamiccity-near": replace(_config("dynamiccity-near", "small", NAMES, 0.25), overlap=4),
}
WORLD_PRESETS["dynamiccity"] = WORLD_PRESETS["dynamiccity-carlasc"]  # the paper's own, whose configuration is released


def dynamiccity_preset(name: str) -> DynamicCityConfig:
    """World model of a preset; raises ValueError with the names there are."""
    if name not in WORLD_PRESETS:
        raise ValueError(f"dynamiccity_preset: expected one of {sorted(WORLD_PRESETS)}, found {name!r}")
    return WORLD_PRESETS[name]


def vae_training(name: str, out: Path) -> TrainingConfig:
    """Recipe of a preset's VAE; the steps are ours, since the release counts epochs."""
    if _small(name):
        return short_training(out, steps=5000, save_every=500)
    return training_config(out, steps=100_000, save_every=500)


def diffusion_training(name: str, out: Path) -> TrainingConfig:
    """The release's recipe of the transformer, with steps of ours; for the small ones a short one."""
    if not _small(name):
        return release_training(out, steps=300_000, save_every=2000)
    return TrainingConfig(out, steps=5000, batch_size=8, learning_rate=1e-2, weight_decay=0.0, ema_decay=0.999, save_every=500)


def sequences(name: str) -> int:
    """Windows that are encoded for the training of the transformer."""
    return 2000 if _small(name) else 8192


def snr_limit(name: str) -> float | None:
    """Limit of `draw_steps` in a preset's training: in a short one, steps whose data are nearly clean are drawn less often."""
    return 1.0 if _small(name) else None


def _small(name: str) -> bool:
    return "-small" in name or "-near" in name
