"""OccSora's tokenizer as a whole, in every structure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.occsora.pretrained import load_tokenizer, save_tokenizer
from tests.models.occsora.small import CONFIGS, GRID, make_clips, make_tokenizer

every = pytest.mark.parametrize("name", CONFIGS)


@every
@pytest.mark.parametrize("frames", [8, 24])
def test_shapes(name: str, frames: int) -> None:
    """Any number of frames that the stride divides, and more than one clip."""
    tokenizer, clips = make_tokenizer(name), make_clips(2, frames)
    latents = tokenizer.encode(clips)
    assert latents.shape == (2, tokenizer.latent_channels, *tokenizer.latent_shape(frames))
    quantized = tokenizer.quantize(latents)
    assert quantized.latents.shape == latents.shape
    assert quantized.codes.shape == (2, *latents.shape[2:])
    assert quantized.codes.unique().numel() > 1
    found = tokenizer.decode(quantized.latents)
    assert found.shape == clips.shape
    assert found.dtype == torch.uint8
    assert torch.equal(found, tokenizer.reconstruct(clips))


@every
def test_decoding_is_the_argmax_of_the_logits(name: str) -> None:
    tokenizer, clips = make_tokenizer(name), make_clips(2)
    features, quantized = tokenizer(clips)
    logits = tokenizer.logits(features)
    assert logits.shape == (*clips.shape, GRID.num_classes)
    found = tokenizer.decode(quantized.latents)
    # Sums in another order may turn near ties.
    margin = logits.amax(-1) - logits.gather(-1, found.long().unsqueeze(-1)).squeeze(-1)
    assert margin.max() < 1e-5
    assert found.unique().numel() > 3


@every
def test_clips_of_a_batch_do_not_touch_each_other(name: str) -> None:
    tokenizer, clips = make_tokenizer(name), make_clips(2)
    both = tokenizer.encode(clips)
    for clip, latents in zip(clips.split(1), both.split(1), strict=True):
        torch.testing.assert_close(tokenizer.encode(clip), latents)


@every
def test_twice_the_same(name: str) -> None:
    first, second = make_tokenizer(name), make_tokenizer(name)
    clips = make_clips(2)
    assert torch.equal(first.encode(clips), second.encode(clips))
    assert torch.equal(first.reconstruct(clips), second.reconstruct(clips))


@pytest.mark.parametrize("name", ["lean", "lean-4x8x8"])
def test_lean_voxels_keep_their_place(name: str) -> None:
    """A changed voxel box changes the latent of its place most, and a changed latent the features of its box."""
    tokenizer, clip = make_tokenizer(name), make_clips()
    strides, place = tokenizer.cfg.strides, (0, 1, 2)
    other = clip.clone()
    other[0, : strides[0], 8:16, 16:24] = GRID.free
    with torch.no_grad():
        latents = tokenizer.encode(clip)
        moved = (latents - tokenizer.encode(other)).square().sum(1)[0]
        assert torch.equal((moved == moved.max()).nonzero(), torch.tensor([place]))
        changed = latents.clone()
        changed[0, :, *place] += 5
        features = (tokenizer.decoder(tokenizer.after(part)) for part in (latents, changed))
        voxels = (next(features) - next(features)).square().sum((-1, -2))[0]
        boxes = voxels.unfold(0, strides[0], strides[0]).unfold(1, 8, 8).unfold(2, 8, 8).sum((-1, -2, -3))
    assert torch.equal((boxes == boxes.max()).nonzero(), torch.tensor([place]))


@every
def test_every_weight_gets_a_gradient(name: str) -> None:
    tokenizer, clips = make_tokenizer(name).train(), make_clips(2)
    features, quantized = tokenizer(clips)
    logits = tokenizer.logits(features).flatten(0, -2)
    (torch.nn.functional.cross_entropy(logits, clips.flatten().long()) + quantized.loss).backward()
    without = [key for key, weight in tokenizer.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not without


def test_unfit_input_is_named() -> None:
    tokenizer = make_tokenizer()
    with pytest.raises(ValueError, match=r"frames in a multiple of 8, .*, found 12"):
        tokenizer.encode(make_clips(1, 12))
    with pytest.raises(ValueError, match=r"expected occupancy uint8 .* found torch.int64"):
        tokenizer.encode(make_clips().long())
    with pytest.raises(ValueError, match=r"on \(16, 24, 4\), found torch.uint8 \(1, 16, 16, 24, 2\)"):
        tokenizer.encode(make_clips()[..., :2])
    with pytest.raises(ValueError, match=r"expected latents \(B, 8, t, 2, 3\), found \(1, 8, 2, 3, 2\)"):
        tokenizer.decode(torch.zeros(1, 8, 2, 3, 2))
    with pytest.raises(ValueError, match="class ids below 18, found 18"):
        tokenizer.reconstruct(make_clips() + 1)


@pytest.mark.parametrize("name", ["paper", "lean"])
def test_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    tokenizer, clips = make_tokenizer(name), make_clips()
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.cfg == tokenizer.cfg
    assert loaded.grid == tokenizer.grid
    assert torch.equal(loaded.reconstruct(clips), tokenizer.reconstruct(clips))


def test_a_folder_of_another_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"kind": "tokenizer", "config": {}}')
    expected = "config.json: expected a model of kind occsora_tokenizer or occsora_lean_tokenizer, found kind 'tokenizer'"
    with pytest.raises(ValueError, match=expected):
        load_tokenizer(tmp_path)
