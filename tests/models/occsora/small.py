"""Small shapes of OccSora's tokenizer that its tests share, and clips on their grid."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.occsora.config import LeanConfig, PaperConfig
from models.occsora.tokenizer import OccSoraTokenizer
from scenes.grid import MINI

GRID = replace(MINI, shape=(16, 24, 4), origin=(-6.4, -9.6, -0.8))
PAPER = PaperConfig(class_dim=4, latent_channels=8, num_codes=32, width=16, blocks=1)
LEAN = LeanConfig(
    class_dim=4,
    latent_channels=8,
    num_codes=32,
    widths=(8, 16, 24),
    encoder_blocks=(1, 1, 1),
    decoder_blocks=(1, 1, 1),
    heads=2,
)
CONFIGS = {
    "paper": PAPER,
    "paper-4x8x8": replace(PAPER, strides=(4, 8, 8)),
    "paper-4x4x4": replace(PAPER, strides=(4, 4, 4)),
    "lean": LEAN,
    "lean-4x8x8": replace(LEAN, strides=(4, 8, 8)),
}


def make_tokenizer(name: str = "paper") -> OccSoraTokenizer:
    """An untrained tokenizer whose codes are vectors that it makes of some clip, so that others fall to different ones."""
    torch.manual_seed(0)
    tokenizer = OccSoraTokenizer(GRID, CONFIGS[name]).eval()
    with torch.no_grad():
        vectors = tokenizer.quantize(tokenizer.encode(make_clips(4, seed=1))).vectors.movedim(1, -1).flatten(0, -2)
        tokenizer.codebook.codes.copy_(vectors[torch.randint(len(vectors), (tokenizer.cfg.num_codes,))])
    return tokenizer


def make_clips(clips: int = 1, frames: int = 16, seed: int = 0) -> Tensor:
    """Occupancy (B, T, X, Y, Z) of random classes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(GRID.num_classes, (clips, frames, *GRID.shape), generator=generator, dtype=torch.uint8)
