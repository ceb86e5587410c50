"""The diffusion transformer of Peebles and Xie (DiT, arXiv 2212.09748): blocks modulated by one condition vector a sample.

Tokens are (B, N, C), whatever they stand for; what makes tokens of a latent, and what is in the condition beside the time
step, is the business of the model around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kernels import ada_norm, gated_residual, gated_residual_norm, gelu
from models.layers import working_dtype


@dataclass(frozen=True)
class DiTConfig:
    """Shape of a diffusion transformer.

    Attributes:
        width: channels C of a token.
        depth: number of blocks.
        heads: attention heads, a divisor of the width.
        mlp_ratio: widening of the feed-forward layers.
    """

    width: int = 256
    depth: int = 28
    heads: int = 16
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.mlp_ratio) < 1 or self.width % self.heads:
            raise ValueError(f"DiTConfig: heads must divide width and all be positive, found {self}")


def waves(places: Tensor, channels: int) -> Tensor:
    """Cosines, then sines, of places (...) at wavelengths from 2 pi to 10,000 times that: float32 (..., channels), even."""
    frequency = torch.exp(torch.arange(channels // 2, device=places.device) * (-math.log(10_000) * 2 / channels))
    angle = places.float().unsqueeze(-1) * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


class TimeStepEmbedding(nn.Module):
    """Sines and cosines of the diffusion step through two linear layers."""

    def __init__(self, width: int, channels: int = 256) -> None:
        super().__init__()
        self.channels = channels
        self.widen = nn.Linear(channels, width)
        self.out = nn.Linear(width, width)
        for layer in (self.widen, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, step: Tensor) -> Tensor:
        """Steps (B,), whole or not, in those of the training's schedule (0 to 999) -> (B, width)."""
        return self.out(nn.functional.silu(self.widen(waves(step, self.channels))))


class DiTBlock(nn.Module):
    """Self-attention and a feed-forward layer, both modulated and gated by the condition (adaLN-Zero).

    A fresh block is the identity: what makes shifts, scales and gates of the condition starts at zero.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.widen = nn.Linear(width, mlp_ratio * width)
        self.narrow = nn.Linear(mlp_ratio * width, width)
        self.modulation = nn.Linear(width, 6 * width)
        for layer in (self.query_key_value, self.out, self.widen, self.narrow):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        _zero(self.modulation)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens x (B, N, width) under one condition a sample (B, width) -> (B, N, width)."""
        parts = self.modulation(nn.functional.silu(condition)).unflatten(-1, (6, -1)).unbind(1)
        shift, scale, gate, next_shift, next_scale, last_gate = parts
        attended = self._attend(ada_norm(x, scale, shift, working_dtype(x)))
        x, hidden = gated_residual_norm(x, self.out(attended), gate, next_scale, next_shift, working_dtype(x))
        return gated_residual(x, self.narrow(gelu(self.widen(hidden))), last_gate)

    def _attend(self, x: Tensor) -> Tensor:
        """Every token attends to all of its sample: (B, N, width) -> (B, N, width)."""
        query, key, value = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(-2)


class FinalLayer(nn.Module):
    """Modulated norm and a linear layer; a fresh one answers zero."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        self.linear = nn.Linear(width, outputs)
        _zero(self.modulation)
        _zero(self.linear)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens x (B, N, width) under one condition a sample (B, width) -> (B, N, outputs)."""
        shift, scale = self.modulation(nn.functional.silu(condition)).chunk(2, dim=-1)
        return self.linear(ada_norm(x, scale, shift, working_dtype(x)))


class DiT(nn.Module):
    """All blocks and the final layer: tokens in, outputs a token out."""

    def __init__(self, cfg: DiTConfig, outputs: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DiTBlock(cfg.width, cfg.heads, cfg.mlp_ratio) for _ in range(cfg.depth))
        self.final = FinalLayer(cfg.width, outputs)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens x (B, N, width) under one condition a sample (B, width) -> (B, N, outputs)."""
        for block in self.blocks:
            x = block(x, condition)
        return self.final(x, condition)


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
