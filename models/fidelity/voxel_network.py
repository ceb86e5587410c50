"""The network behind 3D features: convolutions over voxels for each frame, and over time on top of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scenes.grid import Grid


@dataclass(frozen=True)
class VoxelNetworkConfig:
    """Size of a `VoxelNetwork`: numbers of an embedded class, and channels of the features (half of them at first)."""

    class_dim: int = 4
    width: int = 64


class VoxelNetwork(nn.Module):
    """Maps of features of frames and of clips, from occupancy on one grid.

    Frames shrink eight times in each direction, clips twice more in time and space. Convolutions only, so that a random network
    of one seed is the same for grids of any shape.
    """

    def __init__(self, grid: Grid, cfg: VoxelNetworkConfig) -> None:
        super().__init__()
        self.grid, self.cfg = grid, cfg
        half, width = cfg.width // 2, cfg.width
        self.embedding = nn.Embedding(grid.num_classes, cfg.class_dim)
        self.frame = nn.Sequential(
            *_block(8 * cfg.class_dim, half, stride=1),
            *_block(half, width, stride=2),
            *_block(width, width, stride=2),
        )
        self.clip = nn.Sequential(*_block(2 * width, half, stride=2), *_block(half, width, stride=1))
        # Mean and variance over the training data, so that features have a unit; an untrained network leaves them as they are.
        self.frame_scale, self.clip_scale = (nn.BatchNorm1d(width, affine=False, momentum=0.02) for _ in range(2))
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight)

    def frame_maps(self, occupancy: Tensor) -> Tensor:
        """Features of each place of frames uint8 (N, X, Y, Z): (N, width, X / 8, Y / 8, Z / 8), rounded up."""
        pad = [-size % 2 for size in reversed(self.grid.shape)]
        padded = F.pad(occupancy, (0, pad[0], 0, pad[1], 0, pad[2]), value=self.grid.free)
        embedded = self.embedding(padded.int())
        return self.frame(rearrange(embedded, "n (x p) (y q) (z r) c -> n (p q r c) x y z", p=2, q=2, r=2))

    def clip_maps(self, frame_maps: Tensor) -> Tensor:
        """Features of each stretch and place of clips (B, T, width, x, y, z): (B, width, T / 2, x / 2, y / 2), rounded up.

        Beside the maps of the frames, by how much they differ from those of the frame before.
        """
        flat = frame_maps.mean(-1)
        change = (flat - torch.cat((flat[:, :1], flat[:, :-1]), dim=1)).abs()
        return self.clip(torch.cat((flat, change), dim=2).transpose(1, 2))

    def pooled(self, frame_maps: Tensor, clip_maps: Tensor) -> dict[str, Tensor]:
        """Features from maps of B clips, means over space and time: "frame" (B, T, width), and "clip" (B, 1, width)."""
        frame = frame_maps.mean((3, 4, 5))
        return {
            "frame": self.frame_scale(frame.flatten(0, 1)).reshape(frame.shape),
            "clip": self.clip_scale(clip_maps.mean((2, 3, 4))).unsqueeze(1),
        }


def random_voxel_network(grid: Grid, seed: int = 0) -> VoxelNetwork:
    """An untrained network with the weights of one seed: features without any training, the same on every machine."""
    with torch.random.fork_rng(devices=[]):
        network = VoxelNetwork(grid, VoxelNetworkConfig())
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        if weight.ndim > 1:  # uniform numbers have the same bits on all processors, normal ones need not
            bound = (6 / weight[0].numel()) ** 0.5
            weight.data = (2 * torch.rand(weight.shape, generator=generator) - 1) * bound
    return network


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm3d(outputs), nn.GELU()
