"""Named world models of OccSora's kind: tokenizer, transformer and how each is trained; the rows of table 3 among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from models.occsora import train_diffusion, train_tokenizer
from models.occsora.config import PRESETS as TOKENIZERS
from models.occsora.config import OccSoraPreset
from models.occsora.transformer import SIZES, ClipTransformerConfig
from models.training import TrainingConfig
from scenes.grid import OCC3D

_PAPER, _SMALL = SIZES["occsora"], SIZES["wide"]


@dataclass(frozen=True)
class WorldPreset:
    """A world model of clips.

    Attributes:
        clips: the tokenizer and the clips that it is for.
        transformer: shape of the diffusion transformer.
        small: whether it trains on two CPU cores: then by a shorter recipe than the paper's.
    """

    clips: OccSoraPreset
    transformer: ClipTransformerConfig
    small: bool

    @property
    def sequences(self) -> int:
        """Clips that are encoded for the training of the transformer."""
        return 2048 if self.small else 8192

    @property
    def snr_limit(self) -> float | None:
        """Limit of `draw_steps`: in a short training, steps whose data are nearly clean are drawn less often."""
        return 1.0 if self.small else None

    @property
    def columns(self) -> int:
        """Voxel columns of a batch on which the tokenizer's loss of classes is taken; 0 for all, as in the release."""
        return 1 << 15 if self.small else 0

    def tokenizer_training(self, out: Path) -> TrainingConfig:
        """The release's recipe; in full, 150 epochs of the 28,130 frames of nuScenes in batches of 16, as we read the paper."""
        if self.small:
            return train_tokenizer.short_training(out, steps=3000, save_every=100)
        return train_tokenizer.release_training(out, steps=263_700, save_every=2000)

    def diffusion_training(self, out: Path) -> TrainingConfig:
        """The release's recipe in full; for a small model one of ours, that of benchmarks/occsora_mechanisms.py."""
        if not self.small:
            return train_diffusion.release_training(out)
        return TrainingConfig(out, steps=10_000, batch_size=8, learning_rate=6e-3, weight_decay=0.0, save_every=500)


def _world(name: str, clips: OccSoraPreset) -> WorldPreset:
    small = clips.grid.shape != OCC3D.shape
    return WorldPreset(clips, _SMALL if small else SIZES["lean"] if "-lean" in name else _PAPER, small)


def _without(condition: str) -> dict[str, WorldPreset]:
    """The rows of table 3 that are about the transformer: it is not told the step, or not the trajectory."""
    presets = {}
    for name in ("occsora", "occsora-small"):
        base = _world(name, TOKENIZERS[name])
        step, path = (condition != left_out for left_out in ("no-timestep", "no-trajectory"))
        transformer = replace(base.transformer, timestep_embedding=step, trajectory=path)
        presets[f"{name}-{condition}"] = replace(base, transformer=transformer)
    return presets


WORLD_PRESETS = {
    **{name: _world(name, clips) for name, clips in TOKENIZERS.items()},
    **_without("no-timestep"),
    **_without("no-trajectory"),
}


def world_preset(name: str) -> WorldPreset:
    """A preset by name; raises ValueError with the names there are."""
    if name not in WORLD_PRESETS:
        raise ValueError(f"world_preset: expected one of {list(WORLD_PRESETS)}, found {name!r}")
    return WORLD_PRESETS[name]
