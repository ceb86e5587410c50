"""Train a feature extractor that clips are measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainFeatures:
    """Train 3D features of voxels or 2D features of maps; a run that was stopped goes on where it was."""

    out: Path
    """Folder of the run: checkpoints, TensorBoard logs and the finished extractor."""
    kind: Literal["voxels", "maps"] = "voxels"
    """voxels: 3D features of frames and of clips. maps: 2D features of colour maps from above, with a class for each."""
    scenes: Path | None = None
    """Folder of scene files to render clips from, on the grid of --preset."""
    clips: str | None = None
    """Store of clips, in the place of scenes: a path or fsspec URL."""
    preset: str = "mini"
    """World model whose grid and frame rate scenes are rendered for: mini or base."""
    frames: int = 8
    """Frames of a training clip."""
    steps: int = 2000
    """Optimiser steps in all; the learning rate falls to a twentieth by the last."""
    batch_size: int = 4
    """Clips a step and process."""
    learning_rate: float = 1e-3
    """Peak of the learning rate, of AdamW."""
    minutes: float | None = None
    """Stop with a checkpoint after this many minutes."""
    save_every: int = 200
    """Steps between checkpoints."""
    seed: int = 0
    """Of all randomness."""
    precision: str = "no"
    """no for float32, bf16 for mixed precision on a GPU."""


COMMAND = TrainFeatures


def run(config: TrainFeatures) -> None:
    """Train, and say where the extractor is and what its hash is."""
    from models.checkpoint import read_json
    from models.fidelity.train_features import train_features
    from models.presets import preset
    from models.training import TrainingConfig
    from scenes.clip_store import ClipStore
    from scenes.dataset import SceneClips
    from scenes.scene_file import load_scenes
    from scenes.store_clips import StoreClips

    if (config.scenes is None) == (config.clips is None):
        raise ValueError("expected --scenes or --clips, one of the two")
    cfg = TrainingConfig(
        out=config.out,
        steps=config.steps,
        batch_size=config.batch_size,
        optimizer="adamw",
        learning_rate=config.learning_rate,
        minutes=config.minutes,
        save_every=config.save_every,
        seed=config.seed,
        precision=config.precision,
    )
    if config.clips is not None:
        stored = StoreClips(ClipStore.open(config.clips), config.frames, seed=config.seed)
        folder = train_features(config.kind, stored, stored.grid, cfg)
    else:
        assert config.scenes is not None
        model = preset(config.preset)
        rendered = SceneClips(load_scenes(config.scenes), model.grid, model.dt, config.frames, seed=config.seed)
        folder = train_features(config.kind, rendered, model.grid, cfg)
    print(f"features in {folder}, sha256 {read_json(folder / 'config.json')['config']['sha256']}")
