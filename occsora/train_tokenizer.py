"""Train the tokenizer that compresses occupancy into codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.training import TrainingConfig


@dataclass(frozen=True)
class Config:
    """Train a chunk tokenizer on scenes; a run that was stopped goes on where it was."""

    scenes: Path
    """Folder of scene files, as `occsora make-scenes` writes them."""
    out: Path
    """Folder of the run: checkpoints, TensorBoard logs and the finished tokenizer."""
    preset: str = "mini"
    """Size of the model: mini or base."""
    steps: int = 1400
    """Optimiser steps in all."""
    batch_size: int = 8
    """Chunks a step and process."""
    learning_rate: float = 2e-2
    """Peak of the cosine schedule."""
    minutes: float | None = None
    """Stop with a checkpoint after this many minutes."""
    save_every: int = 200
    """Steps between checkpoints."""
    seed: int = 0
    """Of all randomness."""
    precision: str = "no"
    """no for float32, bf16 for mixed precision on a GPU."""
    device: str = "auto"
    """Where scenes are rendered and the model trains: auto, cpu or cuda."""

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


COMMAND = Config


def run(config: Config) -> None:
    """Train, and say where the tokenizer is."""
    from models.presets import preset
    from models.train_tokenizer import train_tokenizer
    from occsora.training_scenes import training_scenes

    folder = train_tokenizer(training_scenes(config.scenes, config.device), preset(config.preset), config.training())
    print(f"tokenizer in {folder}")
