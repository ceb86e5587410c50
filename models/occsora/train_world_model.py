"""Training of OccSora's world model on a trained tokenizer; what comes out is both parts in one folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from models.diffusion_sampling import SamplerConfig
from models.occsora.presets import WorldPreset
from models.occsora.pretrained_diffusion import load_diffusion
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.train_diffusion import train_diffusion
from models.occsora.world_model import OccSoraConfig, OccSoraWorldModel
from models.pretrained import save_pretrained
from models.training import TrainingConfig, processes

STEPS = 50  # of the sampler that the model is saved with
DIFFUSION = "diffusion"  # folder within that of the world model: encoded clips, checkpoints, logs, the transformer alone


def train_world_model(
    clips: Dataset[dict[str, Any]],
    tokenizer: OccSoraTokenizer,
    preset: WorldPreset,
    cfg: TrainingConfig,
    *,
    sequences: int,
    withheld: float = 0.1,
    full_from: int | None = None,
    snr_limit: float | None = None,
) -> Path:
    """Train the transformer, and write the world model into `cfg.out`, which is returned.

    clips: a data set of the preset's clips. sequences: how many of them are encoded and drawn from. withheld: share of samples
    that do not learn of their trajectory. full_from: step from which on the whole bound is minimised. snr_limit: see
    `draw_steps`. Raises ValueError where the tokenizer is not the preset's.
    """
    if tokenizer.grid != preset.clips.grid or tokenizer.cfg != preset.clips.tokenizer:
        expected = f"a tokenizer of the preset, {preset.clips.tokenizer} on {preset.clips.grid.shape}"
        raise ValueError(f"tokenizer: expected {expected}, found {tokenizer.cfg} on {tokenizer.grid.shape}")
    withheld = withheld if preset.transformer.trajectory else 0.0
    within = replace(cfg, out=cfg.out / DIFFUSION)
    minimised: dict[str, Any] = {"withheld": withheld, "full_from": full_from, "snr_limit": snr_limit}
    part = train_diffusion(clips, tokenizer, preset.transformer, within, dt=preset.clips.dt, count=sequences, **minimised)
    workers = processes()
    if workers.is_main_process:
        _assemble(tokenizer, part, cfg.out)
    workers.wait_for_everyone()
    return cfg.out


def _assemble(tokenizer: OccSoraTokenizer, diffusion_folder: Path, out: Path) -> None:
    """Write the world model of a tokenizer and a trained diffusion model."""
    diffusion = load_diffusion(diffusion_folder)
    sampler = SamplerConfig("ddim", STEPS)
    model = OccSoraWorldModel(OccSoraConfig(tokenizer.grid, tokenizer.cfg, diffusion.cfg, sampler))
    model.tokenizer.load_state_dict(tokenizer.state_dict())
    model.diffusion.load_state_dict(diffusion.state_dict())
    save_pretrained(model, out)
