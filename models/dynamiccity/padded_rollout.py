"""Padded rollout: six planes laid side by side into one map, on which a diffusion transformer works, and taken apart again.

Rows are X, T and Z, columns Y, Z and T, and the planes meet along the axes they share (a prime stands for a transposed plane):

    xy   xz   tx'
    ty   tz   0
    yz'  0    0
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.dynamiccity.hexplane import HexPlane


@dataclass(frozen=True)
class RolloutLayout:
    """Where the planes lie in the map, from the number of their cells along each axis (`HexPlane.lengths`).

    Attributes:
        t, x, y, z: cells along time, ego forward, ego left and up.
    """

    t: int
    x: int
    y: int
    z: int

    def __post_init__(self) -> None:
        if min(self.t, self.x, self.y, self.z) < 1:
            raise ValueError(f"RolloutLayout: expected positive lengths, found t, x, y, z = {self.t, self.x, self.y, self.z}")

    @property
    def shape(self) -> tuple[int, int]:
        """Height X + T + Z and width Y + Z + T of the map."""
        return self.x + self.t + self.z, self.y + self.z + self.t

    def mask(self) -> Tensor:
        """Which cells belong to a plane: bool (H, W)."""
        ones = (torch.ones(1, 1, *size) for size in self._sizes())
        return roll_out(HexPlane(*ones))[0, 0] > 0

    def _sizes(self) -> tuple[tuple[int, int], ...]:
        t, x, y, z = self.t, self.x, self.y, self.z
        return (x, y), (x, z), (y, z), (t, x), (t, y), (t, z)


def roll_out(planes: HexPlane) -> Tensor:
    """Planes (B, C, a, b) -> map (B, C, X + T + Z, Y + Z + T), zero where no plane lies."""
    xy, xz, yz, tx, ty, tz = planes
    width = xy.shape[-1] + xz.shape[-1] + tx.shape[-2]
    rows = torch.cat((xy, xz, tx.mT), dim=-1), torch.cat((ty, tz), dim=-1), yz.mT
    return torch.cat([pad(row, (0, width - row.shape[-1])) for row in rows], dim=-2)


def roll_in(rollout: Tensor, layout: RolloutLayout) -> HexPlane:
    """The planes in a map (B, C, H, W); what lies beside them is dropped. Raises ValueError for another height or width."""
    if tuple(rollout.shape[-2:]) != layout.shape:
        raise ValueError(f"roll_in: expected a map of {layout.shape}, found {tuple(rollout.shape[-2:])}")
    above, between, below = rollout.split((layout.x, layout.t, layout.z), dim=-2)
    columns = (layout.y, layout.z, layout.t)
    xy, xz, tx = above.split(columns, dim=-1)
    ty, tz, _ = between.split(columns, dim=-1)
    yz, _, _ = below.split(columns, dim=-1)
    return HexPlane(xy, xz, yz.mT, tx.mT, ty, tz)
