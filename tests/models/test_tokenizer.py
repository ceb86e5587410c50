"""The tokenizer and its codebooks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import class_weights, voxel_loss
from models.quantizer import ProductQuantizer
from models.tokenizer import ChunkTokenizer, TokenizerConfig, fold, unfold
from models.warp import UNKNOWN
from scenes.grid import Grid
from tests.models.small import CONFIG, GRID


def make_tokenizer() -> ChunkTokenizer:
    torch.manual_seed(0)
    return ChunkTokenizer(GRID, CONFIG.tokenizer).eval()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_snapping_twice_is_snapping_once(seed: int) -> None:
    """The code of a code vector is that code."""
    quantizer = ProductQuantizer(groups=4, num_codes=64, code_dim=4)
    latents = torch.randn(50, 16, generator=torch.Generator().manual_seed(seed)) * 2
    codes = quantizer.codes(latents)
    assert torch.equal(quantizer.codes(quantizer.lookup(codes)), codes)


def test_fold_and_unfold_are_inverse() -> None:
    """Every voxel finds its way back."""
    occupancy = torch.randint(0, 18, (2, 2, *GRID.shape), dtype=torch.uint8)
    assert torch.equal(unfold(fold(occupancy), 2, GRID.shape[2]), occupancy)


def test_decoding_uses_every_voxel_where_it_belongs() -> None:
    """Decoder ids unfold to the argmax of the logits at their own place."""
    tokenizer = make_tokenizer()
    latents = torch.randn(1, 4, 4, CONFIG.tokenizer.latent_dim)
    logits = tokenizer.decoder.logits(tokenizer.decoder.places(latents))
    assert torch.equal(fold(tokenizer.decode(latents)), logits.argmax(-1).to(torch.uint8))


def test_unknown_cells_reach_the_encoder_as_a_class_of_their_own() -> None:
    """Cells that a warp could not see change the latents, and are not mistaken for free."""
    tokenizer = make_tokenizer()
    occupancy = torch.full((1, 2, *GRID.shape), GRID.free, dtype=torch.uint8)
    unseen = occupancy.clone()
    unseen[..., :8, :, :] = UNKNOWN
    assert not torch.allclose(tokenizer.encode(occupancy), tokenizer.encode(unseen))


def test_gradient_passes_straight_through_the_codes() -> None:
    """The encoder gets a gradient although the codes are discrete."""
    tokenizer = make_tokenizer().train()
    occupancy = torch.randint(0, 18, (1, 2, *GRID.shape), dtype=torch.uint8)
    places, _, _ = tokenizer(occupancy)
    loss, _ = voxel_loss(tokenizer.decoder.logits(places).flatten(0, -2), fold(occupancy).flatten(), torch.ones(18))
    loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in tokenizer.encoder.layers.parameters() if p.grad is not None)
    assert any(p.grad is not None for p in tokenizer.encoder.parameters())


def test_dead_codes_come_back() -> None:
    """When all latents sit in one corner, the codes move there instead of lying idle."""
    quantizer = ProductQuantizer(groups=2, num_codes=32, code_dim=4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        latents = 5 + 0.5 * torch.randn(256, 8, generator=generator)
        quantizer.update(latents, quantizer.codes(latents), generator)
    used = quantizer.codes(5 + 0.5 * torch.randn(4096, 8, generator=generator))
    assert min(len(used[:, group].unique()) for group in range(2)) >= 30


def test_bits_per_frame_count_codes() -> None:
    """4 x 4 tokens with 4 codes of 4 bits for two frames are 128 bits a frame."""
    assert make_tokenizer().bits_per_frame == 4 * 4 * 4 * 4 / 2


def test_grid_must_be_divisible() -> None:
    """A grid that tokens do not tile is refused."""
    with pytest.raises(ValueError, match="divisible by 8"):
        ChunkTokenizer(Grid((30, 32, 4), 0.8, (0, 0, 0)), TokenizerConfig())


def test_voxel_loss_matches_its_definition() -> None:
    """Weighted cross entropy and soft Jaccard against a direct computation; ids of 18 and above do not count."""
    torch.manual_seed(0)
    logits, target = torch.randn(200, 18), torch.randint(0, 18, (200,))
    weights = class_weights(torch.rand(18))
    ignored = torch.cat((target, torch.full((20,), 255))).to(torch.uint8)
    cross_entropy, jaccard = voxel_loss(torch.cat((logits, torch.randn(20, 18))), ignored, weights)
    torch.testing.assert_close(cross_entropy, torch.nn.functional.cross_entropy(logits, target, weights))
    probability, truth = logits.softmax(-1), torch.nn.functional.one_hot(target, 18).float()
    overlap = (probability * truth).sum(0)
    index = overlap / (probability.sum(0) + truth.sum(0) - overlap)
    torch.testing.assert_close(jaccard, 1 - index[truth.sum(0) > 0].mean())
