"""A clip: occupancy over time with the motion of the ego, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Clip:
    """A stretch of occupancy as one ego sees it.

    Attributes:
        occupancy: class ids uint8 (T, X, Y, Z), every frame in its own ego frame.
        motion: pose of each ego frame in the previous one, float32 (T, 3), metres and radians; the first row is zero.
        dt: seconds between frames.
        source: the network or recording it comes from.
    """

    occupancy: Tensor
    motion: Tensor
    dt: float
    source: str

    def __post_init__(self) -> None:
        if self.occupancy.dtype != torch.uint8 or self.occupancy.ndim != 4:
            raise ValueError(
                f"Clip.occupancy: expected uint8 (T, X, Y, Z), found {self.occupancy.dtype} {self.occupancy.ndim}-d"
            )
        if self.motion.shape != (len(self.occupancy), 3):
            raise ValueError(f"Clip.motion: expected ({len(self.occupancy)}, 3), found {tuple(self.motion.shape)}")
        if not bool(torch.isfinite(self.motion).all()):
            raise ValueError("Clip.motion: found NaN or infinity")
        if not self.dt > 0:
            raise ValueError(f"Clip.dt: expected positive seconds, found {self.dt}")
