"""How fast the agents in view are moving: a small network that reads the last few frames from above.

It gives every column the mean velocity until each frame of the next chunk (an occupancy flow). The world model carries the
agents of the last frame along with it, so that the transformer need only imagine what changes beyond that.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from models.agents import agent_blobs, rigid_velocity
from models.layers import ConvBlock, Downsample, Upsample, embed_voxels
from models.warp import UNKNOWN, warp
from scenes.grid import CLASS_ID, Grid
from scenes.motion import relative

SPEED = 10.0  # m/s that count as one at the output
EGO_BOX = (-1.0, 3.6, 0.95)  # rear, front and half width in metres from the rear axle: where the ego is drawn in


@dataclass(frozen=True)
class AgentFlowConfig:
    """Shape of the network.

    Attributes:
        frames: past frames it reads, the last one included.
        class_dim: channels of a class embedding.
        widths: channels at strides 2 and 4.
    """

    frames: int = 4
    class_dim: int = 6
    widths: tuple[int, int] = (64, 96)


class AgentFlow(nn.Module):
    """Velocity of the agents in each column from the last frames seen from above."""

    def __init__(self, grid: Grid, chunk_frames: int, cfg: AgentFlowConfig) -> None:
        super().__init__()
        self.grid, self.chunk_frames, self.cfg = grid, chunk_frames, cfg
        narrow, wide = cfg.widths
        self.embed = nn.Embedding(grid.num_classes + 1, cfg.class_dim)  # the last id is for columns nobody saw
        self.stem = nn.Linear(4 * (cfg.frames + 1) * cfg.class_dim, narrow)
        self.fine = nn.Sequential(ConvBlock(narrow))
        self.coarse = nn.Sequential(Downsample(narrow, wide), ConvBlock(wide), ConvBlock(wide), Upsample(wide, narrow))
        self.join = nn.Sequential(ConvBlock(narrow), nn.LayerNorm(narrow))
        self.out = nn.Linear(narrow, 4 * 2 * chunk_frames)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, above: Tensor, ground: Tensor) -> Tensor:
        """Mean velocity over ground until each new frame, m/s in the axes of the last ego frame, (B, F, X, Y, 2).

        above: class of the agent in each column, uint8 (B, T, X, Y), as `align` gives it. ground: class of the ground there,
        uint8 (B, X, Y). Ids above the last class are unknown.
        """
        ids = torch.cat((above, ground.unsqueeze(1)), dim=1)
        ids = rearrange(ids, "b t (x p) (y q) -> b x y (p q t)", p=2, q=2)
        x = self.fine(embed_voxels(ids, self.embed, self.stem))
        x = self.out(self.join(x + self.coarse(x)))
        return SPEED * rearrange(x, "b x y (p q f c) -> b f (x p) (y q) c", p=2, q=2, c=2)

    @torch.no_grad()
    def velocity(self, above: Tensor, poses: Tensor, last: Tensor) -> Tensor:
        """The velocity of every agent, as a rigid body, in all its columns: (B, F, X, Y, 2).

        above: agents from above, uint8 (B, T, X, Y), each in its own ego frame at poses (B, T, 3). last: voxels of the last
        frame (B, X, Y, Z).
        """
        velocity = self(align(above, poses, self.grid), last[..., self.grid.ground_index])
        return rigid_velocity(velocity, agent_blobs(last)[1], self.grid)


def align(above: Tensor, poses: Tensor, grid: Grid) -> Tensor:
    """Maps (B, T, X, Y), each in its own ego frame at poses (B, T, 3), in the last ego frame, the ego drawn in as a car."""
    batch, frames = above.shape[:2]
    rear, front, half = EGO_BOX
    centres = grid.column_centres(above.device)
    ego = (centres[..., 0] > rear) & (centres[..., 0] < front) & (centres[..., 1].abs() < half)
    above = above.masked_fill(ego & (above != UNKNOWN), CLASS_ID["car"])
    if frames == 1:
        return above
    pose = relative(poses[:, :-1], poses[:, -1:].expand(-1, frames - 1, -1)).flatten(0, 1)
    past = warp(above[:, :-1].flatten(0, 1).unsqueeze(-1), pose, grid, UNKNOWN)
    return torch.cat((past.reshape(batch, frames - 1, *grid.shape[:2]), above[:, -1:]), dim=1)
