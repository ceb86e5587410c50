"""Training sequences of the world model, encoded once: codes, the carried past as voxels and latents, motion and route.

Tokenizer and flow are frozen while the transformer trains, so every sequence is rendered, carried along and encoded a single
time and then drawn many times. In every other sequence the past that is carried along is true, as at the start of a rollout; in
the others it went through the codes, as frames do that were imagined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.agent_flow import AgentFlow
from models.agents import seen_from_above
from models.carry import carry_chunk
from models.checkpoint import StoredTensors
from models.conditioning import known_share, route_tokens
from models.tokenizer import ChunkTokenizer
from models.warp import UNKNOWN
from scenes.dataset import SceneClips
from scenes.motion import accumulate


@dataclass
class LatentSequences(StoredTensors):
    """M sequences of S chunks, N = h * w tokens each.

    Attributes:
        codes: code ids int16 (M, S, N, G).
        voxels: true occupancy uint8 (M, S, F, X, Y, Z).
        carried: the previous frame carried along, uint8 of that shape; unknown in the first chunk.
        warped: latents of `carried`, float16 (M, S, N, C); zero for the first chunk.
        known: seen share of each quarter of a token, uint8 in 1/255 (M, S, N, 4).
        motion: float32 (M, S, F, 3).
        route: route raster cut by tokens and packed to bits, uint8 (M, S, N, R / 8).
    """

    codes: Tensor
    voxels: Tensor
    carried: Tensor
    warped: Tensor
    known: Tensor
    motion: Tensor
    route: Tensor


@torch.no_grad()
def encode_clips(tokenizer: ChunkTokenizer, flow: AgentFlow, clips: SceneClips, indices: Sequence[int]) -> LatentSequences:
    """Encode clips of whole chunks, rendered with a route raster at each chunk's last frame."""
    items = [clips[index] for index in indices]
    occupancy, motion, route = (torch.stack([item[name] for item in items]) for name in ("occupancy", "motion", "route"))
    device = next(tokenizer.parameters()).device
    coded = torch.tensor([index % 2 == 1 for index in indices], device=device)
    return _encode(tokenizer, flow, occupancy.to(device), motion.to(device), route.to(device), coded, clips.dt)


def _encode(
    tokenizer: ChunkTokenizer, flow: AgentFlow, occupancy: Tensor, motion: Tensor, route: Tensor, coded: Tensor, dt: float
) -> LatentSequences:
    batch, grid, frames = len(occupancy), tokenizer.grid, tokenizer.cfg.chunk_frames
    chunks = occupancy.shape[1] // frames
    height, width, groups = tokenizer.token_shape
    codes, snapped = tokenizer.snap(tokenizer.encode(occupancy.reshape(batch * chunks, frames, *grid.shape)))
    past = torch.where(coded[:, None, None, None, None], tokenizer.decode(snapped).reshape(occupancy.shape), occupancy)
    velocity = _velocities(flow, past, accumulate(motion), frames)
    motion = motion.reshape(batch, chunks, frames, 3)
    last = past[:, frames - 1 : -1 : frames].flatten(0, 1)
    carried = carry_chunk(last, velocity.flatten(0, 1), motion[:, 1:].flatten(0, 1), grid, dt)
    warped = tokenizer.encode(carried).reshape(batch, chunks - 1, height * width, -1)
    known = known_share(carried, (height, width)).reshape(batch, chunks - 1, height * width, -1)
    route = route_tokens(route.flatten(0, 1), (height, width)).unflatten(0, (batch, chunks))
    return LatentSequences(
        codes=codes.reshape(batch, chunks, height * width, groups).cpu(),
        voxels=occupancy.reshape(batch, chunks, frames, *grid.shape).cpu(),
        carried=_after(UNKNOWN, carried.unflatten(0, (batch, chunks - 1))).cpu(),
        warped=_after(0, warped).half().cpu(),
        known=_after(0, known * 255).round().to(torch.uint8).cpu(),
        motion=motion.cpu(),
        route=pack_bits(route).cpu(),
    )


def _velocities(flow: AgentFlow, past: Tensor, poses: Tensor, frames: int) -> Tensor:
    """The agents' velocity (B, S - 1, F, X, Y, 2) at the end of every chunk but the last, from what a rollout would keep."""
    above = seen_from_above(past, flow.grid.free)
    missing = flow.cfg.frames - frames
    if missing > 0:
        above = torch.cat((torch.full_like(above[:, :1], UNKNOWN).expand(-1, missing, -1, -1), above), dim=1)
        poses = torch.cat((poses[:, :1].expand(-1, missing, -1), poses), dim=1)
    keep = flow.cfg.frames
    ends = range(keep, above.shape[1], frames)
    return torch.stack(
        [flow.velocity(above[:, i - keep : i], poses[:, i - keep : i], past[:, i - max(missing, 0) - 1]) for i in ends], dim=1
    )


def _after(fill: int, parts: Tensor) -> Tensor:
    """`fill` for the first chunk, which has no past, before (B, S - 1, ...)."""
    return torch.cat((torch.full_like(parts[:, :1], fill), parts), dim=1)


def pack_bits(bits: Tensor) -> Tensor:
    """uint8 0 or 1 (..., R) -> uint8 (..., R / 8)."""
    weights = 2 ** torch.arange(8, device=bits.device)
    return (bits.unflatten(-1, (-1, 8)).int() * weights).sum(-1).to(torch.uint8)


def unpack_bits(packed: Tensor) -> Tensor:
    """The inverse of `pack_bits`."""
    shifts = torch.arange(8, device=packed.device)
    return ((packed.unsqueeze(-1).int() >> shifts) & 1).flatten(-2).to(torch.uint8)
