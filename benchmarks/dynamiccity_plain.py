"""The HexPlane VAE as one would write it down in layers of torch, with the weights of ours: what its speed is compared with.

All frames go through each layer at once, channels first. Every layer of the release is there, those that change nothing
included: one-hot time, biases before a normalisation, all queries of the last attention, planes padded to one square for
grouped convolutions. Weights that ours has not are random, so that equal results mean that they do not matter.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from models.dynamiccity.decoder import EssDecoder
from models.dynamiccity.hexplane import PLANES
from models.dynamiccity.projection import Layer, Projection, ProjectionModule
from models.dynamiccity.vae import HexPlaneVae

_SOURCE = {"xyz": "txyz", "xy": "xyz", "xz": "xyz", "yz": "xyz", "tx": "txyz", "ty": "txyz", "tz": "txyz"}


def copy_weight(target: nn.Module, source: nn.Module) -> None:
    """Copy what both layers have; the target keeps a bias that the source lacks."""
    with torch.no_grad():
        for name, value in source.named_parameters(recurse=False):
            getattr(target, name).copy_(value.view_as(getattr(target, name)))


class PlainFrameEncoder(nn.Module):
    """Frames (N, C', X, Y, Z) -> (N, C, X / 2, Y / 2, Z / 2)."""

    def __init__(self, ours: nn.Module, more: int) -> None:
        super().__init__()
        channels = ours.halve.out_channels
        around = {"padding": 1, "padding_mode": "replicate"}
        self.stem = nn.Conv3d(channels + more, channels, 3, **around)
        with torch.no_grad():
            self.stem.weight[:, :channels] = ours.stem.weight
        self.fine, self.coarse = (self._pair(channels, pair, around) for pair in (ours.fine, ours.coarse))
        self.halve = nn.Sequential(nn.Conv3d(channels, channels, 2, stride=2), nn.InstanceNorm3d(channels))
        copy_weight(self.halve[0], ours.halve)

    @staticmethod
    def _pair(channels: int, ours: nn.Module, around: dict) -> nn.Sequential:
        first, second = (nn.Conv3d(channels, channels, 3, **around) for _ in range(2))
        copy_weight(first, ours.first)
        copy_weight(second, ours.second)
        return nn.Sequential(first, nn.InstanceNorm3d(channels), nn.LeakyReLU(0.1), second, nn.InstanceNorm3d(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.fine(x)
        x = self.halve(x)
        return x + self.coarse(x)


class PlainProjection(nn.Module):
    """Sequences (S, N, C) -> (S, C): every token through every layer."""

    def __init__(self, ours: Projection) -> None:
        super().__init__()
        self.ours = ours

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((x, self.ours.token + x.mean(1, keepdim=True)), dim=1) + self.ours.position
        for layer in self.ours.layers:
            assert isinstance(layer, Layer)
            parts = layer.qkv(layer.norm(x)).chunk(3, dim=-1)
            query, key, value = (rearrange(part, "s n (h d) -> s h n d", h=layer.heads) for part in parts)
            x = x + layer.out(rearrange(scaled_dot_product_attention(query, key, value), "s h n d -> s n (h d)"))
            x = x + layer.narrow(gelu(layer.widen(layer.mlp_norm(x))))
        return self.ours.head(x[:, -1])


class PlainEncoder(nn.Module):
    """Occupancy uint8 (B, T, X, Y, Z) -> means of the six planes (B, C, a, b)."""

    def __init__(self, ours: HexPlaneVae) -> None:
        super().__init__()
        assert isinstance(ours.projection, ProjectionModule)
        self.embed, self.moments, self.halve_time = ours.encoder.embed, ours.moments, ours.halve_time
        self.space = PlainFrameEncoder(ours.encoder.space, 0)
        self.time = PlainFrameEncoder(ours.encoder.time, ours.cfg.frames)
        self.projections = nn.ModuleDict({name: PlainProjection(one) for name, one in ours.projection.projections.items()})

    def features(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Features for space and for time, (B, C, T, X / 2, Y / 2, Z / 2)."""
        batch, frames = occupancy.shape[:2]
        x = rearrange(self.embed(occupancy.long()), "b t x y z c -> (b t) c x y z")
        number = torch.eye(frames).repeat(batch, 1)[..., None, None, None].expand(-1, -1, *x.shape[2:])
        found = self.space(x), self.time(torch.cat((x, number.to(x)), dim=1))
        for one in found:
            if one.requires_grad:
                one.register_hook(Tensor.contiguous)  # see models/dynamiccity/encoder.py
        return tuple(rearrange(one, "(b t) c x y z -> b c t x y z", b=batch) for one in found)

    def project(self, name: str, x: Tensor) -> Tensor:
        """Features (B, C, *source) -> (B, C, *name)."""
        source, kept = _SOURCE[name], " ".join(name)
        gone = " ".join(axis for axis in source if axis not in name)
        sizes = dict(zip(source, x.shape[2:], strict=True))
        tokens = rearrange(x, f"b c {' '.join(source)} -> (b {kept}) ({gone}) c")
        return rearrange(self.projections[name](tokens), f"(b {kept}) c -> b c {kept}", **{axis: sizes[axis] for axis in name})

    def forward(self, occupancy: Tensor) -> list[Tensor]:
        space, time = self.features(occupancy)
        sources = {"xyz": self.project("xyz", space), "txyz": time}
        means = []
        for name in PLANES:
            plane = self.project(name, sources[_SOURCE[name]])
            if name in self.halve_time:
                plane = rearrange(plane, "b c (t p) a -> b t a (p c)", p=2)
                plane = self.halve_time[name](plane).movedim(-1, 1)
            means.append(self.moments[name](plane.movedim(1, -1)).chunk(2, dim=-1)[0].movedim(-1, 1))
        return means


def together(planes: list[Tensor]) -> Tensor:
    """Planes padded at their ends to the largest of them, and joined along channels."""
    height, width = (max(plane.shape[axis] for plane in planes) for axis in (2, 3))
    return torch.cat([pad(plane, (0, width - plane.shape[3], 0, height - plane.shape[2])) for plane in planes], dim=1)


def apart(joined: Tensor, like: list[Tensor]) -> list[Tensor]:
    """The inverse of `together`."""
    return [part[..., : one.shape[2], : one.shape[3]] for part, one in zip(joined.chunk(3, dim=1), like, strict=True)]


class PlainWiden(nn.Module):
    """Three planes (B, C, a, b) through the grouped residual block."""

    def __init__(self, ours: list[nn.Module]) -> None:
        super().__init__()
        out, channels = ours[0].enter.weight.shape[:2]
        self.enter = nn.Conv2d(3 * channels, 3 * out, 3, padding=1, groups=3)
        self.leave = nn.Conv2d(3 * out, 3 * out, 3, padding=1, groups=3)
        self.shortcut = nn.Conv2d(3 * channels, 3 * out, 1, groups=3)
        self.norms = nn.ModuleList(one.norm for one in ours)
        with torch.no_grad():
            self.enter.weight.copy_(torch.cat([one.enter.weight for one in ours]))
            for name in ("leave", "shortcut"):
                for part in ("weight", "bias"):
                    getattr(getattr(self, name), part).copy_(torch.cat([getattr(getattr(one, name), part) for one in ours]))

    def forward(self, planes: list[Tensor]) -> list[Tensor]:
        joined = together(planes)
        hidden = apart(self.enter(joined), planes)
        hidden = [norm(plane) for norm, plane in zip(self.norms, hidden, strict=True)]
        return apart(self.leave(nn.functional.silu(together(hidden))) + self.shortcut(joined), planes)


class PlainDecoder(nn.Module):
    """Planes (B, C, a, b) -> class logits (B, T, X, Y, Z, classes)."""

    def __init__(self, ours: EssDecoder) -> None:
        super().__init__()
        widen = [ours.planes.widen[name] for name in PLANES]
        self.widen = nn.ModuleList((PlainWiden(widen[:3]), PlainWiden(widen[3:])))
        self.stretch = nn.ModuleList(self._stretch(ours.planes.stretch[name]) for name in PLANES)
        hidden, wide, classes = ours.cfg.hidden, ours.cfg.plane_channels, ours.grid.num_classes
        self.enter = nn.Sequential(nn.Conv3d(wide, hidden, 1), nn.LeakyReLU(0.1))
        copy_weight(self.enter[0], ours.enter)
        self.pair = self._residual(hidden, 3, [ours.pair.first, ours.pair.second])
        self.mix = self._residual(hidden, 1, list(ours.mix))
        self.upsample = nn.ConvTranspose3d(hidden, ours.cfg.fine, 2, stride=2)
        copy_weight(self.upsample, ours.upsample)
        self.frequencies = ours.cfg.frequencies
        first = nn.Conv3d(ours.cfg.fine + 4 * 2 * self.frequencies, classes, 1)
        with torch.no_grad():
            first.weight[:, : ours.cfg.fine, 0, 0, 0] = ours.squeeze.weight
            first.weight[:, -3 * 2 * self.frequencies :, 0, 0, 0] = ours.place.weight
        last = nn.Conv3d(classes, classes, 1)
        copy_weight(last, ours.classes)
        self.classes = nn.Sequential(first, nn.InstanceNorm3d(classes), nn.LeakyReLU(0.1), last)

    @staticmethod
    def _stretch(ours: nn.Module) -> nn.Sequential:
        channels, stride = ours.smooth.out_channels, ours.stretch.stride
        up, smooth = nn.ConvTranspose2d(channels, channels, stride, stride=stride), nn.Conv2d(channels, channels, 3, padding=1)
        copy_weight(up, ours.stretch)
        copy_weight(smooth, ours.smooth)
        norm, activation = nn.InstanceNorm2d(channels), nn.LeakyReLU(0.1)
        return nn.Sequential(up, norm, activation, smooth, norm, activation)

    @staticmethod
    def _residual(hidden: int, kernel: int, ours: list[nn.Module]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for one in ours:
            conv = nn.Conv3d(hidden, hidden, kernel, padding=kernel // 2)
            copy_weight(conv, one)
            layers += [conv, nn.InstanceNorm3d(hidden), nn.LeakyReLU(0.1)]
        return nn.Sequential(*layers)

    def forward(self, planes: list[Tensor]) -> Tensor:
        planes = [*self.widen[0](planes[:3]), *self.widen[1](planes[3:])]
        xy, xz, yz, tx, ty, tz = (layer(plane) for layer, plane in zip(self.stretch, planes, strict=True))
        x = xy[:, :, None, :, :, None] * xz[:, :, None, :, None, :] * yz[:, :, None, None]
        x = x * tx[..., None, None] * ty[:, :, :, None, :, None] * tz[:, :, :, None, None, :]
        batch = len(x)
        x = self.enter(rearrange(x, "b c t x y z -> (b t) c x y z"))
        x = x + self.pair(x)
        x = x + self.mix(x)
        x = self.upsample(x)
        x = self.classes(torch.cat((x, self._places(x, batch)), dim=1))
        return rearrange(x, "(b t) k x y z -> b t x y z k", b=batch)

    def _places(self, x: Tensor, batch: int) -> Tensor:
        """Sines and cosines of frame number and place, (B T, 8 frequencies, X, Y, Z)."""
        sizes = (len(x) // batch, *x.shape[2:])
        axes = torch.meshgrid(*(torch.arange(size, dtype=torch.float32) for size in sizes), indexing="ij")
        octaves = [2.0**number for number in range(self.frequencies)]
        waves = [wave(axis * octave) for axis in axes for wave in (torch.sin, torch.cos) for octave in octaves]
        return torch.stack(waves, dim=1).repeat(batch, 1, 1, 1, 1).to(x)


def parameters(vae: HexPlaneVae) -> int:
    """Weights of the plain model, which has every layer of the release."""
    assert isinstance(vae.decoder, EssDecoder)
    known = {id(part): part for module in (PlainEncoder(vae), PlainDecoder(vae.decoder)) for part in module.parameters()}
    return sum(math.prod(part.shape) for part in known.values())
