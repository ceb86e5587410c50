"""Train the small network that sees how fast other road users move."""

from __future__ import annotations

from dataclasses import dataclass

from occsora.training_options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Config(TrainingOptions):
    """Train the agents' flow on scenes; a run that was stopped goes on where it was."""


COMMAND = Config


def run(config: Config) -> None:
    """Train, and say where the network is."""
    from models.presets import PRESETS, preset
    from models.train_agent_flow import train_agent_flow
    from models.training import TrainingConfig

    if config.preset not in PRESETS:
        raise ValueError(f"--preset: expected one of {list(PRESETS)}, which have an agent flow, found {config.preset!r}")
    size = preset(config.preset)
    recipe = TrainingConfig(config.out, steps=1200, batch_size=16, learning_rate=2e-2, save_every=100)
    folder = train_agent_flow(config.load_scenes(), size, config.training(recipe))
    print(f"agent flow in {folder}")
