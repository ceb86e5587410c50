"""A small untrained world model of OccSora's kind, and a street to start it from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.diffusion_sampling import SamplerConfig
from models.dit import DiTConfig
from models.occsora.clip_diffusion import ClipDiffusionConfig
from models.occsora.latent_clips import code_table
from models.occsora.tokenizer import OccSoraTokenizer
from models.occsora.transformer import ClipTransformerConfig
from models.occsora.world_model import OccSoraConfig, OccSoraWorldModel
from scenes.grid import Grid
from scenes.motion import motion_from_poses
from scenes.render import render
from scenes.scene import Scene
from tests.models.occsora.small import CONFIGS, GRID

DT, FRAMES = 0.5, 32
LARGEST = 2.0
SAMPLER = SamplerConfig("ddim", steps=3)
BLOCKS = ClipTransformerConfig(DiTConfig(width=32, depth=1, heads=2), trajectory_width=16)


def make_world_model(name: str = "paper", grid: Grid = GRID, frames: int = FRAMES, **changes: Any) -> OccSoraWorldModel:
    """An untrained model whose output layers are not zero, so that seeds and conditions count; changes name config fields."""
    tokenizer = _tokenizer(name, grid)
    time, along, across = tokenizer.cfg.strides
    shape = (frames // time, grid.shape[0] // along, grid.shape[1] // across)
    scale = float(code_table(tokenizer).square().mean().sqrt())
    diffusion = ClipDiffusionConfig(tokenizer.latent_channels, shape, frames, DT, scale, LARGEST, BLOCKS, withheld=0.1)
    settings = {"sampler": SAMPLER} | changes
    model = OccSoraWorldModel(OccSoraConfig(grid, tokenizer.cfg, diffusion, **settings))
    model.tokenizer.load_state_dict(tokenizer.state_dict())
    with torch.no_grad():
        for parameter in model.diffusion.transformer.dit.parameters():
            parameter.normal_(std=0.2)
    return model.eval().requires_grad_(False)


def _tokenizer(name: str, grid: Grid) -> OccSoraTokenizer:
    """An untrained tokenizer whose codes are vectors that it makes of noise, so that clips fall to different ones."""
    torch.manual_seed(0)
    tokenizer = OccSoraTokenizer(grid, CONFIGS[name]).eval()
    clip = torch.randint(grid.num_classes, (1, 16, *grid.shape), dtype=torch.uint8)
    with torch.no_grad():
        vectors = tokenizer.quantize(tokenizer.encode(clip)).vectors.movedim(1, -1).flatten(0, -2)
        tokenizer.codebook.codes.copy_(vectors[torch.randint(len(vectors), (tokenizer.cfg.num_codes,))])
    return tokenizer


def street_history(scene: Scene, frames: int, start: float = 0.0, grid: Grid = GRID) -> tuple[Tensor, Tensor]:
    """Occupancy (1, T, X, Y, Z) and motion (1, T, 3) of the scene's ego from `start` seconds on, at 2 Hz."""
    times = start + DT * torch.arange(frames, dtype=torch.float64)
    poses = scene.ego_poses(0, times)
    return render(scene, poses, times, grid, 0).unsqueeze(0), motion_from_poses(poses).unsqueeze(0)


def driving(worlds: int, frames: int, metres: float = 2.0, turn: float = 0.02) -> Tensor:
    """Motion (B, T, 3) of `metres` and `turn` radians a frame."""
    return torch.tensor([metres, 0.0, turn]).repeat(worlds, frames, 1)
