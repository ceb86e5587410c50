"""The HexPlane VAE beside OccSora's tokenizer: the same clips, as many steps, and about as many bits.

    python benchmarks/dynamiccity_rival.py --vae runs/dynamiccity/module-ess --scenes runs/mini/scenes --held-out runs/val \\
        --out runs/dynamiccity/occsora --steps 2000

The VAE is one that dynamiccity_vae.py trained; scenes, steps, batch and seed are to be those of its training. OccSora's
tokenizer learns from the same clips (the VAE from every other one mirrored), and both reconstruct the same clips of other
towns. Bits of the tokenizer are those of its codes. Planes are real numbers, and are judged twice: drawn from the posterior, at
the bits of its divergence from the prior, which is what draws cost beyond what the prior knows; and the posterior's means, at
16 bits each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from dynamiccity_vae import FRAME_SECONDS
from machine import describe, say, write
from torch import Tensor

from models.dynamiccity.pretrained import load_vae
from models.dynamiccity.vae import HexPlaneVae
from models.fidelity.reconstruction import ReconstructionTally
from models.occsora.config import OccSoraPreset, PaperConfig, Stride, occsora_preset
from models.occsora.pretrained import load_tokenizer
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.train_tokenizer import short_training, train_tokenizer
from scenes.dataset import SceneClips
from scenes.scene_file import load_scenes


@dataclass(frozen=True)
class Config:
    """What to train and measure."""

    vae: Path
    """Folder of a trained HexPlane VAE."""
    scenes: Path
    """Folder of the scenes that it was trained on."""
    held_out: Path
    """Folder of scenes of other towns, to measure on."""
    out: Path
    """Folder of the tokenizer's run; a run that was stopped goes on where it was."""
    steps: int = 2000
    """Training steps, those of the VAE."""
    batch_size: int = 1
    """Clips a step, likewise."""
    preset: str = "occsora-near"
    """Tokenizer of models/occsora/config.py, for the VAE's grid and frames."""
    strides: Stride = (2, 4, 4)
    """Frames, and voxels along both axes, that a code stands for: they set its bits."""
    columns: int = 1 << 14
    """Voxel columns of a batch at which the tokenizer's losses of the classes are taken."""
    clips: int = 32
    """Held-out clips that are reconstructed."""
    threads: int = 2
    """CPU threads."""
    seed: int = 0
    """Of weights and clips, that of the VAE."""
    json: str = ""
    """Where to write JSON: a file, - for standard output, or nowhere."""


def train_rival(config: Config, vae: HexPlaneVae) -> OccSoraTokenizer:
    """OccSora's tokenizer, trained on the clips that the VAE saw."""
    preset = occsora_preset(config.preset)
    if not isinstance(preset.tokenizer, PaperConfig) or preset.grid != vae.grid:
        raise ValueError(
            f"--preset: expected one of the paper's structure on the VAE's grid {vae.grid.shape}, found {config.preset}"
        )
    shape = OccSoraPreset(replace(preset.tokenizer, strides=config.strides), vae.grid, vae.cfg.frames, FRAME_SECONDS)
    clips = SceneClips(load_scenes(config.scenes), vae.grid, FRAME_SECONDS, vae.cfg.frames, seed=config.seed)
    settings = short_training(
        config.out,
        steps=config.steps,
        batch_size=config.batch_size,
        warmup=min(100, config.steps // 10 + 1),
        seed=config.seed,
    )
    train_tokenizer(clips, shape, settings, columns=config.columns, revive=True)
    return load_tokenizer(config.out)


@torch.no_grad()
def reconstruct(clips: list[Tensor], rebuild: Callable[[Tensor], Tensor], tally: ReconstructionTally) -> dict[str, Any]:
    """Figures of clips uint8 (T, X, Y, Z), one after the other."""
    for occupancy in clips:
        tally.add(occupancy.unsqueeze(0), rebuild(occupancy.unsqueeze(0)))
    return tally.report()


@torch.no_grad()
def plane_bits(vae: HexPlaneVae, clips: list[Tensor]) -> tuple[float, float]:
    """Bits of a frame's share of the planes: of the posterior beyond the prior, a mean over clips, and in 16 bits a number."""
    posteriors = [vae.encode(occupancy.unsqueeze(0)) for occupancy in clips]
    numbers = sum(plane.numel() for plane in posteriors[0].mean)
    nats = sum(float(posterior.kl()) for posterior in posteriors) / len(posteriors)
    return numbers * nats / math.log(2) / vae.cfg.frames, 16 * numbers / vae.cfg.frames


def measure(config: Config) -> dict[str, Any]:
    """Everything, as a dict that JSON can hold."""
    vae = load_vae(config.vae)
    say("training OccSora's tokenizer")
    tokenizer = train_rival(config, vae)
    held_out = SceneClips(load_scenes(config.held_out), vae.grid, FRAME_SECONDS, vae.cfg.frames, seed=config.seed + 1)
    clips = [held_out[index]["occupancy"] for index in range(config.clips)]
    generator = torch.Generator().manual_seed(config.seed)
    drawn, stored = plane_bits(vae, clips)
    ways: dict[str, tuple[torch.nn.Module, float, Callable[[Tensor], Tensor]]] = {
        "HexPlane, drawn": (vae, drawn, lambda clip: vae.decode(vae.encode(clip).sample(generator))),
        "HexPlane, means": (vae, stored, vae.reconstruct),
        "OccSora": (tokenizer, tokenizer.bits_per_frame, tokenizer.reconstruct),
    }
    rows = {}
    for name, (model, bits, rebuild) in ways.items():
        say(f"measuring {name}")
        told = {"weights": sum(part.numel() for part in model.parameters()), "bits_per_frame": bits}
        rows[name] = told | reconstruct(clips, rebuild, ReconstructionTally(vae.grid, vae.cfg.frames))
    return {"steps": config.steps, "batch_size": config.batch_size, "clips": config.clips, "models": rows, **describe()}


def table(result: dict[str, Any]) -> str:
    """The result to read."""
    lines = [
        f"{result['steps']} steps of {result['batch_size']}, {result['clips']} held-out clips",
        f"  {'':16}{'weights':>10}{'bits a frame':>14}{'mIoU':>8}{'IoU':>8}",
    ]
    for name, row in result["models"].items():
        quality = f"{100 * row['miou']:>8.2f}{100 * row['iou']:>8.2f}"
        lines.append(f"  {name:16}{row['weights']:>10,}{row['bits_per_frame']:>14.0f}{quality}")
    return "\n".join(lines)


def main() -> None:
    """Train, measure, print the table, and write JSON where asked."""
    config = tyro.cli(Config, description=__doc__)
    torch.set_num_threads(config.threads)
    result = measure(config)
    print(table(result))
    write(json.loads(json.dumps(result)), config.json)


if __name__ == "__main__":
    main()
