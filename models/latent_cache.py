"""Training sequences of the world model, encoded once: codes, the warped past as latents, motion and route.

The tokenizer is frozen while the transformer trains, so every sequence is rendered, encoded and warped a single time and then
drawn many times. The past that is carried along is the tokenizer's reconstruction, as it will be in rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoint import read_tensors, write_tensors
from models.conditioning import known_share, route_tokens
from models.tokenizer import ChunkTokenizer
from models.warp import warp_chunk
from scenes.dataset import SceneClips


@dataclass
class LatentSequences:
    """M sequences of S chunks, N = h * w tokens each.

    Attributes:
        codes: code ids int16 (M, S, N, G).
        warped: latents of the reconstructed previous frame carried along, float16 (M, S, N, C); zero for the first chunk.
        known: seen share of each quarter of a token, uint8 in 1/255 (M, S, N, 4).
        motion: float32 (M, S, F, 3).
        route: route raster cut by tokens and packed to bits, uint8 (M, S, N, R / 8).
    """

    codes: Tensor
    warped: Tensor
    known: Tensor
    motion: Tensor
    route: Tensor

    def __len__(self) -> int:
        return len(self.codes)

    def save(self, path: Path) -> None:
        """Write all to one safetensors file."""
        write_tensors(path, {item.name: getattr(self, item.name) for item in fields(self)})

    @classmethod
    def load(cls, path: Path) -> LatentSequences:
        """Read what `save` wrote; ValueError names the file where something is missing."""
        tensors = read_tensors(path)
        missing = {item.name for item in fields(cls)} - set(tensors)
        if missing:
            raise ValueError(f"{path}: not a file of latent sequences, missing {sorted(missing)}")
        return cls(**tensors)

    @classmethod
    def join(cls, parts: Sequence[LatentSequences]) -> LatentSequences:
        """All sequences of the parts in order."""
        return cls(**{item.name: torch.cat([getattr(part, item.name) for part in parts]) for item in fields(cls)})


@torch.no_grad()
def encode_clips(tokenizer: ChunkTokenizer, clips: SceneClips, indices: Sequence[int]) -> LatentSequences:
    """Encode clips of whole chunks, rendered with a route raster at each chunk's last frame."""
    items = [clips[index] for index in indices]
    occupancy, motion, route = (torch.stack([item[name] for item in items]) for name in ("occupancy", "motion", "route"))
    device = next(tokenizer.parameters()).device
    return _encode(tokenizer, occupancy.to(device), motion.to(device), route.to(device))


def _encode(tokenizer: ChunkTokenizer, occupancy: Tensor, motion: Tensor, route: Tensor) -> LatentSequences:
    batch, grid, frames = len(occupancy), tokenizer.grid, tokenizer.cfg.chunk_frames
    chunks = occupancy.shape[1] // frames
    height, width, groups = tokenizer.token_shape
    folded = occupancy.reshape(batch * chunks, frames, *grid.shape)
    codes, snapped = tokenizer.snap(tokenizer.encode(folded))
    last = tokenizer.decode(snapped)[:, -1].reshape(batch, chunks, *grid.shape)
    motion = motion.reshape(batch, chunks, frames, 3)
    carried = warp_chunk(last[:, :-1].flatten(0, 1), motion[:, 1:].flatten(0, 1), grid)
    warped = tokenizer.encode(carried).reshape(batch, chunks - 1, height * width, -1)
    known = known_share(carried, (height, width)).reshape(batch, chunks - 1, height * width, -1)
    route = route_tokens(route.flatten(0, 1), (height, width)).unflatten(0, (batch, chunks))
    return LatentSequences(
        codes=codes.reshape(batch, chunks, height * width, groups).cpu(),
        warped=_after_nothing(warped).half().cpu(),
        known=_after_nothing(known * 255).round().to(torch.uint8).cpu(),
        motion=motion.cpu(),
        route=pack_bits(route).cpu(),
    )


def _after_nothing(parts: Tensor) -> Tensor:
    """Zeros for the first chunk, which has no past, before (B, S - 1, ...)."""
    return torch.cat((torch.zeros_like(parts[:, :1]), parts), dim=1)


def pack_bits(bits: Tensor) -> Tensor:
    """uint8 0 or 1 (..., R) -> uint8 (..., R / 8)."""
    weights = 2 ** torch.arange(8, device=bits.device)
    return (bits.unflatten(-1, (-1, 8)).int() * weights).sum(-1).to(torch.uint8)


def unpack_bits(packed: Tensor) -> Tensor:
    """The inverse of `pack_bits`."""
    shifts = torch.arange(8, device=packed.device)
    return ((packed.unsqueeze(-1).int() >> shifts) & 1).flatten(-2).to(torch.uint8)
