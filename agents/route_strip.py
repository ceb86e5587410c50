"""The bird's eye image straightened along the route: what lies ahead of the car on its way, whichever way the road bends.

A policy that has to find out from an image of the whole surroundings which few cells it will drive over learns that last. Here
they are always the same entries of a small raster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from occworld_env.observation import ROUTE_AHEAD, VECTOR_FIELDS

_PER_SEGMENT = 5  # cells along the route from one point that the vector tells to the next, a metre each
_SIDE = 6  # cells to either side of the route
_CELL = 1 / 40  # width of a cell in parts of half the grid, about a metre


class RouteStrip(nn.Module):
    """Features of a strip of the image, 40 m ahead along the route and 6 m to either side, through small convolutions."""

    points: Tensor

    def __init__(self, channels: int, width: int) -> None:
        """channels: of the image. width: channels of the convolutions."""
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

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        """image float32 (B, C, X, Y), vector float32 (B, V) of one observation -> (B, features)."""
        return self.layers(nn.functional.grid_sample(image, self.places(vector), align_corners=False))

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
