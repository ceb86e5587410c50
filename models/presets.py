"""Named sizes of the world model that imagines chunk by chunk; those of clips are in the packages below."""

from __future__ import annotations

from models.tokenizer import TokenizerConfig
from models.transformer import TransformerConfig
from models.world_model import WorldModelConfig
from scenes.grid import MINI, OCC3D

PRESETS = {
    # 96 x 96 x 8 at 0.8 m and 4 Hz: runs and trains on two CPU cores
    "mini": WorldModelConfig(
        grid=MINI,
        tokenizer=TokenizerConfig(class_dim=8, widths=(96, 160, 256)),
        transformer=TransformerConfig(width=256, depth=6),
        denoising_steps=2,
    ),
    # the Occ3D-nuScenes grid, 200 x 200 x 16 at 0.4 m and 4 Hz: one GPU
    "base": WorldModelConfig(
        grid=OCC3D,
        tokenizer=TokenizerConfig(class_dim=8, widths=(96, 160, 256)),
        transformer=TransformerConfig(width=256, depth=6),
        denoising_steps=2,
    ),
}


def preset(name: str) -> WorldModelConfig:
    """Configuration of a preset; raises ValueError with the names there are."""
    if name not in PRESETS:
        from models.dynamiccity import presets as dynamiccity
        from models.occsora import presets as occsora

        names = [*PRESETS, *occsora.WORLD_PRESETS, *dynamiccity.WORLD_PRESETS]
        raise ValueError(f"preset: expected one of {names}, found {name!r}")
    return PRESETS[name]
