"""The padded rollout cut into patches: which of them hold a plane, and the way from map to tokens and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from models.dit import waves
from models.dynamiccity.padded_rollout import RolloutLayout


class Block(NamedTuple):
    """Rows and columns of patches that a plane covers."""

    rows: slice
    columns: slice


class PatchGrid(nn.Module):
    """Square patches of `patch` cells a side; those that hold a plane are tokens, row by row, the rest is left out.

    Raises ValueError where a patch would hold cells of two planes, or of a plane and of none.
    """

    place: Tensor
    position: Tensor

    def __init__(self, layout: RolloutLayout, patch: int, width: int) -> None:
        super().__init__()
        lengths = (layout.t, layout.x, layout.y, layout.z)
        if patch < 1 or any(length % patch for length in lengths):
            raise ValueError(f"patch: {patch} must divide the cells of the planes along t, x, y and z, which are {lengths}")
        if width % 4:
            raise ValueError(f"PatchGrid: sines and cosines of two axes need a width that 4 divides, found {width}")
        self.layout, self.patch = layout, patch
        self.shape = layout.shape[0] // patch, layout.shape[1] // patch
        self.register_buffer("place", torch.tensor(self._covered()), persistent=False)
        row, column = self.place // self.shape[1], self.place % self.shape[1]
        self.register_buffer("position", torch.cat((waves(row, width // 2), waves(column, width // 2)), -1), persistent=False)

    def __len__(self) -> int:
        """Tokens of a map."""
        return len(self.place)

    def blocks(self) -> dict[str, Block]:
        """Where the planes lie, by name; those of tx and yz are transposed."""
        t, x, y, z = (length // self.patch for length in (self.layout.t, self.layout.x, self.layout.y, self.layout.z))
        rows = {"x": slice(0, x), "t": slice(x, x + t), "z": slice(x + t, x + t + z)}
        columns = {"y": slice(0, y), "z": slice(y, y + z), "t": slice(y + z, y + z + t)}
        along = {"xy": "xy", "xz": "xz", "tx": "xt", "ty": "ty", "tz": "tz", "yz": "zy"}
        return {name: Block(rows[axes[0]], columns[axes[1]]) for name, axes in along.items()}

    def cut(self, rollout: Tensor) -> Tensor:
        """Map (B, C, H, W) -> tokens (B, N, C * patch * patch)."""
        patches = rearrange(rollout, "b c (h p) (w q) -> b (h w) (c p q)", p=self.patch, q=self.patch)
        return patches[:, self.place]

    def join(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, C * patch * patch) -> map (B, C, H, W), zero where no plane lies."""
        patches = tokens.new_zeros(len(tokens), self.shape[0] * self.shape[1], tokens.shape[-1])
        patches = patches.index_copy(1, self.place, tokens)
        return rearrange(patches, "b (h w) (c p q) -> b c (h p) (w q)", h=self.shape[0], p=self.patch, q=self.patch)

    def _covered(self) -> list[int]:
        """Numbers of the patches that hold a plane, in order."""
        return sorted(
            row * self.shape[1] + column
            for block in self.blocks().values()
            for row in range(block.rows.start, block.rows.stop)
            for column in range(block.columns.start, block.columns.stop)
        )
