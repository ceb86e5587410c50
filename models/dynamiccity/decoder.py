"""Expansion & Squeeze: six planes expand to the volume of every frame at once, which convolutions turn into classes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from models.dynamiccity.blocks import NormalisedPair, activate, by_frame, normalise
from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.hexplane import HexPlane
from models.dynamiccity.planes import PlaneStack
from scenes.grid import Grid


def octaves(count: int, frequencies: int, device: torch.device) -> Tensor:
    """Sines and cosines of the numbers 0 to count - 1 at 1, 2, 4, ... radians a step: (count, 2 * frequencies)."""
    angle = torch.arange(count, device=device, dtype=torch.float32)[:, None] * 2.0 ** torch.arange(frequencies, device=device)
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def expand(planes: HexPlane) -> Iterator[Tensor]:
    """Hadamard product of the six planes (B, P, a, b), broadcast over the axes each lacks: frames (n, P, X, Y, Z).

    What the planes of space say is multiplied once for all frames.
    """
    xy, xz, yz, tx, ty, tz = (plane.movedim(1, -1) for plane in planes)
    space = xy.unsqueeze(3) * xz.unsqueeze(2) * yz.unsqueeze(1)
    for place, frame_tx, frame_ty, frame_tz in _frames(space, tx, ty, tz):
        column = frame_tx.unsqueeze(2) * frame_ty.unsqueeze(1)
        yield (place * column.unsqueeze(3) * frame_tz[:, None, None]).movedim(-1, 1)


def _frames(space: Tensor, tx: Tensor, ty: Tensor, tz: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The product of the planes of space beside rows of the planes of time, frame after frame of clip after clip."""
    if space.device.type != "cpu":
        yield space.repeat_interleave(tx.shape[1], 0), tx.flatten(0, 1), ty.flatten(0, 1), tz.flatten(0, 1)
        return
    cells = 8 * space[0, ..., 0].numel()  # of the frame that its volume at half resolution becomes
    for clip in range(len(space)):
        for rows in zip(*(by_frame(plane[clip], cells) for plane in (tx, ty, tz)), strict=True):
            yield space[clip : clip + 1], *rows


class EssDecoder(nn.Module):
    """Planes to class logits through a volume at half resolution.

    The release doubles the resolution to 32 channels, appends 24 sines and cosines of the voxel's place and multiplies with one
    matrix. All three are linear, so they are one product here, straight to the classes, and the part of the place is a sum of
    one table an axis, made once. What depends on the frame's number alone is left out: the normalisation takes it away.
    """

    def __init__(self, grid: Grid, cfg: HexPlaneConfig) -> None:
        super().__init__()
        self.grid, self.cfg = grid, cfg
        hidden, classes = cfg.hidden, grid.num_classes
        self.planes = PlaneStack(cfg)
        self.enter = nn.Linear(cfg.plane_channels, hidden)
        self.pair = NormalisedPair(hidden, "constant")
        self.mix = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(2))
        self.upsample = nn.ConvTranspose3d(hidden, cfg.fine, kernel_size=2, stride=2, bias=False)
        self.squeeze = nn.Linear(cfg.fine, classes, bias=False)
        self.place = nn.Linear(3 * 2 * cfg.frequencies, classes, bias=False)
        self.classes = nn.Linear(classes, classes)

    def logits(self, latents: HexPlane) -> Iterator[Tensor]:
        """Latent planes (B, C, a, b) -> class logits, some frames at a time: (n, X / 2, 2, Y / 2, 2, Z / 2, 2, classes)."""
        matrix = torch.einsum("hfpqr,kf->pqrkh", self.upsample.weight, self.squeeze.weight).flatten(0, 3)
        place = self._places().flatten(0, 2).flatten(1)
        for volume in expand(self.planes(latents)):
            features = self._volume(volume).movedim(1, -1)
            size = features.shape[:-1]
            raw = linear(features.flatten(1, 3), matrix) + place
            cells = raw.view(*size[:3], -1, self.grid.num_classes).movedim(-1, 1)
            squeezed = self.classes(activate(normalise(cells)).movedim(1, -1))
            yield squeezed.view(*size, 2, 2, 2, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)

    def _volume(self, volume: Tensor) -> Tensor:
        """Product of the planes (n, P, X / 2, Y / 2, Z / 2) -> features (n, hidden, X / 2, Y / 2, Z / 2)."""
        volume = activate(self.enter(volume.movedim(1, -1))).movedim(-1, 1)
        volume = volume + activate(self.pair(volume))
        hidden = volume
        for layer in self.mix:
            hidden = activate(normalise(layer(hidden.movedim(1, -1)).movedim(-1, 1)))
        return volume + hidden

    def _places(self) -> Tensor:
        """What a voxel's place adds to the squeezed features: (X / 2, Y / 2, Z / 2, 2, 2, 2, classes)."""
        weight = self.place.weight
        parts = weight.chunk(3, dim=1)
        x, y, z = (
            linear(octaves(size, self.cfg.frequencies, weight.device).to(weight), part).unflatten(0, (-1, 2))
            for size, part in zip(self.grid.shape, parts, strict=True)
        )
        return x[:, None, None, :, None, None] + y[None, :, None, None, :, None] + z[None, None, :, None, None, :]
