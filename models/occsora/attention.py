"""Attention along one axis of a clip at a time: OccSora's cross-channel attention."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn


class AxisAttention(nn.Module):
    """Self-attention among the places of one line of (B, T, H, W, C), for all lines along one axis."""

    def __init__(self, width: int, heads: int, axis: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"AxisAttention: {heads} heads do not divide a width of {width}")
        self.heads, self.axis = heads, axis
        self.enter = nn.Linear(width, 3 * width, bias=False)
        self.leave = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) -> (B, T, H, W, C)."""
        lines = self.enter(x).transpose(self.axis, 3)
        query, key, value = rearrange(lines, "b m n l (k heads c) -> k (b m n) heads l c", k=3, heads=self.heads)
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        found = rearrange(found, "(b m n) heads l c -> b m n l (heads c)", b=lines.shape[0], m=lines.shape[1])
        return self.leave(found.transpose(self.axis, 3))


class AxialAttention(nn.Module):
    """Sum of the attention along width, height and time."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.along = nn.ModuleList(AxisAttention(width, heads, axis) for axis in (3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) -> (B, T, H, W, C)."""
        width, height, time = (attend(x) for attend in self.along)
        return width + height + time
