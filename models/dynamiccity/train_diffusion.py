"""Training of DynamicCity's diffusion transformer on windows that were encoded once."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.diffusion_loss import draw_steps
from models.dynamiccity.conditions import Conditions
from models.dynamiccity.plane_clips import build_plane_clips
from models.dynamiccity.plane_diffusion import DynamicCityConfig
from models.dynamiccity.vae import HexPlaneVae
from models.dynamiccity.world_model import DynamicCityWorldModel
from models.pretrained import save_pretrained
from models.training import Trainer, TrainingConfig, own_generator


class PlaneBatch(NamedTuple):
    """Scaled maps (B, C, H, W) and what is known of them."""

    rollout: Tensor
    conditions: Conditions


def release_training(out: Path, **changes: Any) -> TrainingConfig:
    """How the release trains: AdamW at 1e-4 without decay, schedule or warm-up, average of 0.9999; changes name fields.

    The paper trains 1200 epochs in batches of 128: `steps` depends on the number of clips, and has no default of the paper.
    """
    settings: dict[str, Any] = {
        "batch_size": 128,
        "optimizer": "adamw",
        "learning_rate": 1e-4,
        "schedule": "constant",
        "warmup": 0,
        "weight_decay": 0.0,
        "ema_decay": 0.9999,
    }
    return TrainingConfig(out=out, **(settings | changes))


class DiffusionTask(nn.Module):
    """The diffusion transformer of a world model with its loss on a batch; the VAE is frozen.

    Args:
        model: what is trained.
        seed: of steps, noise and withheld conditions.
        snr_limit: see `draw_steps`; the release draws all steps alike.
    """

    def __init__(self, model: DynamicCityWorldModel, seed: int, snr_limit: float | None = None) -> None:
        super().__init__()
        self.model, self.seed, self.snr_limit = model, seed, snr_limit
        model.vae.requires_grad_(False)

    def forward(self, batch: PlaneBatch, step: int) -> dict[str, Tensor]:
        """Figures of one step: the loss, the mean squared error of the noise, and the bound of a step in bits per number."""
        generator, rollout, diffusion = own_generator(self.seed, step), batch.rollout, self.model.diffusion
        index = draw_steps(diffusion.process, len(rollout), generator, self.snr_limit)
        noise = torch.randn(rollout.shape, generator=generator).to(rollout.device)
        told = batch.conditions.withhold(self.model.cfg.withheld, generator)
        losses = diffusion.losses(rollout, told, index, noise)
        simple, bound = losses.simple.mean(), losses.bound.mean()
        return {"loss": simple + bound, "simple": simple, "bound": bound}


def train_diffusion(
    clips: Dataset[dict[str, Any]],
    vae: HexPlaneVae,
    model_cfg: DynamicCityConfig,
    cfg: TrainingConfig,
    *,
    count: int,
    snr_limit: float | None = None,
) -> Path:
    """Train a diffusion transformer on a trained VAE; returns the folder with the finished world model.

    clips: a data set whose items have `occupancy` uint8 (T, X, Y, Z) and `motion` (T, 3), such as `SceneClips` and
    `StoreClips`, of `clip_frames` frames; the first `count` are encoded and drawn from. model_cfg: grid and shape of the
    VAE are taken from it, and the scale of the planes is measured. snr_limit: see `DiffusionTask`.
    """
    torch.manual_seed(cfg.seed)
    unscaled = _world_model(vae, replace(model_cfg, grid=vae.grid, vae=vae.cfg, scale=DynamicCityConfig.scale))
    unscaled.to(next(vae.parameters()).device)
    cache = build_plane_clips(unscaled, clips, count, cfg.out / "planes")
    torch.manual_seed(cfg.seed)
    model = _world_model(vae, replace(unscaled.cfg, scale=cache.scale(unscaled)))
    scale = model.diffusion.scale.cpu()

    def make_batch(step: int) -> PlaneBatch:
        pick = trainer.at_random(step, len(cache))
        device = trainer.accelerator.device
        return PlaneBatch((cache.planes[pick].float() / scale).to(device), cache.conditions(pick, scale, model).to(device))

    def export(trained: nn.Module) -> None:
        assert isinstance(trained, DiffusionTask)
        save_pretrained(trained.model, cfg.out)

    further = {"sequences": count, "model": asdict(model.cfg), "snr_limit": snr_limit}
    trainer = Trainer(DiffusionTask(model, cfg.seed, snr_limit), make_batch, export, cfg, further)
    trainer.run()
    return cfg.out


def _world_model(vae: HexPlaneVae, cfg: DynamicCityConfig) -> DynamicCityWorldModel:
    """A world model with the weights of a VAE and an untrained transformer."""
    model = DynamicCityWorldModel(cfg)
    model.vae.load_state_dict(vae.state_dict())
    return model
