"""Train the tokenizer, or the VAE, that compresses occupancy."""

from __future__ import annotations

from dataclasses import dataclass

from occsora.training_options import ClipOptions


@dataclass(frozen=True, kw_only=True)
class Config(ClipOptions):
    """Train a tokenizer of chunks (mini, base), one of whole clips (occsora...), or a VAE of HexPlanes (dynamiccity...); a run
    that was stopped goes on where it was."""


COMMAND = Config


def run(config: Config) -> None:
    """Train, and say where the tokenizer is."""
    from models.dynamiccity import presets as dynamiccity
    from models.occsora import presets as occsora

    if config.preset in occsora.WORLD_PRESETS:
        folder = _train_on_clips(config)
    elif config.preset in dynamiccity.WORLD_PRESETS:
        folder = _train_vae(config)
    else:
        folder = _train_on_chunks(config)
    print(f"tokenizer in {folder}")


def _train_on_chunks(config: Config) -> object:
    from models.presets import preset
    from models.train_tokenizer import train_tokenizer
    from models.training import TrainingConfig

    size = preset(config.preset)
    recipe = TrainingConfig(config.out, steps=2000, batch_size=8, learning_rate=2e-2, save_every=100)
    return train_tokenizer(config.load_scenes(), size, config.training(recipe))


def _train_on_clips(config: Config) -> object:
    from models.occsora.presets import world_preset
    from models.occsora.train_tokenizer import train_tokenizer

    preset = world_preset(config.preset)
    training = config.training(preset.tokenizer_training(config.out))
    clips = config.load_clips(preset.clips.grid, preset.clips.dt, preset.clips.frames)
    return train_tokenizer(clips, preset.clips, training, columns=preset.columns, revive=preset.small)


def _train_vae(config: Config) -> object:
    from models.dynamiccity.presets import dynamiccity_preset, vae_training
    from models.dynamiccity.train_vae import train_vae

    world = dynamiccity_preset(config.preset)
    clips = config.load_clips(world.grid, world.dt, world.vae.frames)
    return train_vae(clips, world.vae, config.training(vae_training(config.preset, config.out)))
