"""Layers that the tokenizer, the blend and the agents' flow are built of, on maps (B, H, W, C) with channels last."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from kernels import class_embedding, depthwise_norm, feed_forward


def working_dtype(x: Tensor) -> torch.dtype:
    """What linear layers compute in where x is: the type of autocast, or that of x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class ConvBlock(nn.Module):
    """ConvNeXt block on (B, H, W, C): depthwise 5x5, normalisation, widening by two, GELU, narrowing, residual."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel_size=5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        nn.init.zeros_(self.narrow.bias)
        with torch.no_grad():
            self.narrow.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H, W, C) -> (B, H, W, C)."""
        if len(x) > 1 and x.device.type == "cpu" and not torch.is_grad_enabled():
            return torch.cat([self(one) for one in x.split(1)])  # one map and its hidden channels fit in a CPU's cache
        bias = self.depthwise.bias
        assert bias is not None
        y = depthwise_norm(x, (self.depthwise.weight, bias), (self.norm.weight, self.norm.bias), working_dtype(x))
        return feed_forward(x, y, (self.widen.weight, self.widen.bias), (self.narrow.weight, self.narrow.bias))


class Downsample(nn.Module):
    """Halve height and width: each 2x2 square of (B, H, W, C) becomes one place with `out` channels."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(4 * width, out)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H, W, C) -> (B, H / 2, W / 2, out)."""
        return self.project(rearrange(self.norm(x), "b (h p) (w q) c -> b h w (p q c)", p=2, q=2))


class Upsample(nn.Module):
    """Double height and width: each place of (B, H, W, C) becomes a 2x2 square with `out` channels."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 4 * out)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, H, W, C) -> (B, 2 H, 2 W, out)."""
        return rearrange(self.project(self.norm(x)), "b h w (p q c) -> b (h p) (w q) c", p=2, q=2)


def fold(occupancy: Tensor) -> Tensor:
    """Voxels (B, F, X, Y, Z) gathered by 2x2 columns: (B, X / 2, Y / 2, 4 F Z)."""
    return rearrange(occupancy, "b f (x p) (y q) z -> b x y (p q f z)", p=2, q=2)


def unfold(folded: Tensor, frames: int, height: int) -> Tensor:
    """The inverse of `fold`: (B, X / 2, Y / 2, 4 F Z) -> (B, F, X, Y, Z)."""
    return rearrange(folded, "b x y (p q f z) -> b f (x p) (y q) z", p=2, q=2, f=frames, z=height)


def embed_voxels(ids: Tensor, embed: nn.Embedding, enter: nn.Linear) -> Tensor:
    """Class ids uint8 (B, H, W, V) of the voxels at each place, embedded and put through a linear layer: (B, H, W, C).

    Ids above the last row of the embedding get that row.
    """
    x = class_embedding(ids.flatten(0, 2), embed.weight, enter.weight, enter.bias)
    return x.unflatten(0, ids.shape[:3])
