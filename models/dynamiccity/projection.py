"""Features of space and time pressed onto six planes: by small transformers, or, as the ablation, by taking means."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from models.dynamiccity.attention import small_head_attention
from models.dynamiccity.config import HexPlaneConfig
from models.dynamiccity.hexplane import PLANES
from scenes.grid import Grid

_TOKENS = 8192  # tokens a CPU works on at a time, so that what lies between two layers stays in cache
_SOURCE = {"xyz": "txyz", "xy": "xyz", "xz": "xyz", "yz": "xyz", "tx": "txyz", "ty": "txyz", "tz": "txyz"}


class Layer(nn.Module):
    """Transformer layer with normalisation first: attention of `heads` heads, then two linear layers with GELU."""

    def __init__(self, channels: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.widen, self.narrow = nn.Linear(channels, mlp), nn.Linear(mlp, channels)
        for leave in (self.out, self.narrow):  # a fresh layer changes nothing
            nn.init.zeros_(leave.weight)
            nn.init.zeros_(leave.bias)

    def forward(self, x: Tensor, *, only_last: bool = False) -> Tensor:
        """Tokens (S, N, C) -> (S, N, C), or the last of them alone (S, 1, C)."""
        normal = self.norm(x)
        if only_last:
            channels = x.shape[-1]
            query = linear(normal[:, -1:], self.qkv.weight[:channels])
            key, value = linear(normal, self.qkv.weight[channels:]).chunk(2, dim=-1)
            x = x[:, -1:]
        else:
            query, key, value = self.qkv(normal).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        x = x + self.out(small_head_attention(query, key, value).transpose(1, 2).flatten(2))
        return x + self.narrow(gelu(self.widen(self.mlp_norm(x))))


class Projection(nn.Module):
    """A transformer that presses sequences of N features into one each, read from a token at their end, at first their mean.

    The head passes the token on at first, at half its size through the tangent: torch's initial weights would shrink it to a
    quarter, while planes are drawn with noise of size one from the beginning.

    A token that is learned alone tells nothing of its sequence until attention does. The product of the planes is then learned
    from the others, and whole planes stay constant; Muon, whose steps are of one size however small a gradient is, lets their
    layers drift until the tangent saturates.
    """

    without_muon = True

    def __init__(self, length: int, cfg: HexPlaneConfig) -> None:
        super().__init__()
        channels = cfg.channels
        self.token = nn.Parameter(torch.zeros(1, 1, channels))
        self.position = nn.Parameter(torch.cat((torch.randn(1, length, channels), torch.zeros(1, 1, channels)), dim=1))
        self.layers = nn.ModuleList(Layer(channels, cfg.heads, cfg.mlp) for _ in range(cfg.depth))
        first, last = nn.Linear(channels, channels), nn.Linear(channels, channels)
        for layer, size in ((first, 0.5), (last, 2.0)):
            nn.init.zeros_(layer.bias)
            layer.weight.data = size * torch.eye(channels)
        self.head = nn.Sequential(first, nn.Tanh(), last)

    def forward(self, sequences: Tensor) -> Tensor:
        """Sequences (S, N, C) -> (S, C); nothing but the token is read, so the last layer has no other query."""
        at_a_time = max(1, _TOKENS // sequences.shape[1]) if sequences.device.type == "cpu" else len(sequences)
        return torch.cat([self._token(part) for part in sequences.split(at_a_time)])

    def _token(self, x: Tensor) -> Tensor:
        x = torch.cat((x, self.token + x.mean(1, keepdim=True)), dim=1) + self.position
        *earlier, last = self.layers
        for layer in earlier:
            x = layer(x)
        return self.head(last(x, only_last=True).squeeze(1))


class ProjectionModule(nn.Module):
    """Seven projections: features over t, x, y, z to xyz first, from there to xy, xz and yz; tx, ty and tz directly."""

    def __init__(self, grid: Grid, cfg: HexPlaneConfig) -> None:
        super().__init__()
        length = dict(zip("txyz", (cfg.frames, *(size // 2 for size in grid.shape)), strict=True))
        self.projections = nn.ModuleDict(
            {name: Projection(math.prod(length[axis] for axis in _reduced(name)), cfg) for name in _SOURCE}
        )

    def forward(self, space: Tensor, time: Tensor) -> list[Tensor]:
        """Features (B, T, X, Y, Z, C) for space and for time -> planes (B, C, a, b) in the order of PLANES."""
        volume = self._project("xyz", space)
        sources = {"xyz": volume, "txyz": time}
        return [self._project(name, sources[_SOURCE[name]]).movedim(-1, 1) for name in PLANES]

    def _project(self, name: str, x: Tensor) -> Tensor:
        """Features (B, *source, C) -> (B, *name, C)."""
        source, kept = " ".join(_SOURCE[name]), " ".join(name)
        sizes = dict(zip(_SOURCE[name], x.shape[1:], strict=False))
        sequences = rearrange(x, f"b {source} c -> (b {kept}) ({' '.join(_reduced(name))}) c")
        found = self.projections[name](sequences)
        return rearrange(found, f"(b {kept}) c -> b {kept} c", **{axis: sizes[axis] for axis in name})


class AverageModule(nn.Module):
    """The ablation: every plane holds the means of the features along the axes that it lacks; nothing is learned."""

    def forward(self, space: Tensor, time: Tensor) -> list[Tensor]:
        """Features (B, T, X, Y, Z, C) for space and for time -> planes (B, C, a, b) in the order of PLANES."""
        planes = []
        for name in PLANES:
            source = time if "t" in name else space
            planes.append(source.mean(dim=[1 + "txyz".index(axis) for axis in "txyz" if axis not in name]).movedim(-1, 1))
        return planes


def _reduced(name: str) -> str:
    """The axes of a projection's source that its result lacks."""
    return "".join(axis for axis in _SOURCE[name] if axis not in name)
