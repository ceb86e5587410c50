"""The chunk tokenizer: F frames of occupancy become an h x w map of product codes, and codes become voxels again.

A chunk is encoded and decoded by itself, no state crosses its border. Height and the frames of the chunk are folded into
channels, space is halved three times, and each token is snapped to G codes, one from each of G small codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from kernels import classify_voxels
from models.layers import ConvBlock, Downsample, Upsample, embed_voxels, fold, unfold, working_dtype
from models.quantizer import ProductQuantizer, Quantized
from scenes.grid import Grid, check_occupancy

STRIDE = 8  # columns a token spans along each side: three halvings


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of a chunk tokenizer.

    Attributes:
        chunk_frames: frames F in a chunk.
        class_dim: channels of a class embedding, at the input and at the class head.
        widths: channels at strides 2, 4 and 8.
        encoder_blocks: residual blocks of the encoder at strides 2, 4 and 8.
        decoder_blocks: residual blocks of the decoder at strides 2, 4 and 8.
        groups: codebooks G, each of which gives every token one code.
        num_codes: codes K in each codebook.
        code_dim: channels D of a code; a latent has G * D.
    """

    chunk_frames: int = 2
    class_dim: int = 8
    widths: tuple[int, int, int] = (96, 160, 256)
    encoder_blocks: tuple[int, int, int] = (1, 1, 2)
    decoder_blocks: tuple[int, int, int] = (2, 2, 3)
    groups: int = 16
    num_codes: int = 256
    code_dim: int = 4

    @property
    def latent_dim(self) -> int:
        """Channels of a latent: G * D."""
        return self.groups * self.code_dim


class Encoder(nn.Module):
    """Occupancy (B, F, X, Y, Z) to latents (B, h, w, G * D) with zero mean and unit variance over channels."""

    def __init__(self, grid: Grid, cfg: TokenizerConfig) -> None:
        super().__init__()
        # The last id is for cells nobody saw, as a warped frame has them.
        self.embed = nn.Embedding(grid.num_classes + 1, cfg.class_dim)
        folded = cfg.chunk_frames * grid.shape[2] * cfg.class_dim
        stem = nn.Linear(4 * folded, cfg.widths[0])
        layers: list[nn.Module] = [stem, *(ConvBlock(cfg.widths[0]) for _ in range(cfg.encoder_blocks[0]))]
        for level in (1, 2):
            layers.append(Downsample(cfg.widths[level - 1], cfg.widths[level]))
            layers.extend(ConvBlock(cfg.widths[level]) for _ in range(cfg.encoder_blocks[level]))
        self.layers = nn.Sequential(*layers, nn.LayerNorm(cfg.widths[2]), nn.Linear(cfg.widths[2], cfg.latent_dim))
        self.normalise = nn.LayerNorm(cfg.latent_dim, elementwise_affine=False)

    def forward(self, occupancy: Tensor) -> Tensor:
        """Occupancy uint8 (B, F, X, Y, Z), ids above the last class are unknown cells -> latents (B, h, w, G * D)."""
        x = embed_voxels(fold(occupancy), self.embed, cast("nn.Linear", self.layers[0]))
        return self.normalise(self.layers[1:](x))


class Decoder(nn.Module):
    """Latents (B, h, w, G * D) to one feature vector a voxel, and those to class logits.

    The widest work is done at stride 2 and below; at full resolution there is only the class head, a dot product with
    one vector a class, whose result need not be kept to take its argmax.
    """

    def __init__(self, grid: Grid, cfg: TokenizerConfig) -> None:
        super().__init__()
        self.frames, self.height, self.class_dim = cfg.chunk_frames, grid.shape[2], cfg.class_dim
        layers: list[nn.Module] = [nn.Linear(cfg.latent_dim, cfg.widths[2])]
        for level in (2, 1):
            layers.extend(ConvBlock(cfg.widths[level]) for _ in range(cfg.decoder_blocks[level]))
            layers.append(Upsample(cfg.widths[level], cfg.widths[level - 1]))
        layers.extend(ConvBlock(cfg.widths[0]) for _ in range(cfg.decoder_blocks[0]))
        self.layers = nn.Sequential(*layers, nn.LayerNorm(cfg.widths[0]))
        self.features = nn.Linear(cfg.widths[0], 4 * cfg.chunk_frames * grid.shape[2] * cfg.class_dim)
        self.classes = nn.Linear(cfg.class_dim, grid.num_classes)

    def places(self, latents: Tensor) -> Tensor:
        """Latents (B, h, w, G * D) -> features at stride 2, (B, X / 2, Y / 2, C)."""
        return self.layers(latents)

    def logits(self, places: Tensor) -> Tensor:
        """Features at stride 2 (..., C) -> class logits (..., V, classes) of the V voxels there, ordered as `fold` does."""
        features = self.features(places)
        return self.classes(features.unflatten(-1, (-1, self.class_dim)))

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, h, w, G * D) -> most likely class of every voxel, uint8 (B, F, X, Y, Z)."""
        return self.classify(self.places(latents))

    def classify(self, places: Tensor, trust: Tensor | None = None, carried: Tensor | None = None) -> Tensor:
        """Most likely class of every voxel, uint8 (B, F, X, Y, Z), from features at stride 2 (B, X / 2, Y / 2, C).

        trust (B, X / 2, Y / 2, V) is added to the logits of the classes `carried`, ids of that shape; no gradient passes.
        """
        work = working_dtype(places)
        features, classes = (self.features.weight.to(work), self.features.bias), (self.classes.weight, self.classes.bias)
        held = () if trust is None or carried is None else (trust.flatten(0, -2), carried.flatten(0, -2))
        ids = classify_voxels(places.flatten(0, -2).to(work), features, classes, *held)
        return unfold(ids.unflatten(0, places.shape[:-1]), self.frames, self.height)


class Reconstruction(NamedTuple):
    """What a training pass through the tokenizer gives: decoder features at stride 2 (B, X / 2, Y / 2, C), for
    `Decoder.logits`, the latents before snapping (B, h, w, G * D), and the quantiser's outcome."""

    places: Tensor
    latents: Tensor
    quantized: Quantized


class ChunkTokenizer(nn.Module):
    """Encoder, product codebooks and decoder of one chunk; see the module's docstring."""

    def __init__(self, grid: Grid, cfg: TokenizerConfig) -> None:
        super().__init__()
        if grid.shape[0] % STRIDE or grid.shape[1] % STRIDE:
            raise ValueError(f"ChunkTokenizer: grid shape {grid.shape} must be divisible by {STRIDE} along axes 0 and 1")
        self.grid, self.cfg = grid, cfg
        self.encoder = Encoder(grid, cfg)
        self.quantizer = ProductQuantizer(cfg.groups, cfg.num_codes, cfg.code_dim)
        self.decoder = Decoder(grid, cfg)

    @property
    def token_shape(self) -> tuple[int, int, int]:
        """Shape (h, w, G) of a chunk's codes."""
        return self.grid.shape[0] // STRIDE, self.grid.shape[1] // STRIDE, self.cfg.groups

    @property
    def bits_per_frame(self) -> float:
        """Bits that the codes of one frame take."""
        height, width, groups = self.token_shape
        bits = (self.cfg.num_codes - 1).bit_length()
        return height * width * groups * bits / self.cfg.chunk_frames

    def forward(self, occupancy: Tensor) -> Reconstruction:
        """Occupancy uint8 (B, F, X, Y, Z) through the codes and back, differentiable by the straight-through rule."""
        latents = self.encoder(occupancy)
        quantized = self.quantizer(latents)
        return Reconstruction(self.decoder.places(quantized.latents), latents, quantized)

    def encode(self, occupancy: Tensor) -> Tensor:
        """Latents (B, h, w, G * D) before snapping; cells above the last class id are unknown."""
        return self.encoder(occupancy)

    def snap(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest codes int16 (B, h, w, G) of latents (B, h, w, G * D), and the code vectors (B, h, w, G * D)."""
        codes = self.quantizer.codes(latents)
        return codes.to(torch.int16), self.quantizer.lookup(codes)

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors (B, h, w, G * D) of code ids (B, h, w, G)."""
        return self.quantizer.lookup(codes.long())

    def decode(self, latents: Tensor) -> Tensor:
        """Most likely class of every voxel, uint8 (B, F, X, Y, Z), from latents (B, h, w, G * D)."""
        return self.decoder(latents)

    @torch.no_grad()
    def reconstruct(self, occupancy: Tensor) -> Tensor:
        """Occupancy uint8 (B, F, X, Y, Z) through the codes and back, uint8 of the same shape."""
        check_occupancy(occupancy, self.grid)
        return self.decode(self.snap(self.encode(occupancy))[1])
