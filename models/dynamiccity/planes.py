"""What a decoder does with each latent plane before the planes meet: widen it, and bring time back to full rate."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu

from models.dynamiccity.blocks import activate, normalise
from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.hexplane import PLANES, HexPlane


class WidenPlane(nn.Module):
    """Residual block of 3x3 convolutions from C to P channels. It starts as its shortcut: the last layer is zero at first."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(out, eps=1e-6, affine=True)
        self.leave = nn.Conv2d(out, out, kernel_size=3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, kernel_size=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, plane: Tensor) -> Tensor:
        """Plane (B, C, a, b) -> (B, P, a, b)."""
        hidden = normalise(self.enter(plane), self.norm.eps, self.norm.weight, self.norm.bias)
        return self.shortcut(plane) + self.leave(silu(hidden))


class StretchPlane(nn.Module):
    """A transposed convolution, twice as long in time where time is the plane's first axis, and a 3x3 convolution."""

    def __init__(self, channels: int, *, time: bool) -> None:
        super().__init__()
        stretch = (2, 1) if time else (1, 1)
        self.stretch = nn.ConvTranspose2d(channels, channels, kernel_size=stretch, stride=stretch, bias=False)
        self.smooth = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)

    def forward(self, plane: Tensor) -> Tensor:
        """Plane (B, P, a, b) -> (B, P, a, b), or (B, P, 2 a, b) for a plane of time."""
        return activate(normalise(self.smooth(activate(normalise(self.stretch(plane))))))


class PlaneStack(nn.Module):
    """Both steps for each of the six planes. The release runs three planes at a time as groups of one convolution, padded to a
    square; that is the same function, and most of what it multiplies is padding."""

    def __init__(self, cfg: HexPlaneConfig) -> None:
        super().__init__()
        self.widen = nn.ModuleDict({name: WidenPlane(cfg.channels, cfg.plane_channels) for name in PLANES})
        self.stretch = nn.ModuleDict({name: StretchPlane(cfg.plane_channels, time="t" in name) for name in PLANES})

    def forward(self, planes: HexPlane) -> HexPlane:
        """Latent planes (B, C, a, b) -> planes (B, P, a, b), where t now has a cell a frame."""
        named = zip(PLANES, planes, strict=True)
        return HexPlane(*(self.stretch[name](self.widen[name](plane)) for name, plane in named))
