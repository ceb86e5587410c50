"""OccSora's diffusion transformer (section 3.3): the latents of a whole clip are denoised at once, under its trajectory.

As released: "DiT-XL/2" has width 256 and heads of 16, takes no patches, and two convolutions without a non-linearity between
them enter the latents. Ours differs in two ways that cost no weights: any size of latents, and a trajectory may be withheld
from some samples of a batch (its embedding is then zero), which classifier-free guidance needs and the release never trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.diffusion import Prediction
from models.dit import DiT, DiTConfig, TimeStepEmbedding, waves


@dataclass(frozen=True)
class ClipTransformerConfig:
    """Shape of the transformer and of its conditions.

    Attributes:
        blocks: shape of the blocks.
        trajectory_width: hidden channels of the trajectory's embedding.
        trajectory_scale: metres that count as one. Fixed, where the release's demo stretches every trajectory to a peak of one
            and so cannot tell slow from fast.
        timestep_embedding: whether the condition tells the step (table 3 of the paper, "T embed.").
        trajectory: whether the condition tells the trajectory (table 3, "Trajectory").
    """

    blocks: DiTConfig = field(default_factory=DiTConfig)
    trajectory_width: int = 128
    trajectory_scale: float = 50.0
    timestep_embedding: bool = True
    trajectory: bool = True


SIZES = {
    # the paper's, as released: 36,819,200 weights for latents 128 x 4 x 25 x 25 and 32 frames
    "occsora": ClipTransformerConfig(),
    # the same weights in four heads of 64, a quarter of the exponentials
    "lean": ClipTransformerConfig(DiTConfig(heads=4)),
    # the same structure for two CPU cores, heads of 16 as well: for latents such as 16 x 4 x 12 x 12
    "small": ClipTransformerConfig(DiTConfig(width=64, depth=6, heads=4)),
    # fewer blocks of twice the width, heads of 32: a third dearer, and a trajectory counts for more after as long a training
    "wide": ClipTransformerConfig(DiTConfig(width=128, depth=4, heads=4)),
}


class ClipTransformer(nn.Module):
    """Noise and variance of noisy latents (B, c, t, h, w), from the step and the trajectory.

    Args:
        channels: channels c of the latents.
        shape: their (t, h, w).
        frames: frames T of a trajectory.
        cfg: see `ClipTransformerConfig`.
    """

    def __init__(self, channels: int, shape: tuple[int, int, int], frames: int, cfg: ClipTransformerConfig) -> None:
        super().__init__()
        self.channels, self.shape, self.frames, self.cfg = channels, shape, frames, cfg
        width = cfg.blocks.width
        self.stem = nn.Sequential(
            nn.Conv3d(channels, width, kernel_size=3, padding=1), nn.Conv3d(width, width, kernel_size=3, padding=1)
        )
        # Equation 2: places are counted from 1 along t, h and w, and what starts as sines and cosines is learned.
        self.position = nn.Parameter(waves(torch.arange(1, math.prod(shape) + 1), width))
        self.step = TimeStepEmbedding(width) if cfg.timestep_embedding else None
        self.trajectory = _trajectory_embedding(2 * frames, cfg.trajectory_width, width) if cfg.trajectory else None
        self.dit = DiT(cfg.blocks, outputs=2 * channels)

    def forward(self, noisy: Tensor, step: Tensor, trajectory: Tensor, told: Tensor | None = None) -> Prediction:
        """Prediction, two times (B, c, t, h, w), for noisy latents of that shape at steps int64 (B,).

        trajectory: positions (B, T, 2) in metres in the first ego frame. told: bool (B,), which samples learn of theirs, all by
        default. Raises ValueError where a shape does not fit.
        """
        self._check(noisy, trajectory)
        # Gradients of bfloat16 weights of Conv3d on a CPU now and then hold memory that nobody wrote (torch 2.13).
        with torch.autocast("cpu", enabled=False):
            x = self.stem(noisy).flatten(2).transpose(1, 2) + self.position
        out = self.dit(x, self._condition(step, trajectory, told))
        return Prediction(*out.transpose(1, 2).unflatten(2, self.shape).chunk(2, dim=1))

    def _condition(self, step: Tensor, trajectory: Tensor, told: Tensor | None) -> Tensor:
        """Equation 3: the sum of both embeddings, (B, width); one that is switched off or withheld is zero."""
        condition = trajectory.new_zeros(len(trajectory), self.cfg.blocks.width)
        if self.step is not None:
            condition = condition + self.step(step)
        if self.trajectory is not None:
            embedded = self.trajectory((trajectory / self.cfg.trajectory_scale).flatten(1))
            condition = condition + (embedded if told is None else embedded * told.unsqueeze(1))
        return condition

    def _check(self, noisy: Tensor, trajectory: Tensor) -> None:
        latents, positions = (self.channels, *self.shape), (self.frames, 2)
        if tuple(noisy.shape[1:]) != latents or tuple(trajectory.shape) != (len(noisy), *positions):
            found = f"{tuple(noisy.shape)} and {tuple(trajectory.shape)}"
            raise ValueError(f"ClipTransformer: expected latents (B, {latents}) and trajectory (B, {positions}), found {found}")


def _trajectory_embedding(inputs: int, hidden: int, width: int) -> nn.Sequential:
    """Three linear layers with ReLU between them, initialised as the transformer's own."""
    layers = [nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, width)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
