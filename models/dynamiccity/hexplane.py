"""Six planes of features that stand for a clip, and the normal distribution over them that an encoder gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

PLANES = ("xy", "xz", "yz", "tx", "ty", "tz")


@dataclass(frozen=True)
class HexPlane:
    """Features of a clip on six planes, each (B, C, a, b) where a and b are the lengths along the axes in its name."""

    xy: Tensor
    xz: Tensor
    yz: Tensor
    tx: Tensor
    ty: Tensor
    tz: Tensor

    def __post_init__(self) -> None:
        """Raise ValueError unless the planes fit each other."""
        batch, channels, x, y = self.xy.shape
        length = {"x": x, "y": y, "z": self.xz.shape[-1], "t": self.tx.shape[-2]}
        for name in PLANES:
            expected = (batch, channels, length[name[0]], length[name[1]])
            found = tuple(getattr(self, name).shape)
            if found != expected:
                raise ValueError(f"HexPlane.{name}: expected shape {expected} beside the other planes, found {found}")

    def __iter__(self) -> Iterator[Tensor]:
        """The planes in the order of PLANES."""
        return (getattr(self, name) for name in PLANES)

    @property
    def lengths(self) -> tuple[int, int, int, int]:
        """Cells along t, x, y and z."""
        return self.tx.shape[-2], self.xy.shape[-2], self.xy.shape[-1], self.xz.shape[-1]

    def map(self, change: Callable[[Tensor], Tensor]) -> HexPlane:
        """Every plane changed alike."""
        return HexPlane(*(change(plane) for plane in self))

    @property
    def count(self) -> int:
        """Numbers that stand for one clip."""
        return sum(plane[0].numel() for plane in self)


@dataclass(frozen=True)
class Posterior:
    """Independent normal distributions of all features of a HexPlane."""

    mean: HexPlane
    log_variance: HexPlane

    def sample(self, generator: torch.Generator | None = None) -> HexPlane:
        """One draw, differentiable in mean and variance; noise is drawn on the CPU, so that a seed means the same anywhere."""
        drawn = []
        for mean, log_variance in zip(self.mean, self.log_variance, strict=True):
            noise = torch.randn(mean.shape, generator=generator).to(mean)
            drawn.append(mean + noise * (0.5 * log_variance).exp())
        return HexPlane(*drawn)

    def kl(self) -> Tensor:
        """Kullback-Leibler divergence from the standard normal distribution in nats, the mean over all features: a scalar."""
        total = self.mean.xy.new_zeros((), dtype=torch.float32)
        for mean, log_variance in zip(self.mean, self.log_variance, strict=True):
            mean, log_variance = mean.float(), log_variance.float()
            total = total + 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return total / sum(mean.numel() for mean in self.mean)
