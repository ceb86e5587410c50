"""OccSora's 4D occupancy scene tokenizer: a whole clip becomes one map of latents, each snapped to a code, and voxels again.

The paper's section 3.2. `PaperConfig` builds it layer by layer as the paper and its code have it, `LeanConfig` another
backbone around the same codebook and class table.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.occsora.classes import class_logits
from models.occsora.codebook import Codebook, Quantized
from models.occsora.config import LeanConfig, PaperConfig
from models.occsora.convolutional import PaperDecoder, PaperEncoder
from models.occsora.lean import LeanDecoder, LeanEncoder
from scenes.grid import Grid, check_occupancy


class Reconstruction(NamedTuple):
    """What a training pass gives: a feature vector for every voxel (B, T, X, Y, Z, class_dim), and the codebook's outcome."""

    features: Tensor
    quantized: Quantized


class OccSoraTokenizer(nn.Module):
    """Encoder, codebook and decoder of clips on a grid; the number of frames is free, as long as the stride divides it.

    Raises ValueError where the strides do not divide the grid.
    """

    encoder: PaperEncoder | LeanEncoder
    decoder: PaperDecoder | LeanDecoder

    def __init__(self, grid: Grid, cfg: PaperConfig | LeanConfig) -> None:
        super().__init__()
        if any(side % stride for side, stride in zip(grid.shape[:2], cfg.strides[1:], strict=True)):
            raise ValueError(f"OccSoraTokenizer: strides {cfg.strides[1:]} do not divide a grid of {grid.shape[:2]} columns")
        self.grid, self.cfg = grid, cfg
        self.classes = nn.Embedding(grid.num_classes, cfg.class_dim)
        if isinstance(cfg, PaperConfig):
            width, self.encoder, self.decoder = cfg.width, PaperEncoder(grid, cfg), PaperDecoder(grid, cfg)
        else:
            width, self.encoder, self.decoder = cfg.widths[-1], LeanEncoder(grid, cfg), LeanDecoder(grid, cfg)
        self.before = nn.Conv3d(width, cfg.latent_channels, 1)
        self.codebook = Codebook(cfg.latent_channels, cfg.num_codes)
        self.after = nn.Conv3d(cfg.latent_channels, width, 1)

    @property
    def latent_channels(self) -> int:
        """Channels c of a latent."""
        return self.cfg.latent_channels

    @property
    def bits_per_frame(self) -> float:
        """Bits that the codes of one frame take."""
        frames, height, width = self.cfg.strides[0], *self.latent_shape(self.cfg.strides[0])[1:]
        return height * width * (self.cfg.num_codes - 1).bit_length() / frames

    def latent_shape(self, frames: int) -> tuple[int, int, int]:
        """Shape (t, h, w) of the latents of a clip; raises ValueError unless the stride divides its frames."""
        stride, along, across = self.cfg.strides
        if frames < 1 or frames % stride:
            expected = f"frames in a multiple of {stride}, as strides {self.cfg.strides} need to decode what they encode"
            raise ValueError(f"OccSoraTokenizer: expected {expected}, found {frames}")
        return frames // stride, self.grid.shape[0] // along, self.grid.shape[1] // across

    def encode(self, occupancy: Tensor) -> Tensor:
        """Latents before the codebook, (B, c, t, h, w), of occupancy uint8 (B, T, X, Y, Z)."""
        self._check_clip(occupancy)
        return self.before(self.encoder(occupancy, self.classes.weight))

    def quantize(self, latents: Tensor) -> Quantized:
        """Snap latents (B, c, t, h, w) to codes."""
        return self.codebook(latents)

    def lookup(self, codes: Tensor) -> Tensor:
        """The quantised latents (B, c, t, h, w) of code ids (B, t, h, w)."""
        return self.codebook.lookup(codes)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Most likely class of every voxel, uint8 (B, T, X, Y, Z), from quantised latents (B, c, t, h, w)."""
        self._check_latents(latents)
        return self.decoder.classify(self.after(latents), self.classes.weight)

    def forward(self, occupancy: Tensor) -> Reconstruction:
        """Occupancy uint8 (B, T, X, Y, Z) through the codes and back, differentiable by the straight-through rule."""
        quantized = self.quantize(self.encode(occupancy))
        return Reconstruction(self.decoder(self.after(quantized.latents)), quantized)

    def logits(self, features: Tensor) -> Tensor:
        """Class logits (..., K) of voxel features (..., class_dim)."""
        return class_logits(features, self.classes.weight)

    @torch.no_grad()
    def reconstruct(self, occupancy: Tensor) -> Tensor:
        """Occupancy uint8 (B, T, X, Y, Z) through the codes and back, uint8 of the same shape."""
        check_occupancy(occupancy, self.grid)
        return self.decode(self.quantize(self.encode(occupancy)).latents)

    def _check_clip(self, occupancy: Tensor) -> None:
        if occupancy.dtype != torch.uint8 or occupancy.ndim != 5 or tuple(occupancy.shape[2:]) != self.grid.shape:
            found = f"{occupancy.dtype} {tuple(occupancy.shape)}"
            raise ValueError(f"OccSoraTokenizer: expected occupancy uint8 (B, T, X, Y, Z) on {self.grid.shape}, found {found}")
        self.latent_shape(occupancy.shape[1])

    def _check_latents(self, latents: Tensor) -> None:
        _, *sides = self.latent_shape(self.cfg.strides[0])
        if latents.ndim != 5 or latents.shape[1] != self.latent_channels or list(latents.shape[3:]) != sides:
            expected = f"latents (B, {self.latent_channels}, t, {sides[0]}, {sides[1]})"
            raise ValueError(f"OccSoraTokenizer: expected {expected}, found {tuple(latents.shape)}")
