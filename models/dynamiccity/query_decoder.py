"""The ablation of Expansion & Squeeze: the planes are read at every voxel, and an MLP turns what is read into a class."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.dynamiccity.blocks import activate
from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.decoder import expand, octaves
from models.dynamiccity.hexplane import PLANES, HexPlane
from models.dynamiccity.planes import PlaneStack
from scenes.grid import Grid


class QueryDecoder(nn.Module):
    """Planes to class logits, voxel by voxel: product of the six bilinear readings, sines and cosines of its place, an MLP."""

    def __init__(self, grid: Grid, cfg: HexPlaneConfig) -> None:
        super().__init__()
        self.grid, self.cfg = grid, cfg
        self.planes = PlaneStack(cfg)
        widths = [cfg.plane_channels + 4 * 2 * cfg.frequencies, *([cfg.query_hidden] * cfg.query_layers)]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths[:-1], widths[1:], strict=True))
        self.classes = nn.Linear(widths[-1], grid.num_classes)

    def logits(self, latents: HexPlane) -> Iterator[Tensor]:
        """Latent planes (B, C, a, b) -> class logits, some frames at a time: (n, X, Y, Z, classes)."""
        length = dict(zip("txyz", (self.cfg.frames, *self.grid.shape), strict=True))
        read = (
            interpolate(plane, size=(length[name[0]], length[name[1]]), mode="bilinear", align_corners=False)
            for name, plane in zip(PLANES, self.planes(latents), strict=True)
        )
        first = 0
        for volume in expand(HexPlane(*read)):
            frames = torch.arange(first, first + len(volume), device=volume.device) % self.cfg.frames
            first += len(volume)
            x = torch.cat((volume.movedim(1, -1), self._places(frames, volume)), dim=-1)
            for layer in self.layers:
                x = activate(layer(x))
            yield self.classes(x)

    def _places(self, frames: Tensor, like: Tensor) -> Tensor:
        """Sines and cosines of a voxel's frame number and place: (n, X, Y, Z, 8 * frequencies)."""
        shape = (len(frames), *self.grid.shape)
        parts = []
        for axis, count in enumerate((self.cfg.frames, *self.grid.shape)):
            waves = octaves(count, self.cfg.frequencies, like.device).to(like)
            waves = waves[frames] if axis == 0 else waves
            view = [1, 1, 1, 1, waves.shape[-1]]
            view[axis] = len(waves)
            parts.append(waves.view(view).expand(*shape, -1))
        return torch.cat(parts, dim=-1)
