"""Presets of OccSora's tokenizer against the published sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.occsora.config import PRESETS, LeanConfig, PaperConfig, occsora_preset
from models.occsora.tokenizer import OccSoraTokenizer

RELEASE = {
    "classes": 144,
    "encoder": 72_109_056,
    "before": 65_664,
    "codebook": 98_560,
    "after": 66_048,
    "decoder": 65_030_272,
}
TABLE_3 = {
    "occsora": (128, 4, 25, 25),
    "occsora-class4": (128, 4, 25, 25),
    "occsora-128x8x50x50": (128, 8, 50, 50),
    "occsora-64x3x50x50": (64, 3, 50, 50),
    "occsora-64x3x25x25": (64, 3, 25, 25),
    "occsora-32x3x25x25": (32, 3, 25, 25),
    "occsora-lean": (128, 4, 25, 25),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def without_data(name: str) -> OccSoraTokenizer:
    with torch.device("meta"):
        return OccSoraTokenizer(PRESETS[name].grid, PRESETS[name].tokenizer).eval()


def test_parameters_are_the_releases_part_by_part() -> None:
    tokenizer = without_data("occsora")
    assert {name: count(part) for name, part in tokenizer.named_children()} == RELEASE
    assert count(tokenizer) == 137_369_744


@pytest.mark.parametrize(("strides", "millions"), [((4, 8, 8), 137.4), ((4, 4, 4), 103.8)])
def test_parameters_with_other_strides_are_the_releases(strides: tuple[int, int, int], millions: float) -> None:
    with torch.device("meta"):
        tokenizer = OccSoraTokenizer(PRESETS["occsora"].grid, PaperConfig(strides=strides))
    assert round(count(tokenizer) / 1e6, 1) == millions


@pytest.mark.parametrize(("name", "shape"), TABLE_3.items())
def test_latents_have_the_sizes_of_table_3(name: str, shape: tuple[int, ...]) -> None:
    preset = PRESETS[name]
    tokenizer = without_data(name)
    assert (tokenizer.latent_channels, *tokenizer.latent_shape(preset.frames)) == shape


@pytest.mark.parametrize("name", [name for name in TABLE_3 if name != "occsora-lean"])
def test_encoder_makes_and_decoder_reads_latents_of_that_size(name: str) -> None:
    preset, tokenizer = PRESETS[name], without_data(name)
    clip = torch.empty(1, preset.frames, *preset.grid.shape, dtype=torch.uint8, device="meta")
    latents = tokenizer.encode(clip)
    assert latents.shape[1:] == TABLE_3[name]
    assert tokenizer.decoder(tokenizer.after(latents)).shape == (*clip.shape, preset.tokenizer.class_dim)


def test_compression_is_the_papers() -> None:
    """512 voxel columns a latent place (table 1), each with one of 512 codes."""
    assert PRESETS["occsora"].tokenizer.ratio == 512
    assert without_data("occsora").bits_per_frame == 25 * 25 * 9 / 8


def test_bad_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*'occsora-small'.*, found 'occsora-tiny'"):
        occsora_preset("occsora-tiny")
    with pytest.raises(ValueError, match=r"three powers of two, found \(6, 8, 8\)"):
        PaperConfig(strides=(6, 8, 8))
    with pytest.raises(ValueError, match=r"strides \(4, 4, 4\) make 2 levels"):
        LeanConfig(strides=(4, 4, 4))
    with pytest.raises(ValueError, match="two columns at least"):
        LeanConfig(strides=(8, 1, 1))
    with pytest.raises(ValueError, match=r"do not divide a grid of \(200, 200\)"):
        OccSoraTokenizer(PRESETS["occsora"].grid, PaperConfig(strides=(16, 16, 16)))
