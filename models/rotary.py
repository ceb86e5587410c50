"""Pose-aware rotary positions: the same point of the world has the same phase, whichever ego frame saw it.

A token's place in metres, seen from the ego frame of the query, turns its query, key and value by phases; the attention's
output is turned back by the query's own phases (geometric transform attention). Keys and values are cached without the
rotation and rotated where they are used, because places are relative to an ego that has moved on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scenes.grid import Grid
from scenes.motion import transform


def token_places(grid: Grid, tokens: tuple[int, int]) -> Tensor:
    """Centres of an h x w map of tokens in their own ego frame, float64 (h * w, 2) metres."""
    axes = []
    for axis, count in enumerate(tokens):
        pitch = grid.shape[axis] * grid.voxel / count
        axes.append(grid.origin[axis] + (torch.arange(count, dtype=torch.float64) + 0.5) * pitch)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2)


def frequencies(head_dim: int, shortest: float, longest: float) -> Tensor:
    """Angular frequencies (head_dim / 4,) in radians a metre, geometric between the two wavelengths in metres."""
    steps = torch.linspace(0, 1, head_dim // 4, dtype=torch.float64)
    return 2 * math.pi / (shortest * (longest / shortest) ** steps)


def phases(places: Tensor, pose: Tensor, frequency: Tensor) -> Tensor:
    """Phase factors exp(i angle), complex64 (..., N, head_dim / 2), of tokens seen from the ego frame of the query.

    places (N, 2) are in the tokens' own frame, which lies at `pose` (..., 3) in the query's. Half of the phases follow x,
    half follow y.
    """
    xy = transform(pose.to(torch.float64), places)
    angle = (xy.unsqueeze(-1) * frequency).flatten(-2)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def turn(x: Tensor, phase: Tensor) -> Tensor:
    """Rotate the pairs (2 i, 2 i + 1) of x (..., N, heads, head_dim) by the phase factors (..., N, head_dim / 2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phase.unsqueeze(-2)).flatten(-2).to(x.dtype)


def turn_back(x: Tensor, phase: Tensor) -> Tensor:
    """The inverse of `turn`."""
    return turn(x, phase.conj())
