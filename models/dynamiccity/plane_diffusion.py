"""Diffusion of HexPlanes: transformer, noise process and the scale of the planes, in one module that trains and samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.diffusion import Denoise, GaussianDiffusion, Prediction
from models.diffusion_loss import Losses, training_losses
from models.diffusion_sampling import Known, SamplerConfig, guided, sample
from models.dynamiccity.conditions import Conditions
from models.dynamiccity.config import HexPlaneConfig, plane_shapes
from models.dynamiccity.hexplane import PLANES, HexPlane
from models.dynamiccity.padded_rollout import RolloutLayout, roll_in, roll_out
from models.dynamiccity.transformer import PlaneTransformer, PlaneTransformerConfig
from scenes.grid import MINI, Grid


@dataclass(frozen=True)
class DynamicCityConfig:
    """Everything that defines a DynamicCity world model but its weights.

    Attributes:
        grid: voxel grid of all occupancy.
        vae: shape of the VAE, whose `frames` are the window that is generated at once.
        transformer: shape of the transformer and its conditions.
        dt: seconds between frames.
        scale: planes in the order of PLANES are divided by it before they are noised: their root mean squares in training.
        overlap: even number of frames at the beginning of each window that were shown already, and are kept.
        withheld: how often conditions are missing in training, see `Conditions.withhold`; guidance needs some that are.
        sampler: how chunks are sampled in rollouts.
        guidance: scale of classifier-free guidance in rollouts; 1 for none.
    """

    grid: Grid = MINI
    vae: HexPlaneConfig = field(default_factory=HexPlaneConfig)
    transformer: PlaneTransformerConfig = field(default_factory=PlaneTransformerConfig)
    dt: float = 0.25
    scale: tuple[float, ...] = (1.0,) * len(PLANES)
    overlap: int = 0
    withheld: float = 0.1
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig("ddim", steps=20))
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if len(self.scale) != len(PLANES) or min(self.scale) <= 0:
            raise ValueError(f"DynamicCityConfig.scale: expected a positive number for each of {PLANES}, found {self.scale}")
        if self.overlap % 2 or not 0 <= self.overlap < self.vae.frames:
            window = self.vae.frames
            raise ValueError(f"DynamicCityConfig.overlap: expected an even number from 0 to {window - 2}, found {self.overlap}")
        if self.dt <= 0 or not 0 <= self.withheld < 1:
            found = f"{self.dt} and {self.withheld}"
            raise ValueError(f"DynamicCityConfig: dt must be positive seconds and withheld a share below 1, found {found}")

    @property
    def chunk_frames(self) -> int:
        """New frames of a window."""
        return self.vae.frames - self.overlap

    @property
    def clip_frames(self) -> int:
        """Frames of a training clip: a window and the new frames of the next one."""
        return self.vae.frames + self.chunk_frames

    @property
    def layout(self) -> RolloutLayout:
        """Where the planes lie in the map."""
        shapes = plane_shapes(self.grid, self.vae)
        return RolloutLayout(*shapes["tx"], *shapes["yz"])


class PlaneDiffusion(nn.Module):
    """The transformer on maps of planes of size one, and the process that it undoes."""

    scale: Tensor
    mask: Tensor

    def __init__(self, cfg: DynamicCityConfig) -> None:
        super().__init__()
        self.cfg, self.layout = cfg, cfg.layout
        self.shape = (cfg.vae.channels, *self.layout.shape)
        self.transformer = PlaneTransformer(cfg.vae.channels, self.layout, cfg.transformer)
        self.process = GaussianDiffusion()
        sizes = plane_shapes(cfg.grid, cfg.vae)
        planes = (torch.full((1, 1, *sizes[name]), value) for name, value in zip(PLANES, cfg.scale, strict=True))
        scale = roll_out(HexPlane(*planes))
        self.register_buffer("mask", self.layout.mask(), persistent=False)
        self.register_buffer("scale", scale.masked_fill(scale == 0, 1.0), persistent=False)

    def to_map(self, planes: HexPlane) -> Tensor:
        """Planes (B, C, a, b) of the VAE -> scaled map (B, C, H, W)."""
        return roll_out(planes) / self.scale

    def to_planes(self, rollout: Tensor) -> HexPlane:
        """Scaled map (B, C, H, W) -> planes (B, C, a, b) for the VAE to decode."""
        return roll_in(rollout * self.scale, self.layout)

    def losses(self, rollout: Tensor, conditions: Conditions, index: Tensor, noise: Tensor) -> Losses:
        """Losses of scaled maps (B, C, H, W) at steps index int64 (B,), best on the CPU, with noise of their shape.

        Each loss is (B, M) of the M numbers that belong to a plane.
        """

        def denoise(noisy: Tensor, step: Tensor) -> Prediction:
            return self.transformer(noisy, step, conditions)

        found = training_losses(self.process, denoise, rollout, index, noise)
        mask = self.mask.expand(1, *self.shape)[0]
        return Losses(found.simple[:, mask], found.bound[:, mask])

    def sample(
        self,
        conditions: Conditions,
        seeds: Tensor,
        sampler: SamplerConfig,
        *,
        guidance: float = 1.0,
        steps: Tensor | None = None,
        known: Known | None = None,
    ) -> Tensor:
        """Scaled maps float32 (B, C, H, W), zero where no plane lies, of seeds int64 (B,) under conditions.

        guidance: scale of classifier-free guidance; other than 1 it costs twice as much, and raises ValueError for a model that
        always learned of all its conditions, or has none. steps: int64 (B,), another draw for each. known: parts of the maps
        that are given.
        """
        denoise = self._denoise(conditions, guidance)
        found = sample(self.process, denoise, self.shape, seeds, sampler, steps=steps, known=known)
        return torch.where(self.mask, found, 0.0)

    def _denoise(self, conditions: Conditions, guidance: float) -> Denoise:
        """The transformer under conditions, guided if asked."""
        if guidance == 1:
            return lambda noisy, step: self.transformer(noisy, step, conditions)
        if not self.cfg.withheld or not self.cfg.transformer.conditions:
            raise ValueError(f"guidance: {guidance} needs a model with conditions that were withheld from some samples")
        both = conditions.doubled()
        return guided(lambda noisy, step: self.transformer(noisy, step, both), guidance)
