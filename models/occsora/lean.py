"""A lean encoder and decoder with latents of OccSora's size.

Squares of 2x2 columns, of two frames where time is halved too, are folded into channels before the first layer and unfolded
behind the last, so that no layer but the class head works at full resolution; wide convolutions give way to depthwise ones
with linear layers. Maps are (B, T, H, W, C).
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from kernels import class_embedding, classify_voxels
from models.layers import ConvBlock, fold, unfold
from models.occsora.attention import AxialAttention
from models.occsora.config import LeanConfig, Stride
from scenes.grid import Grid


class TimeMix(nn.Module):
    """Depthwise convolution of three taps along time, the identity at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.past, self.future = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) -> (B, T, H, W, C)."""
        before = torch.nn.functional.pad(self.past * x[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        after = torch.nn.functional.pad(self.future * x[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
        return x + before + after


class LeanBlock(nn.Module):
    """Mixing along time, then a ConvNeXt block on every frame, then, with heads, axial attention."""

    def __init__(self, width: int, heads: int = 0) -> None:
        super().__init__()
        self.time, self.space = TimeMix(width), ConvBlock(width)
        self.attention = nn.Sequential(nn.LayerNorm(width), AxialAttention(width, heads)) if heads else None

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) -> (B, T, H, W, C)."""
        x = self.time(x)
        x = self.space(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x if self.attention is None else x + self.attention(x)


class Merge(nn.Module):
    """Each box of `stride` places becomes one place with `out` channels."""

    def __init__(self, width: int, out: int, stride: Stride) -> None:
        super().__init__()
        self.box = dict(zip("rpq", stride, strict=True))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width * stride[0] * stride[1] * stride[2], out)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) -> (B, T / stride, H / stride, W / stride, out)."""
        return self.project(rearrange(self.norm(x), "b (t r) (h p) (w q) c -> b t h w (r p q c)", **self.box))


class Split(nn.Module):
    """Each place becomes a box of `stride` places with `out` channels."""

    def __init__(self, width: int, out: int, stride: Stride) -> None:
        super().__init__()
        self.box = dict(zip("rpq", stride, strict=True))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, out * stride[0] * stride[1] * stride[2])

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) -> (B, T * stride, H * stride, W * stride, out)."""
        return rearrange(self.project(self.norm(x)), "b t h w (r p q c) -> b (t r) (h p) (w q) c", **self.box)


def level(cfg: LeanConfig, number: int, blocks: tuple[int, ...]) -> list[nn.Module]:
    """The blocks of one level; those of the last attend."""
    heads = cfg.heads if number == len(cfg.widths) - 1 else 0
    return [LeanBlock(cfg.widths[number], heads) for _ in range(blocks[number])]


class LeanEncoder(nn.Module):
    """Classes (B, T, X, Y, Z) to maps (B, widths[-1], t, h, w)."""

    def __init__(self, grid: Grid, cfg: LeanConfig) -> None:
        super().__init__()
        self.frames = cfg.halvings[0][0]
        self.enter = nn.Linear(4 * self.frames * grid.shape[2] * cfg.class_dim, cfg.widths[0])
        layers = level(cfg, 0, cfg.encoder_blocks)
        for number, step in enumerate(cfg.halvings[1:], 1):
            layers += [Merge(cfg.widths[number - 1], cfg.widths[number], step), *level(cfg, number, cfg.encoder_blocks)]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(cfg.widths[-1]))

    def forward(self, occupancy: Tensor, table: Tensor) -> Tensor:
        """Occupancy uint8 (B, T, X, Y, Z), embedded by the table of classes (K, class_dim)."""
        chunks = occupancy.unflatten(1, (-1, self.frames))
        ids = fold(chunks.flatten(0, 1))
        x = self._embed(ids.flatten(0, 2), table)
        return self.layers(x.view(*chunks.shape[:2], *ids.shape[1:3], -1)).movedim(-1, 1)

    def _embed(self, ids: Tensor, table: Tensor) -> Tensor:
        """Ids (M, V) of the voxels at each place, embedded and put through the first layer: (M, widths[0])."""
        if torch.is_grad_enabled() and not ids.is_cuda:  # there the gradient of the plain way is the faster one
            return self.enter(torch.nn.functional.embedding(ids.int(), table).flatten(1))
        return class_embedding(ids, table, self.enter.weight, self.enter.bias)


class LeanDecoder(nn.Module):
    """Maps (B, widths[-1], t, h, w) to a feature vector for every voxel."""

    def __init__(self, grid: Grid, cfg: LeanConfig) -> None:
        super().__init__()
        self.frames, self.height, self.class_dim = cfg.halvings[0][0], grid.shape[2], cfg.class_dim
        layers: list[nn.Module] = []
        for number in range(len(cfg.widths) - 1, 0, -1):
            layers += [*level(cfg, number, cfg.decoder_blocks)]
            layers += [Split(cfg.widths[number], cfg.widths[number - 1], cfg.halvings[number])]
        layers += level(cfg, 0, cfg.decoder_blocks)
        self.layers = nn.Sequential(*layers, nn.LayerNorm(cfg.widths[0]))
        self.leave = nn.Linear(cfg.widths[0], 4 * self.frames * self.height * cfg.class_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, widths[-1], t, h, w) -> features (B, T, X, Y, Z, class_dim)."""
        features = self.leave(self.layers(x.movedim(1, -1)))
        box = {"p": 2, "q": 2, "f": self.frames, "z": self.height}
        return rearrange(features, "b t x y (p q f z c) -> b (t f) (x p) (y q) z c", **box)

    def classify(self, x: Tensor, table: Tensor) -> Tensor:
        """Maps (B, widths[-1], t, h, w) -> most likely classes uint8 (B, T, X, Y, Z), without logits in memory."""
        places = self.layers(x.movedim(1, -1))
        features = (self.leave.weight, self.leave.bias)
        ids = classify_voxels(places.flatten(0, -2), features, (table, table.new_zeros(len(table))))
        chunks = unfold(ids.view(*places.shape[:-1], -1).flatten(0, 1), self.frames, self.height)
        return chunks.unflatten(0, places.shape[:2]).flatten(1, 2)
