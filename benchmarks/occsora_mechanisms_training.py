"""The trainings of occsora_mechanisms.py, and how well tokenizers rebuild held-out clips in the course of theirs.

What a name below trains lies in a folder of that name. Trainings go on from their last checkpoint.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from occsora_mechanisms_plan import FEATURE_BATCH, FEATURE_FRAMES, VARIANTS, Config, clips_of
from torch import Tensor

from models.fidelity.reconstruction import ReconstructionTally, commonest_classes
from models.fidelity.train_features import train_features
from models.occsora.config import occsora_preset
from models.occsora.latent_clips import build_latent_clips
from models.occsora.pretrained import load_tokenizer
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.train_diffusion import train_diffusion
from models.occsora.train_tokenizer import saved_tokenizers, short_training, train_tokenizer
from models.occsora.transformer import SIZES, ClipTransformerConfig
from models.train_tokenizer import perplexity
from models.training import TrainingConfig
from scenes.scene import Scene

_COUNTED = 64  # training clips that the class-frequency baseline counts


def train_one_tokenizer(config: Config, name: str, scenes: list[Scene], steps: int) -> dict[str, Any]:
    """A tokenizer by the release's losses in few steps, with `revive` where asked; kept at `points` moments."""
    settings = short_training(
        config.out / name,
        steps=steps,
        batch_size=config.tokenizer_batch,
        warmup=min(50, steps // 10 + 1),
        save_every=-(-steps // config.points),
        seed=config.seed,
    )
    clips = clips_of(config, scenes, seed=config.seed)
    train_tokenizer(clips, occsora_preset(name), settings, columns=config.columns, revive=config.revive, history=True)
    return {"steps": steps, "batch_size": settings.batch_size, "learning_rate": settings.learning_rate}


def reconstruction(config: Config, name: str, held_out: list[Tensor]) -> dict[str, Any]:
    """Figures of each kept moment of a tokenizer's training on held-out clips uint8 (T, X, Y, Z)."""
    return {"moments": [_rebuilt(step, folder, held_out) for step, folder in saved_tokenizers(config.out / name).items()]}


@torch.no_grad()
def _rebuilt(step: int, folder: Path, held_out: list[Tensor]) -> dict[str, Any]:
    tokenizer = load_tokenizer(folder)
    tally = ReconstructionTally(tokenizer.grid, len(held_out[0]))
    counts = torch.zeros(tokenizer.cfg.num_codes)
    for occupancy in held_out:
        clip = occupancy.unsqueeze(0)
        quantized = tokenizer.quantize(tokenizer.encode(clip))
        tally.add(clip, tokenizer.decode(quantized.latents))
        counts += torch.bincount(quantized.codes.flatten(), minlength=len(counts)).float()
    use = {"used_codes": int((counts > 0).sum()), "perplexity": round(float(perplexity(counts)), 2)}
    return {"step": step, **use, "bits_per_frame": round(tokenizer.bits_per_frame, 1), **tally.report()}


def class_frequency(config: Config, scenes: list[Scene], held_out: list[Tensor]) -> dict[str, Any]:
    """Figures of who shows for every frame the class that each cell has most often in training clips."""
    clips = clips_of(config, scenes, seed=config.seed)
    common = commonest_classes((clips[index]["occupancy"] for index in range(_COUNTED)), clips.grid)
    tally = ReconstructionTally(clips.grid, len(held_out[0]))
    for occupancy in held_out:
        tally.add(occupancy.unsqueeze(0), common.expand_as(occupancy).unsqueeze(0))
    return {"counted": _COUNTED, **tally.report()}


def encode_training_clips(config: Config, tokenizer: OccSoraTokenizer, scenes: list[Scene]) -> dict[str, Any]:
    """Latents that all diffusion models learn from."""
    cache = build_latent_clips(tokenizer, clips_of(config, scenes, seed=config.seed), config.encoded, config.out / "latents")
    return {"clips": len(cache), "used_codes": len(cache.codes.unique()), "scale": cache.scale(), "largest": cache.largest()}


def train_variant(config: Config, name: str, tokenizer: OccSoraTokenizer, scenes: list[Scene], steps: int) -> dict[str, Any]:
    """A diffusion model on the trained tokenizer's latents, told the trajectory but where it is withheld.

    The release's rate of 1e-5 and average over 10,000 steps are for a thousand times as many steps as two cores have time for.
    """
    out = config.out / name
    shutil.copytree(config.out / "latents", out / "latents", dirs_exist_ok=True)
    settings = TrainingConfig(
        out,
        steps=steps,
        batch_size=config.diffusion_batch,
        learning_rate=config.diffusion_rate,
        weight_decay=0.0,
        warmup=min(100, steps // 10 + 1),
        save_every=-(-steps // 4),
        seed=config.seed,
    )
    clips = clips_of(config, scenes, seed=config.seed)
    transformer: ClipTransformerConfig = replace(SIZES[config.transformer], **VARIANTS[name])  # type: ignore[arg-type]
    withheld = config.withheld if transformer.trajectory else 0.0
    how: dict[str, Any] = {"dt": clips.dt, "count": config.encoded, "withheld": withheld, "snr_limit": config.snr_limit}
    train_diffusion(clips, tokenizer, transformer, settings, **how)
    return {"steps": steps, "batch_size": settings.batch_size, "learning_rate": settings.learning_rate}


def train_extractor(config: Config, scenes: list[Scene], steps: int) -> dict[str, Any]:
    """The 3D feature extractor, on other clips of the towns that all trainings share."""
    frames = min(FEATURE_FRAMES, occsora_preset(config.preset).frames)
    clips = clips_of(config, scenes, seed=config.seed + 2, frames=frames)
    settings = TrainingConfig(
        config.out / "features",
        steps=steps,
        batch_size=FEATURE_BATCH,
        optimizer="adamw",
        learning_rate=1e-3,
        warmup=min(100, steps // 10 + 1),
        seed=config.seed,
    )
    train_features("voxels", clips, clips.grid, settings)
    return {"steps": steps, "batch_size": FEATURE_BATCH, "frames": frames}
