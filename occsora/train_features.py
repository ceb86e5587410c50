"""Train a feature extractor that clips are measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from scenes.dataset import SceneClips
    from scenes.grid import Grid


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
    """World model whose grid and frame rate scenes are rendered for: mini, base, occsora, dynamiccity or another preset."""
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
    from models.training import TrainingConfig
    from scenes.clip_store import ClipStore
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
    clips = (
        _rendered(config) if config.clips is None else StoreClips(ClipStore.open(config.clips), config.frames, seed=config.seed)
    )
    folder = train_features(config.kind, clips, clips.grid, cfg)
    print(f"features in {folder}, sha256 {read_json(folder / 'config.json')['config']['sha256']}")


def _rendered(config: TrainFeatures) -> SceneClips:
    """Clips of the scenes; raises ValueError where they cannot be rendered in the classes of the preset."""
    from scenes.dataset import SceneClips
    from scenes.grid import CLASSES
    from scenes.scene_file import load_scenes

    assert config.scenes is not None
    grid, dt = _seen_by(config.preset)
    if grid.classes != CLASSES:
        how = "make clips of the scenes with `occsora make-scenes clips --grid carlasc` and give them as --clips"
        raise ValueError(f"--scenes: preset {config.preset!r} has the {grid.num_classes} classes of CarlaSC; {how}")
    return SceneClips(load_scenes(config.scenes), grid, dt, config.frames, seed=config.seed)


def _seen_by(name: str) -> tuple[Grid, float]:
    """Grid and seconds between frames of a preset of any kind; raises ValueError with the names there are."""
    from models.dynamiccity import presets as dynamiccity
    from models.occsora import presets as occsora
    from models.presets import preset

    if name in occsora.WORLD_PRESETS:
        clips = occsora.WORLD_PRESETS[name].clips
        return clips.grid, clips.dt
    model = dynamiccity.WORLD_PRESETS[name] if name in dynamiccity.WORLD_PRESETS else preset(name)
    return model.grid, model.dt
