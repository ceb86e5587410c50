"""What the two training commands have in common: scenes, folder of the run, schedule, and where it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from models.training import TrainingConfig
from scenes.scene import Scene
from scenes.scene_file import load_scenes


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of a training; a run that was stopped goes on where it was."""

    scenes: Path
    """Folder of scene files, as `occsora make-scenes` writes them."""
    out: Path
    """Folder of the run: checkpoints, TensorBoard logs and the finished model."""
    preset: str = "mini"
    """Size of the model: mini or base."""
    steps: int
    """Optimiser steps in all; the learning rate falls to a twentieth by the last."""
    batch_size: int
    """Samples a step and process."""
    learning_rate: float
    """Peak of the learning rate."""
    minutes: float | None = None
    """Stop with a checkpoint after this many minutes."""
    save_every: int = 100
    """Steps between checkpoints."""
    seed: int = 0
    """Of all randomness."""
    precision: str = "no"
    """no for float32, bf16 for mixed precision on a GPU."""
    device: str = "auto"
    """Where scenes are rendered: auto (the GPU where there is one), cpu or cuda."""

    def training(self) -> TrainingConfig:
        """The part that the training loop reads."""
        return TrainingConfig(
            out=self.out,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            minutes=self.minutes,
            save_every=self.save_every,
            seed=self.seed,
            precision=self.precision,
        )

    def load_scenes(self) -> list[Scene]:
        """All scenes of the folder, on the device that renders them."""
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        return [scene.to(device) for scene in load_scenes(self.scenes)]
