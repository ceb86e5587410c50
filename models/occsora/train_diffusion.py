"""Training of OccSora's diffusion transformer on clips that were encoded once."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.diffusion_loss import draw_steps
from models.occsora.clip_diffusion import ClipDiffusion, ClipDiffusionConfig
from models.occsora.latent_clips import build_latent_clips
from models.occsora.pretrained_diffusion import save_diffusion
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.trajectory import trajectory_from_motion
from models.occsora.transformer import ClipTransformerConfig
from models.training import Trainer, TrainingConfig, own_generator


class LatentBatch(NamedTuple):
    """Quantised latents (B, c, t, h, w) and the trajectories (B, T, 2) that led to them, metres."""

    latents: Tensor
    trajectory: Tensor


def release_training(out: Path, **changes: Any) -> TrainingConfig:
    """How the release trains: AdamW at 1e-5 without decay, schedule or clipping; changes name fields of the config.

    The paper trains 1,200,000 steps, and speaks of a weight decay of 0.01, which the release has in its tokenizer alone.
    """
    settings: dict[str, Any] = {
        "steps": 1_200_000,
        "batch_size": 16,
        "optimizer": "adamw",
        "learning_rate": 1e-5,
        "schedule": "constant",
        "warmup": 0,
        "weight_decay": 0.0,
        "clip": math.inf,
        "ema_decay": 0.9999,
        "save_every": 5000,
        "log_every": 100,
    }
    return TrainingConfig(out=out, **(settings | changes))


class DiffusionTask(nn.Module):
    """The diffusion model with its loss on a batch of latents.

    Args:
        model: what is trained.
        seed: of steps, noise and withheld trajectories.
        full_from: step of the training from which on the whole bound is what is minimised, not the noise's error with the bound
            of the variance; None for never. The paper says "first L_simple, then the full L".
        snr_limit: see `draw_steps`; the release draws all steps alike. Raises ValueError beside `full_from`: the bound counts
            every step once.
    """

    def __init__(self, model: ClipDiffusion, seed: int, full_from: int | None = None, snr_limit: float | None = None) -> None:
        super().__init__()
        if full_from is not None and snr_limit is not None:
            raise ValueError(f"snr_limit: {snr_limit} cannot be had with the whole bound, which counts every step once")
        self.model, self.seed, self.full_from, self.snr_limit = model, seed, full_from, snr_limit

    def forward(self, batch: LatentBatch, step: int) -> dict[str, Tensor]:
        """Figures of one step: the loss, the mean squared error of the noise, and the bound of a step in bits per element."""
        generator, latents = own_generator(self.seed, step), batch.latents
        index = draw_steps(self.model.process, len(latents), generator, self.snr_limit)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        told = (torch.rand(len(latents), generator=generator) >= self.model.cfg.withheld).to(latents.device)
        full = self.full_from is not None and step >= self.full_from
        losses = self.model.losses(latents, batch.trajectory, told, index, noise, full=full)
        simple, bound = losses.simple.mean(), losses.bound.mean()
        return {"loss": bound if full else simple + bound, "simple": simple, "bound": bound}


def train_diffusion(
    clips: Dataset[dict[str, Any]],
    tokenizer: OccSoraTokenizer,
    transformer: ClipTransformerConfig,
    cfg: TrainingConfig,
    *,
    dt: float,
    count: int,
    withheld: float = 0.1,
    full_from: int | None = None,
    snr_limit: float | None = None,
) -> Path:
    """Train a diffusion model on a trained tokenizer; returns the folder with the finished model.

    clips: a data set whose items have `occupancy` uint8 (T, X, Y, Z) on the tokenizer's grid, and `motion` (T, 3), such as
    `SceneClips` and `StoreClips`; the first `count` are encoded and drawn from. dt: seconds between their frames.
    withheld: share of samples that do not learn of their trajectory, which makes guidance possible; the release withheld none.
    full_from, snr_limit: see `DiffusionTask`.
    """
    cache = build_latent_clips(tokenizer, clips, count, cfg.out / "latents")
    trajectories, frames = trajectory_from_motion(cache.motion), cache.motion.shape[1]
    shape, channels = tokenizer.latent_shape(frames), tokenizer.latent_channels
    torch.manual_seed(cfg.seed)
    scale = cache.scale()
    config = ClipDiffusionConfig(channels, shape, frames, dt, scale, cache.largest() / scale, transformer, withheld)
    task = DiffusionTask(ClipDiffusion(config), cfg.seed, full_from, snr_limit)

    def make_batch(step: int) -> LatentBatch:
        pick = trainer.at_random(step, len(cache))
        device = trainer.accelerator.device
        return LatentBatch(cache.latents(pick).to(device), trajectories[pick].to(device))

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, DiffusionTask)
        save_diffusion(trained.model, cfg.out)

    further = {"clips": count, "model": asdict(config), "full_from": full_from, "snr_limit": snr_limit}
    trainer = Trainer(task, make_batch, export, cfg, further)
    trainer.run()
    return cfg.out
