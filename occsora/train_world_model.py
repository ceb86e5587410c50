"""Train the diffusion transformer that imagines what comes next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from occsora.training_options import ClipOptions


@dataclass(frozen=True, kw_only=True)
class Config(ClipOptions):
    """Train a world model on scenes with a trained tokenizer; a run that was stopped goes on where it was."""

    tokenizer: Path
    """Folder of a trained tokenizer, or VAE, of the same preset."""
    flow: Path | None = None
    """Folder of a trained agent flow, for mini and base."""
    start: Path | None = None
    """Trained world model of this tokenizer to go on from, for fine-tuning mini and base."""
    sequences: int | None = None
    """Training sequences, or clips, to encode; by default those of the preset."""
    chunks: int = 10
    """Chunks in a training sequence of mini and base: two to three times the attention window."""
    withheld: float = 0.1
    """Share of samples that do not learn of their trajectory, or other conditions, for guidance in the presets of clips."""
    full_from: int | None = None
    """Step from which on OccSora's presets minimise the whole variational bound, the paper's second stage; by default they
    minimise the noise's error, with the bound for the variance, to the end, as the release does."""
    snr_limit: float | None = None
    """Presets of clips draw denoising steps whose ratio of signal to noise is above this less often (Min-SNR); by default 1 in
    the small ones, and all steps alike in those of the papers' sizes and beside --full-from."""


COMMAND = Config


def run(config: Config) -> None:
    """Train, and say where the world model is."""
    from models.dynamiccity import presets as dynamiccity
    from models.occsora import presets as occsora

    if config.preset in occsora.WORLD_PRESETS:
        folder = _train_on_clips(config)
    elif config.preset in dynamiccity.WORLD_PRESETS:
        folder = _train_on_planes(config)
    else:
        folder = _train_on_chunks(config)
    print(f"world model in {folder}")


def _train_on_chunks(config: Config) -> object:
    from models.presets import preset
    from models.pretrained import load_agent_flow, load_learned, load_tokenizer
    from models.train_world_model import train_world_model
    from models.training import TrainingConfig

    size = preset(config.preset)
    _refuse_bound(config)
    if config.snr_limit is not None:
        raise ValueError(f"--snr-limit: is for presets of clips, found preset {config.preset!r}")
    if config.flow is None:
        raise ValueError(f"--flow: preset {config.preset!r} needs a trained agent flow (occsora train-agent-flow)")
    scenes, device = config.load_scenes(), config.rendering_device()
    tokenizer, flow = load_tokenizer(config.tokenizer, device), load_agent_flow(config.flow, device)
    start = None if config.start is None else load_learned(config.start)
    recipe = TrainingConfig(config.out, steps=1350, batch_size=2, learning_rate=5e-3, save_every=100)
    sequences = 832 if config.sequences is None else config.sequences
    return train_world_model(scenes, tokenizer, flow, size, config.training(recipe), sequences, config.chunks, start)


def _train_on_clips(config: Config) -> object:
    from models.occsora.presets import world_preset
    from models.occsora.pretrained import load_tokenizer
    from models.occsora.train_world_model import train_world_model

    preset = world_preset(config.preset)
    _refuse_chunk_options(config)
    tokenizer = load_tokenizer(config.tokenizer, config.rendering_device())
    training = config.training(preset.diffusion_training(config.out))
    sequences = preset.sequences if config.sequences is None else config.sequences
    clips = config.load_clips(preset.clips.grid, preset.clips.dt, preset.clips.frames)
    usual = None if config.full_from is not None else preset.snr_limit
    snr_limit = usual if config.snr_limit is None else config.snr_limit
    minimised: dict[str, Any] = {"withheld": config.withheld, "full_from": config.full_from, "snr_limit": snr_limit}
    return train_world_model(clips, tokenizer, preset, training, sequences=sequences, **minimised)


def _train_on_planes(config: Config) -> object:
    from models.dynamiccity.presets import diffusion_training, dynamiccity_preset, sequences, snr_limit
    from models.dynamiccity.pretrained import load_vae
    from models.dynamiccity.train_diffusion import train_diffusion

    world = replace(dynamiccity_preset(config.preset), withheld=config.withheld)
    _refuse_chunk_options(config)
    _refuse_bound(config)
    vae = load_vae(config.tokenizer, config.rendering_device())
    if (vae.grid, vae.cfg) != (world.grid, world.vae):
        expected = f"the VAE of the preset, {world.vae} on {world.grid.shape}"
        raise ValueError(f"--tokenizer: expected {expected}, found {vae.cfg} on {vae.grid.shape}")
    clips = config.load_clips(world.grid, world.dt, world.clip_frames)
    training = config.training(diffusion_training(config.preset, config.out))
    count = sequences(config.preset) if config.sequences is None else config.sequences
    limit = snr_limit(config.preset) if config.snr_limit is None else config.snr_limit
    return train_diffusion(clips, vae, world, training, count=count, snr_limit=limit)


def _refuse_bound(config: Config) -> None:
    if config.full_from is not None:
        raise ValueError(f"--full-from: is for OccSora's presets, found preset {config.preset!r}")


def _refuse_chunk_options(config: Config) -> None:
    if config.flow is not None or config.start is not None:
        raise ValueError(f"--flow, --start: preset {config.preset!r} knows no such thing")
