"""Shapes of OccSora's tokenizer: the paper's, the variants of its table 3, leaner ones, and small ones for two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scenes.grid import MINI, NEAR, OCC3D, Grid

Stride = tuple[int, int, int]


@dataclass(frozen=True)
class TokenizerConfig:
    """What every tokenizer of a clip has.

    Attributes:
        class_dim: channels of a class embedding; the same table reads classes and tells them apart at the end.
        strides: frames, and voxels along axes 0 and 1, that a latent place spans; powers of two.
        latent_channels: channels of a latent and of a code.
        num_codes: codes in the codebook.
    """

    class_dim: int = 8
    strides: Stride = (8, 8, 8)
    latent_channels: int = 128
    num_codes: int = 512

    def __post_init__(self) -> None:
        if len(self.strides) != 3 or any(stride < 1 or stride & (stride - 1) for stride in self.strides):
            raise ValueError(f"TokenizerConfig.strides: expected three powers of two, found {self.strides}")

    @property
    def halvings(self) -> list[Stride]:
        """Strides of the successive levels: each halves the axes that are not yet small enough."""
        levels = max(self.strides).bit_length() - 1
        time, along, across = ([2 if stride >> level > 1 else 1 for level in range(levels)] for stride in self.strides)
        return list(zip(time, along, across, strict=True))

    @property
    def ratio(self) -> int:
        """Voxel columns that a latent place stands for, which is what the paper calls the compression ratio."""
        frames, along, across = self.strides
        return frames * along * across


@dataclass(frozen=True)
class PaperConfig(TokenizerConfig):
    """The tokenizer as published and released: wide convolutions at every level.

    Attributes:
        width: channels from the first convolution of the encoder to the last but one of the decoder.
        blocks: residual blocks with axial attention, in the encoder and again in the decoder.
        heads: attention heads.
    """

    width: int = 512
    blocks: int = 4
    heads: int = 2


@dataclass(frozen=True)
class LeanConfig(TokenizerConfig):
    """A tokenizer with latents of the same size at a fraction of the operations.

    Attributes:
        widths: channels at each level, the finest first.
        encoder_blocks: blocks of the encoder at each level.
        decoder_blocks: blocks of the decoder at each level.
        heads: attention heads at the coarsest level.
    """

    widths: tuple[int, ...] = (192, 256, 256)
    encoder_blocks: tuple[int, ...] = (1, 2, 4)
    decoder_blocks: tuple[int, ...] = (2, 3, 4)
    heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        levels, given = len(self.halvings), (self.widths, self.encoder_blocks, self.decoder_blocks)
        if any(len(part) != levels for part in given):
            raise ValueError(f"LeanConfig: strides {self.strides} make {levels} levels, found widths and blocks {given}")
        if self.halvings[0][1:] != (2, 2):
            raise ValueError(f"LeanConfig.strides: a latent place must span two columns at least, found {self.strides}")


@dataclass(frozen=True)
class OccSoraPreset:
    """A tokenizer with the clips it is made for.

    Attributes:
        tokenizer: its shape.
        grid: voxel grid.
        frames: frames of a clip.
        dt: seconds between them.
    """

    tokenizer: PaperConfig | LeanConfig
    grid: Grid = OCC3D
    frames: int = 32
    dt: float = 0.5


_PAPER, _LEAN = PaperConfig(), LeanConfig()
# An eighth of the width, half the height: with 4 channels a class the first convolution has a quarter of the width again.
_SMALL = PaperConfig(class_dim=4, latent_channels=16, width=64)
_LEAN_SMALL = LeanConfig(
    class_dim=4, latent_channels=16, widths=(32, 64, 128), encoder_blocks=(1, 1, 2), decoder_blocks=(1, 2, 2), heads=2
)
_LEAN_NEAR = LeanConfig(
    class_dim=4, strides=(4, 4, 4), latent_channels=16, widths=(32, 64), encoder_blocks=(1, 2), decoder_blocks=(1, 2), heads=2
)

PRESETS = {
    # the paper's and the release's
    "occsora": OccSoraPreset(_PAPER),
    # the other rows of table 3 that are about the tokenizer, by class embedding or by the size of the latents
    "occsora-class4": OccSoraPreset(replace(_PAPER, class_dim=4)),
    "occsora-128x8x50x50": OccSoraPreset(replace(_PAPER, strides=(4, 4, 4))),
    "occsora-64x3x50x50": OccSoraPreset(replace(_PAPER, strides=(4, 4, 4), latent_channels=64), frames=12),
    "occsora-64x3x25x25": OccSoraPreset(replace(_PAPER, strides=(4, 8, 8), latent_channels=64), frames=12),
    "occsora-32x3x25x25": OccSoraPreset(replace(_PAPER, strides=(4, 8, 8), latent_channels=32), frames=12),
    # latents of the paper's size at less than a fifth of the operations
    "occsora-lean": OccSoraPreset(_LEAN),
    # the same structures on 96 x 96 x 8 voxels of 0.8 m: they train on two CPU cores
    "occsora-small": OccSoraPreset(_SMALL, MINI),
    "occsora-small-16x8x24x24": OccSoraPreset(replace(_SMALL, strides=(4, 4, 4)), MINI),
    "occsora-lean-small": OccSoraPreset(_LEAN_SMALL, MINI),
    # 19 m around the car for 8 s, an eighth of the voxels, at the strides of table 3's 128 x 8 x 50 x 50
    "occsora-near": OccSoraPreset(replace(_SMALL, strides=(4, 4, 4)), NEAR, frames=16),
    "occsora-lean-near": OccSoraPreset(_LEAN_NEAR, NEAR, frames=16),
}


def occsora_preset(name: str) -> OccSoraPreset:
    """A preset by name; raises ValueError with the names there are."""
    if name not in PRESETS:
        raise ValueError(f"occsora_preset: expected one of {list(PRESETS)}, found {name!r}")
    return PRESETS[name]
