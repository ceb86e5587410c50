"""What the benchmark of OccSora counts and compares with."""

from __future__ import annotations

import pytest
import torch

from models.occsora.config import PRESETS, OccSoraPreset
from models.occsora.presets import WORLD_PRESETS
from models.occsora.tokenizer import OccSoraTokenizer
from tests.models.occsora.small import GRID, make_clips, make_tokenizer


@pytest.mark.parametrize("name", ["paper", "paper-4x8x8"])
def test_the_plain_form_computes_the_same(name: str) -> None:
    import occsora_plain

    tokenizer, clips = make_tokenizer(name), make_clips(2)
    latents = occsora_plain.encode(tokenizer, clips)
    torch.testing.assert_close(latents, tokenizer.encode(clips), atol=1e-6, rtol=1e-4)
    latents = tokenizer.quantize(latents).latents
    agree = occsora_plain.decode(tokenizer, latents) == tokenizer.decode(latents)
    assert agree.float().mean() > 0.999  # sums in another order may turn near ties


def test_operations_are_the_releases() -> None:
    """GFLOP measured of the release's networks; of its decoder without those spent on padding."""
    from occsora_parts import tokenizer_operations, transformer_parts

    (denoise,) = transformer_parts("occsora", PRESETS["occsora"], torch.zeros(1, 128, 4, 25, 25))
    assert denoise.gflop == pytest.approx(303, rel=2e-3)
    encode, lookup, decode = tokenizer_operations(PRESETS["occsora"])
    assert encode == pytest.approx(2270, rel=2e-3)
    assert lookup == pytest.approx(0.49, abs=0.01)
    assert decode == pytest.approx(2241, rel=2e-3)


@pytest.mark.parametrize("name", WORLD_PRESETS)
def test_the_transformer_is_that_of_the_preset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import occsora_parts

    monkeypatch.setattr(occsora_parts, "counted", lambda call: 0.0)
    world = WORLD_PRESETS[name]
    with torch.device("meta"):
        tokenizer = OccSoraTokenizer(world.clips.grid, world.clips.tokenizer)
        latents = torch.zeros(1, tokenizer.latent_channels, *tokenizer.latent_shape(world.clips.frames))
        (part,) = occsora_parts.transformer_parts(name, world.clips, latents)
    (transformer,) = part.modules
    assert transformer.cfg == world.transformer


@pytest.mark.parametrize("size", ["", "-small"])
def test_lean_takes_a_fifth_of_the_operations_or_less(size: str) -> None:
    from occsora_parts import tokenizer_operations

    paper, lean = (tokenizer_operations(PRESETS[f"occsora{kind}{size}"]) for kind in ("", "-lean"))
    assert lean.encode <= paper.encode / 5
    assert lean.decode <= paper.decode / 5


def test_parts_say_what_they_make() -> None:
    from occsora_parts import seconds, tokenizer_parts

    tokenizer, clips = make_tokenizer(), make_clips()
    latents = torch.randn(1, 8, 2, 2, 3)
    parts = tokenizer_parts(OccSoraPreset(tokenizer.cfg, GRID, frames=16), tokenizer, clips, latents)
    rows = [part.described() for part in parts]
    assert [(row["name"], row["shape"]) for row in rows] == [
        ("encode", [8, 2, 2, 3]),
        ("lookup", [8, 2, 2, 3]),
        ("decode", [16, *GRID.shape]),
    ]
    assert sum(row["weights"] for row in rows) + tokenizer.classes.weight.numel() == sum(
        parameter.numel() for parameter in tokenizer.parameters()
    )
    assert all(row["release"] is None for row in rows)
    timed = seconds(lambda: None, lambda: sum(range(100_000)), 2)
    assert timed["plain_seconds"] > timed["seconds"]
