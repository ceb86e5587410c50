"""Train the diffusion transformer that imagines the next chunk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from occsora.training_options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Train a world model on scenes with a trained tokenizer and agent flow; a run that was stopped goes on where it was."""

    tokenizer: Path
    """Folder of a trained tokenizer."""
    flow: Path
    """Folder of a trained agent flow."""
    start: Path | None = None
    """Trained world model of this tokenizer to go on from, for fine-tuning."""
    sequences: int = 832
    """Training sequences to render and encode."""
    chunks: int = 10
    """Chunks in a training sequence: two to three times the attention window."""
    steps: int = 1350
    """Optimiser steps in all; the learning rate falls to a twentieth by the last."""
    batch_size: int = 2
    """Sequences a step and process."""
    learning_rate: float = 5e-3
    """Peak of the learning rate, of Muon."""


COMMAND = Config


def run(config: Config) -> None:
    """Train, and say where the world model is."""
    from models.presets import preset
    from models.pretrained import load_agent_flow, load_tokenizer, load_learned
    from models.train_world_model import train_world_model

    scenes = config.load_scenes()
    device = scenes[0].static.ground.device
    tokenizer, flow = load_tokenizer(config.tokenizer, device), load_agent_flow(config.flow, device)
    start = None if config.start is None else load_learned(config.start)
    size = preset(config.preset)
    folder = train_world_model(scenes, tokenizer, flow, size, config.training(), config.sequences, config.chunks, start)
    print(f"world model in {folder}")
