"""Train the tokenizer that compresses occupancy into codes."""

from __future__ import annotations

from dataclasses import dataclass

from occsora.training_options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Train a chunk tokenizer on scenes; a run that was stopped goes on where it was."""

    steps: int = 2000
    """Optimiser steps in all; the learning rate falls to a twentieth by the last."""
    batch_size: int = 8
    """Chunks a step and process."""
    learning_rate: float = 2e-2
    """Peak of the learning rate, of Muon."""


COMMAND = Config


def run(config: Config) -> None:
    """Train, and say where the tokenizer is."""
    from models.presets import preset
    from models.train_tokenizer import train_tokenizer

    folder = train_tokenizer(config.load_scenes(), preset(config.preset), config.training())
    print(f"tokenizer in {folder}")
