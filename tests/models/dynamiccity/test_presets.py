"""Presets of world models: they can be built, and come back from plain JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from models.checkpoint import from_plain
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.presets import WORLD_PRESETS, diffusion_training, dynamiccity_preset, sequences, vae_training
from models.dynamiccity.transformer import PlaneTransformer


@pytest.mark.parametrize("name", WORLD_PRESETS)
def test_presets_can_be_built_and_stored(name: str) -> None:
    cfg = dynamiccity_preset(name)
    assert from_plain(DynamicCityConfig, json.loads(json.dumps(asdict(cfg))), name) == cfg
    with torch.device("meta"):
        transformer = PlaneTransformer(cfg.vae.channels, cfg.layout, cfg.transformer)
    assert set(transformer.conditioner.embed) == set(cfg.transformer.conditions)


@pytest.mark.parametrize("name", WORLD_PRESETS)
def test_the_full_sizes_are_trained_as_the_release_is(name: str, tmp_path: Path) -> None:
    """The small ones for fewer steps of fewer clips, by Muon."""
    vae, diffusion = vae_training(name, tmp_path), diffusion_training(name, tmp_path)
    released = (diffusion.batch_size, diffusion.learning_rate, diffusion.ema_decay) == (128, 1e-4, 0.9999)
    assert released == (name not in ("dynamiccity-small", "dynamiccity-near"))
    assert ((vae.optimizer, vae.learning_rate) == ("adamw", 1e-3)) == released
    full = [config("dynamiccity", tmp_path).steps for config in (vae_training, diffusion_training)]
    assert ([vae.steps, diffusion.steps] == full) == released
    assert (sequences(name) == sequences("dynamiccity")) == released


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="dynamiccity-small"):
        dynamiccity_preset("occsora-small")
