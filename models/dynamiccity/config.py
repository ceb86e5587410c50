"""Shape of a HexPlane VAE, and the named ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scenes.grid import CARLASC, MINI, NEAR, OCC3D, Grid


@dataclass(frozen=True)
class HexPlaneConfig:
    """Shape of a HexPlane VAE; the defaults are those of the release.

    Attributes:
        frames: frames T of a clip, even.
        channels: channels C of the class embedding, of the encoder and of the latent planes.
        heads: attention heads of the projection transformers.
        depth: layers of each projection transformer.
        mlp: hidden channels of their feed-forward layers.
        plane_channels: channels of a plane in the decoder, before the planes are multiplied.
        hidden: channels of the decoder's volume at half resolution.
        fine: channels of its volume at full resolution.
        frequencies: octaves of the sines and cosines of a voxel's place.
        query_hidden, query_layers: the per-point MLP of the "query" decoder.
        projection: "module" for the Projection Module, "average" for the ablation that takes means.
        decoder: "ess" for Expansion & Squeeze, "query" for the ablation that asks an MLP at every voxel.
    """

    frames: int = 16
    channels: int = 16
    heads: int = 2
    depth: int = 2
    mlp: int = 32
    plane_channels: int = 64
    hidden: int = 128
    fine: int = 32
    frequencies: int = 3
    query_hidden: int = 256
    query_layers: int = 4
    projection: Literal["module", "average"] = "module"
    decoder: Literal["ess", "query"] = "ess"

    def __post_init__(self) -> None:
        if self.frames < 2 or self.frames % 2:
            raise ValueError(f"HexPlaneConfig.frames must be even and positive, found {self.frames}")
        if self.channels % self.heads:
            raise ValueError(f"HexPlaneConfig.heads must divide the {self.channels} channels, found {self.heads}")
        if self.depth < 1 or self.query_layers < 1:
            raise ValueError(f"HexPlaneConfig needs at least one layer, found {self.depth} and {self.query_layers}")
        if self.projection not in ("module", "average") or self.decoder not in ("ess", "query"):
            raise ValueError(f"HexPlaneConfig: unknown projection {self.projection!r} or decoder {self.decoder!r}")


_SMALL = HexPlaneConfig(channels=8, heads=1, mlp=16, plane_channels=32, hidden=32, fine=16, query_hidden=64)

PRESETS: dict[str, tuple[Grid, HexPlaneConfig]] = {
    "dynamiccity-carlasc": (CARLASC, HexPlaneConfig()),
    "dynamiccity-occ3d": (OCC3D, HexPlaneConfig()),
    # the same layers, narrower, on 96 x 96 x 8 voxels of 0.8 m: trains on two CPU cores
    "dynamiccity-small": (MINI, _SMALL),
    # 19 m around the car: a quarter of the voxels
    "dynamiccity-near": (NEAR, _SMALL),
}


def hexplane_preset(name: str) -> tuple[Grid, HexPlaneConfig]:
    """Grid and shape of a preset; raises ValueError with the names there are."""
    if name not in PRESETS:
        raise ValueError(f"hexplane_preset: expected one of {sorted(PRESETS)}, found {name!r}")
    return PRESETS[name]


def plane_shapes(grid: Grid, cfg: HexPlaneConfig) -> dict[str, tuple[int, int]]:
    """Height and width of each latent plane: space is halved along every axis, and time where it is an axis."""
    length = dict(zip("txyz", (cfg.frames // 2, *(size // 2 for size in grid.shape)), strict=True))
    return {name: (length[name[0]], length[name[1]]) for name in ("xy", "xz", "yz", "tx", "ty", "tz")}
