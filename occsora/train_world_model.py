"""Train the diffusion transformer that imagines the next chunk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.training import TrainingConfig


@dataclass(frozen=True)
class Config:
    """Train a world model on scenes and a trained tokenizer; a run that was stopped goes on where it was."""

    scenes: Path
    """Folder of scene files, as `occsora make-scenes` writes them."""
    tokenizer: Path
    """Folder of a trained tokenizer."""
    out: Path
    """Folder of the run: encoded sequences, checkpoints, TensorBoard logs and the finished world model."""
    preset: str = "mini"
    """Size of the model: mini or base."""
    sequences: int = 640
    """Training sequences to render and encode."""
    chunks: int = 10
    """Chunks in a training sequence: two to three times the attention window."""
    steps: int = 640
    """Optimiser steps in all."""
    batch_size: int = 2
    """Sequences a step and process."""
    learning_rate: float = 5e-3
    """Peak of the cosine schedule."""
    minutes: float | None = None
    """Stop with a checkpoint after this many minutes."""
    save_every: int = 80
    """Steps between checkpoints."""
    seed: int = 0
    """Of all randomness."""
    precision: str = "no"
    """no for float32, bf16 for mixed precision on a GPU."""
    device: str = "auto"
    """Where scenes are rendered and encoded: auto, cpu or cuda."""

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
    """Train, and say where the world model is."""
    from models.presets import preset
    from models.pretrained import load_tokenizer
    from models.train_world_model import train_world_model
    from occsora.training_scenes import training_scenes

    scenes = training_scenes(config.scenes, config.device)
    tokenizer = load_tokenizer(config.tokenizer)
    folder = train_world_model(scenes, tokenizer, preset(config.preset), config.training(), config.sequences, config.chunks)
    print(f"world model in {folder}")
