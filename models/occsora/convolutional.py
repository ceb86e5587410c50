"""OccSora's encoder and decoder as published: 3D convolutions that halve and double, residual blocks with axial attention.

Maps are (B, C, T, H, W) with channels last in memory, which is what convolutions and attention both read fastest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.occsora.attention import AxialAttention
from models.occsora.classes import best_class
from models.occsora.config import PaperConfig, Stride
from scenes.grid import Grid

KERNEL = 4  # of the convolutions that halve and double; the padding at the front is (KERNEL - stride + 1) // 2
FRAMES_AT_ONCE = 4  # of the decoder's finest map, when classes are wanted and features are not


class Halve(nn.Module):
    """Convolution of four taps along each axis, with stride 2 or 1 and as much padding as makes n places n / stride."""

    def __init__(self, channels: int, width: int, stride: Stride) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(channels, width, KERNEL, stride, padding=1)
        self.missing = [part for step in reversed(stride) for part in ((1, 0) if step == 1 else (0, 0))]

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T, H, W) -> (B, width, T / stride, H / stride, W / stride)."""
        return self.convolution(torch.nn.functional.pad(x, self.missing) if any(self.missing) else x)


class Double(nn.Module):
    """Transposed convolution of four taps along each axis, with stride 2 or 1: n places become n * stride."""

    def __init__(self, width: int, channels: int, stride: Stride) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = nn.ConvTranspose3d(width, channels, KERNEL, stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, width, T, H, W) -> (B, C, T * stride, H * stride, W * stride)."""
        size = [length * step for length, step in zip(x.shape[2:], self.stride, strict=True)]
        return self.convolution(x)[..., : size[0], : size[1], : size[2]]

    def frames(self, x: Tensor, first: int, last: int) -> Tensor:
        """What the frames first to last - 1 of x become: the frames stride * first to stride * last - 1 of the result."""
        front, back = (1, 1) if self.stride[0] == 2 else (2, 1)
        begin, end, length = first - front, last + back, x.shape[2]
        part = x[:, :, max(begin, 0) : min(end, length)]
        part = torch.nn.functional.pad(part, (0, 0, 0, 0, max(-begin, 0), max(end - length, 0)))
        layer, size = self.convolution, [length * step for length, step in zip(x.shape[3:], self.stride[1:], strict=True)]
        found = torch.nn.functional.conv_transpose3d(part, layer.weight, layer.bias, self.stride, (KERNEL - 1, 1, 1))
        return found[..., : size[0], : size[1]]


class ResidualBlock(nn.Module):
    """x plus a branch: narrow to half the channels, widen, axial attention, each behind batch normalisation and ReLU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.Conv3d(width, width // 2, 3, padding=1, bias=False),
            nn.BatchNorm3d(width // 2),
            nn.ReLU(),
            nn.Conv3d(width // 2, width, 1, bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        self.attention = AxialAttention(width, heads)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T, H, W) -> (B, C, T, H, W)."""
        y = self.convolutions(x).movedim(1, -1)
        return x + self.attention(y).movedim(-1, 1)


def residual_stack(cfg: PaperConfig) -> nn.Sequential:
    """The residual blocks of encoder or decoder and what closes them."""
    blocks = (ResidualBlock(cfg.width, cfg.heads) for _ in range(cfg.blocks))
    return nn.Sequential(*blocks, nn.BatchNorm3d(cfg.width), nn.ReLU())


class PaperEncoder(nn.Module):
    """Classes (B, T, X, Y, Z) to maps (B, width, t, h, w)."""

    def __init__(self, grid: Grid, cfg: PaperConfig) -> None:
        super().__init__()
        channels = [grid.shape[2] * cfg.class_dim] + [cfg.width] * (len(cfg.halvings) - 1)
        self.halves = nn.ModuleList(Halve(entry, cfg.width, step) for entry, step in zip(channels, cfg.halvings, strict=True))
        self.last = nn.Conv3d(cfg.width, cfg.width, 3, padding=1)
        self.residual = residual_stack(cfg)

    def forward(self, occupancy: Tensor, table: Tensor) -> Tensor:
        """Occupancy uint8 (B, T, X, Y, Z), embedded by the table of classes (K, class_dim)."""
        # Height is folded into channels; memory already is what channels last wants.
        x = torch.nn.functional.embedding(occupancy.int(), table).flatten(-2).movedim(-1, 1)
        for halve in self.halves:
            x = halve(x).relu_()
        return self.residual(self.last(x))


class PaperDecoder(nn.Module):
    """Maps (B, width, t, h, w) to a feature vector for every voxel."""

    def __init__(self, grid: Grid, cfg: PaperConfig) -> None:
        super().__init__()
        self.height, self.class_dim = grid.shape[2], cfg.class_dim
        self.residual = residual_stack(cfg)
        channels = [cfg.width] * (len(cfg.halvings) - 1) + [self.height * cfg.class_dim]
        self.doubles = nn.ModuleList(Double(cfg.width, exit, step) for exit, step in zip(channels, cfg.halvings, strict=True))

    def trunk(self, x: Tensor) -> Tensor:
        """All but the last transposed convolution: (B, width, t, h, w) to the finest map of that width."""
        x = self.residual(x)
        for double in self.doubles[:-1]:
            x = double(x).relu_()
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, width, t, h, w) -> features (B, T, X, Y, Z, class_dim)."""
        return self._voxels(self.doubles[-1](self.trunk(x)))

    def classify(self, x: Tensor, table: Tensor) -> Tensor:
        """Maps (B, width, t, h, w) -> most likely classes uint8 (B, T, X, Y, Z), a few frames of one clip at a time."""
        x, last = self.trunk(x), self.doubles[-1]
        assert isinstance(last, Double)
        clips = []
        for clip in x.split(1):
            starts = range(0, clip.shape[2], FRAMES_AT_ONCE)
            parts = [last.frames(clip, first, min(first + FRAMES_AT_ONCE, clip.shape[2])) for first in starts]
            clips.append(torch.cat([best_class(self._voxels(part), table) for part in parts], dim=1))
        return torch.cat(clips)

    def _voxels(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1).unflatten(-1, (self.height, self.class_dim))
