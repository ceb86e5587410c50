"""The network behind 2D features and the inception score: convolutions over colour maps seen from above."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.fidelity.colour_map import colour_map
from models.fidelity.road_layout import LAYOUTS
from scenes.grid import Grid


@dataclass(frozen=True)
class MapNetworkConfig:
    """Size of a `MapNetwork`: channels of the features, half of them at first."""

    width: int = 64


class MapNetwork(nn.Module):
    """Features of each frame's colour map, and what layout of the road it shows."""

    def __init__(self, grid: Grid, cfg: MapNetworkConfig) -> None:
        super().__init__()
        self.grid, self.cfg = grid, cfg
        half, width = cfg.width // 2, cfg.width
        self.trunk = nn.Sequential(
            *_block(3, half, stride=2),
            *_block(half, width, stride=2),
            *_block(width, width, stride=2),
            *_block(width, width, stride=1),
        )
        self.scale = nn.BatchNorm1d(width, affine=False, momentum=0.02)  # mean and variance over the training data
        self.layout = nn.Linear(width, len(LAYOUTS))

    def features(self, occupancy: Tensor) -> Tensor:
        """Features (N, width) of frames uint8 (N, X, Y, Z)."""
        return self.scale(self.trunk(colour_map(occupancy, self.grid)).mean((2, 3)))


def _block(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.GELU()
