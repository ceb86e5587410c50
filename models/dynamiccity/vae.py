"""The HexPlane VAE: a clip of occupancy becomes six planes of features, and six planes become a clip again."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.decoder import EssDecoder
from models.dynamiccity.encoder import Encoder
from models.dynamiccity.hexplane import PLANES, HexPlane, Posterior
from models.dynamiccity.projection import AverageModule, ProjectionModule
from models.dynamiccity.query_decoder import QueryDecoder
from scenes.grid import Grid, check_occupancy


class HexPlaneVae(nn.Module):
    """Encoder, projection and decoder of whole clips; see `HexPlaneConfig` for its parts."""

    def __init__(self, grid: Grid, cfg: HexPlaneConfig) -> None:
        super().__init__()
        if any(size % 2 for size in grid.shape):
            raise ValueError(f"HexPlaneVae: grid shape {grid.shape} must be even along every axis")
        self.grid, self.cfg = grid, cfg
        self.encoder = Encoder(grid, cfg)
        self.projection = ProjectionModule(grid, cfg) if cfg.projection == "module" else AverageModule()
        # Two frames become one: a 2x1 convolution of stride 2 on the planes that have time.
        self.halve_time = nn.ModuleDict({name: nn.Linear(2 * cfg.channels, cfg.channels) for name in PLANES if "t" in name})
        self.moments = nn.ModuleDict({name: nn.Linear(cfg.channels, 2 * cfg.channels) for name in PLANES})
        self.decoder = EssDecoder(grid, cfg) if cfg.decoder == "ess" else QueryDecoder(grid, cfg)

    def encode(self, occupancy: Tensor) -> Posterior:
        """Occupancy uint8 (B, T, X, Y, Z) -> distribution of its planes, each (B, C, a, b); raises ValueError for others."""
        check_occupancy(occupancy, self.grid)
        if occupancy.dim() != 5 or occupancy.shape[1] != self.cfg.frames:
            raise ValueError(f"HexPlaneVae: expected (B, {self.cfg.frames}, X, Y, Z), found {tuple(occupancy.shape)}")
        planes = self.projection(*self.encoder(occupancy))
        moments = [self._moments(name, plane.movedim(1, -1)) for name, plane in zip(PLANES, planes, strict=True)]
        mean, log_variance = zip(*(part.movedim(-1, 1).chunk(2, dim=1) for part in moments), strict=True)
        return Posterior(HexPlane(*mean), HexPlane(*log_variance))

    def _moments(self, name: str, plane: Tensor) -> Tensor:
        """Features (B, a, b, C) -> means and log variances (B, a', b, 2 C)."""
        if name in self.halve_time:
            pairs = plane.unflatten(1, (-1, 2)).transpose(2, 3).flatten(-2)
            plane = self.halve_time[name](pairs)
        return self.moments[name](plane)

    def logits(self, planes: HexPlane) -> Tensor:
        """Planes (B, C, a, b) -> class logits of every voxel, (B, T, X, Y, Z, classes); for training, since they are large."""
        frames = [part.reshape(-1, *self.grid.shape, self.grid.num_classes) for part in self.decoder.logits(planes)]
        return torch.cat(frames).unflatten(0, (-1, self.cfg.frames))

    @torch.no_grad()
    def decode(self, planes: HexPlane) -> Tensor:
        """Planes (B, C, a, b) -> most likely class of every voxel, uint8 (B, T, X, Y, Z); logits of a frame exist at a time."""
        frames = [part.argmax(-1).to(torch.uint8).reshape(-1, *self.grid.shape) for part in self.decoder.logits(planes)]
        return torch.cat(frames).unflatten(0, (-1, self.cfg.frames))

    @torch.no_grad()
    def reconstruct(self, occupancy: Tensor) -> Tensor:
        """Occupancy uint8 (B, T, X, Y, Z) through the means of its planes and back, uint8 of the same shape."""
        return self.decode(self.encode(occupancy).mean)

    def forward(self, occupancy: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Posterior]:
        """Logits (B, T, X, Y, Z, classes) from planes drawn from the posterior of occupancy (B, T, X, Y, Z), and that."""
        posterior = self.encode(occupancy)
        return self.logits(posterior.sample(generator)), posterior
