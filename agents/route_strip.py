"""The bird's eye image straightened along the route: what lies ahead of the car on its way, whichever way the road bends.

A policy that has to find out from an image of the whole surroundings which few cells it will drive over learns that last. Here
they are always the same entries of a small raster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from occworld_env.observation import BEV_CHANNELS, ROUTE_AHEAD, VECTOR_FIELDS

_PER_SEGMENT = 5  # cells along the route from one point that the vector tells to the next, a metre each
_SIDE = 6  # cells to either side of the route
_CELL = 1 / 40  # width of a cell in parts of half the grid, about a metre


_NOW = tuple(BEV_CHANNELS.index(name) for name in ("static_obstacle", "vehicle", "vulnerable"))
_BEFORE = BEV_CHANNELS.index("agents_before")
_TAKEN = 0.3  # of a cell, from which on it is in the way


class RouteStrip(nn.Module):
    """A strip of the image, 40 m ahead along the route and 6 m to either side: features of it, and how far it is clear.

    Attributes:
        features: number of features. columns: number of clear distances.
    """

    points: Tensor

    def __init__(self, channels: int, width: int) -> None:
        """channels: of the image, those of BEV_CHANNELS. width: channels of the convolutions."""
        super().__init__()
        at = [[VECTOR_FIELDS.index(f"route_{axis}_{distance:.0f}") for axis in "xy"] for distance in ROUTE_AHEAD]
        self.register_buffer("points", torch.tensor(at), persistent=False)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        along, across = _PER_SEGMENT * len(ROUTE_AHEAD), 2 * _SIDE + 1
        self.features = width * ((along + 3) // 4) * ((across + 3) // 4)
        self.columns = 2 * across

    def forward(self, image: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, features) and clear distances (B, columns) of image float32 (B, C, X, Y) and vector float32 (B, V)."""
        strip = nn.functional.grid_sample(image, self.places(vector), align_corners=False)
        return self.layers(strip), clear_distance(strip)

    def places(self, vector: Tensor) -> Tensor:
        """Where the cells of the strip lie (B, along, across, 2): (y, x) in parts of half the grid, the ego in its middle."""
        ahead = vector[:, self.points]
        nodes = torch.cat((torch.zeros_like(ahead[:, :1]), ahead), dim=1)
        segment = nodes[:, 1:] - nodes[:, :-1]
        share = torch.arange(1, _PER_SEGMENT + 1, device=vector.device) / _PER_SEGMENT
        centre = (nodes[:, :-1, None] + segment[:, :, None] * share[:, None]).flatten(1, 2)
        direction = segment / segment.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        left = torch.stack((-direction[..., 1], direction[..., 0]), dim=-1).repeat_interleave(_PER_SEGMENT, dim=1)
        offset = torch.arange(-_SIDE, _SIDE + 1, device=vector.device) * _CELL
        return (centre.unsqueeze(2) + left.unsqueeze(2) * offset[:, None]).flip(-1)


def clear_distance(strip: Tensor) -> Tensor:
    """How far each column of a strip float32 (B, C, along, across) is clear, in parts of its length: (B, 2 * across).

    First to the nearest obstacle or agent, then to the nearest agent of the frame before: the difference is how fast it nears.
    """
    taken = torch.stack((strip[:, _NOW].amax(1), strip[:, _BEFORE]), dim=1) > _TAKEN
    length = strip.shape[2]
    row = torch.arange(length, device=strip.device)[:, None].expand(taken.shape[2:])
    nearest = torch.where(taken, row, length).amin(2)
    return (nearest / length).flatten(1)
