"""What the tests of the diffusion model stand on: a tokenizer without weights, and clips whose content follows the ego."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.dit import DiTConfig
from models.occsora.transformer import ClipTransformerConfig
from scenes.grid import DRIVABLE, FREE, MINI

GRID = replace(MINI, shape=(16, 16, 2), origin=(-6.4, -6.4, -0.8))
FRAMES, DT = 8, 0.5
TRANSFORMER = ClipTransformerConfig(DiTConfig(width=32, depth=2, heads=2), trajectory_width=16, trajectory_scale=10.0)


class Quantized(NamedTuple):
    latents: Tensor
    codes: Tensor


@dataclass
class Codes:
    num_codes: int = 5


class StandInTokenizer(nn.Module):
    """Codes are how full a box of 4 frames and 8 x 8 columns is, in quarters; each stands for a fixed vector of 3 channels."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.grid, self.cfg, self.latent_channels = GRID, Codes(), 3
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(4 * torch.randn(5, 3, generator=generator), requires_grad=False)

    def latent_shape(self, frames: int) -> tuple[int, int, int]:
        return frames // 4, GRID.shape[0] // 8, GRID.shape[1] // 8

    def encode(self, occupancy: Tensor) -> Tensor:
        full = (occupancy != FREE).float().mean(-1).unsqueeze(1)
        return nn.functional.avg_pool3d(full, (4, 8, 8)).expand(-1, 3, -1, -1, -1)

    def quantize(self, latents: Tensor) -> Quantized:
        codes = (latents[:, 0] * 4).round().long()
        return Quantized(self.lookup(codes), codes)

    def lookup(self, codes: Tensor) -> Tensor:
        return self.table[codes].movedim(-1, 1)


class Clips(Dataset[dict[str, Any]]):
    """Every other clip stands in an empty place, the others drive 2 m a frame, and their left half is full."""

    def __init__(self, length: int = 64) -> None:
        self.length, self.read = length, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        self.read += 1
        occupancy = torch.full((FRAMES, *GRID.shape), FREE, dtype=torch.uint8)
        motion = torch.zeros(FRAMES, 3)
        if index % 2:
            occupancy[:, :, 8:] = DRIVABLE
            motion[1:, 0] = 2.0
        return {"occupancy": occupancy, "motion": motion, "source": "made up", "kind": "stored"}
