"""Train the small network that sees how fast other road users move."""

from __future__ import annotations

from dataclasses import dataclass

from occsora.training_options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Train the agents' flow on scenes; a run that was stopped goes on where it was."""

    steps: int = 1200
    """Optimiser steps in all; the learning rate falls to a twentieth by the last."""
    batch_size: int = 16
    """Samples a step and process."""
    learning_rate: float = 2e-2
    """Peak of the learning rate, of Muon."""


COMMAND = Config


def run(config: Config) -> None:
    """Train, and say where the network is."""
    from models.presets import preset
    from models.train_agent_flow import train_agent_flow

    folder = train_agent_flow(config.load_scenes(), preset(config.preset), config.training())
    print(f"agent flow in {folder}")
