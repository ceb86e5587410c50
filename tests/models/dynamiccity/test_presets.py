"""Presets of world models: they can be built, and come back from plain JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from models.checkpoint import from_plain
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.presets import WORLD_PRESETS, dynamiccity_preset
from models.dynamiccity.transformer import PlaneTransformer


@pytest.mark.parametrize("name", WORLD_PRESETS)
def test_presets_can_be_built_and_stored(name: str) -> None:
    cfg = dynamiccity_preset(name)
    assert from_plain(DynamicCityConfig, json.loads(json.dumps(asdict(cfg))), name) == cfg
    with torch.device("meta"):
        transformer = PlaneTransformer(cfg.vae.channels, cfg.layout, cfg.transformer)
    assert set(transformer.conditioner.embed) == set(cfg.transformer.conditions)


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="dynamiccity-small"):
        dynamiccity_preset("dynamiccity")
