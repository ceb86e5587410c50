"""Layers on volumes (N, C, X, Y, Z) of single frames that encoder and decoder share, with channels last in memory."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, instance_norm, leaky_relu, pad

SLOPE = 0.1  # of every leaky ReLU
_AT_ONCE = 1 << 17  # voxels, of the frames that a CPU works on at a time


def normalise(x: Tensor, eps: float = 1e-5, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Each channel of each sample of (N, C, ...) with zero mean and unit variance over its cells; then weight and bias."""
    if len(x) == 1:
        # The same sums, but torch has a path for channels last here, and its instance_norm of one sample returns a wrong
        # gradient where the gradient that comes in has channels last (2.13, CPU).
        return batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    return instance_norm(x, weight=weight, bias=bias, eps=eps)


def activate(volume: Tensor) -> Tensor:
    """Leaky ReLU."""
    return leaky_relu(volume, SLOPE)


def convolve(volume: Tensor, conv: nn.Conv3d, border: Literal["replicate", "constant"]) -> Tensor:
    """3x3x3 convolution without bias, (N, C, X, Y, Z) to the same size; beyond the border cells repeat, or are zero."""
    if border == "constant":
        return torch.conv3d(volume, conv.weight, padding=1)
    return torch.conv3d(pad(volume, (1,) * 6, mode=border), conv.weight)


class NormalisedPair(nn.Module):
    """Two convolutions, each normalised, with a leaky ReLU between them: (N, C, X, Y, Z) -> (N, C, X, Y, Z).

    Neither has a bias, here as everywhere before a normalisation, which would take it away again.
    """

    def __init__(self, channels: int, border: Literal["replicate", "constant"]) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, kernel_size=3, bias=False)
        self.second = nn.Conv3d(channels, channels, kernel_size=3, bias=False)
        self.border: Literal["replicate", "constant"] = border

    def forward(self, volume: Tensor) -> Tensor:
        """One frame's volume, or several, each by itself."""
        hidden = activate(normalise(convolve(volume, self.first, self.border)))
        return normalise(convolve(hidden, self.second, self.border))


def by_frame(frames: Tensor, cells: int) -> tuple[Tensor, ...]:
    """Frames (N, ...) of so many voxels one at a time on a CPU, whose caches hold about one, and together elsewhere.

    Small ones go several at a time: torch leaves convolutions of one small sample to a slow path (2.13, CPU).
    """
    return frames.split(max(1, -(-_AT_ONCE // cells))) if frames.device.type == "cpu" else (frames,)
