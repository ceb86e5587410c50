"""Occupancy to features at half resolution, frame by frame: the convolutions before the Projection Module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.dynamiccity.blocks import NormalisedPair, by_frame, convolve, normalise
from models.dynamiccity.config import HexPlaneConfig
from scenes.grid import Grid


class FrameEncoder(nn.Module):
    """Convolutions on a frame's embedded classes: stem, residual pair, halving, residual pair."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels, channels, kernel_size=3, bias=False)
        self.fine = NormalisedPair(channels, "replicate")
        self.halve = nn.Conv3d(channels, channels, kernel_size=2, stride=2, bias=False)
        self.coarse = NormalisedPair(channels, "replicate")

    def forward(self, volume: Tensor) -> Tensor:
        """Embedded frames (N, C, X, Y, Z) -> (N, C, X / 2, Y / 2, Z / 2)."""
        volume = convolve(volume, self.stem, "replicate")
        volume = volume + self.fine(volume)
        volume = normalise(self.halve(volume))
        return volume + self.coarse(volume)


class Encoder(nn.Module):
    """A class embedding and two frame encoders: one feeds the planes of space, the other those with time as an axis.

    The release gives the second one the frame's number as well, as T one-hot channels. They are left out because they change
    nothing: being constant over a frame, they add a constant to every channel after each of its convolutions, whose borders
    repeat, and the next normalisation takes it away, as it would the bias of a stem. test_plain.py compares the two.
    """

    def __init__(self, grid: Grid, cfg: HexPlaneConfig) -> None:
        super().__init__()
        self.embed = nn.Embedding(grid.num_classes, cfg.channels)
        self.space, self.time = FrameEncoder(cfg.channels), FrameEncoder(cfg.channels)

    def forward(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Occupancy uint8 (B, T, X, Y, Z) -> features for space and for time, each (B, T, X / 2, Y / 2, Z / 2, C)."""
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for frames in by_frame(occupancy.flatten(0, 1), occupancy[0, 0].numel()):
            volume = self.embed(frames.int()).permute(0, 4, 1, 2, 3)
            for encoder, features in zip((self.space, self.time), found, strict=True):
                features.append(encoder(volume).permute(0, 2, 3, 4, 1))
        space, time = (torch.cat(features) for features in found)
        for whole in (space, time):
            if whole.requires_grad:
                # Gradients in the order that the projections leave them in come out wrong at the embedding (torch 2.13, CPU).
                whole.register_hook(Tensor.contiguous)
        return space.unflatten(0, occupancy.shape[:2]), time.unflatten(0, occupancy.shape[:2])
