"""Ours against the release's layers, one after another in plain torch: same weights, same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.dynamiccity.config import hexplane_preset
from models.dynamiccity.decoder import EssDecoder
from models.dynamiccity.vae import HexPlaneVae
from tests.models.dynamiccity.small import make_clips, make_vae


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_frame_features_do_not_depend_on_one_hot_time() -> None:
    """The plain time encoder has T one-hot channels with random weights, and biases: they change nothing."""
    from dynamiccity_plain import PlainEncoder

    vae, clips = make_vae(), make_clips()
    plain = PlainEncoder(vae)
    assert float(plain.time.stem.weight[:, vae.cfg.channels :].abs().mean()) > 0
    for one, other in zip(vae.encoder(clips), plain.features(clips), strict=True):
        close(one, other.permute(0, 2, 3, 4, 5, 1))


@torch.no_grad()
def test_encode_and_decode_equal_the_plain_model() -> None:
    """Means of all planes, and from them the logits of all voxels."""
    from dynamiccity_plain import PlainDecoder, PlainEncoder

    vae, clips = make_vae(), make_clips()
    means = vae.encode(clips).mean
    for one, other in zip(means, PlainEncoder(vae)(clips), strict=True):
        close(one, other)
    assert isinstance(vae.decoder, EssDecoder)
    close(vae.logits(means), PlainDecoder(vae.decoder)(list(means)))


def test_gradients_equal_those_of_the_plain_model() -> None:
    """Of every weight that both have, through encoder, planes and decoder, in float64."""
    from dynamiccity_plain import PlainDecoder, PlainEncoder

    vae, clips = make_vae().double(), make_clips(batch=1)
    assert isinstance(vae.decoder, EssDecoder)
    weight = torch.randn((), generator=torch.Generator().manual_seed(2)) + torch.arange(18) / 18
    encoder, decoder = PlainEncoder(vae).double(), PlainDecoder(vae.decoder).double()
    (decoder(encoder(clips)).log_softmax(-1) * weight).sum().backward()
    shared = {id(part) for part in (*encoder.parameters(), *decoder.parameters())}
    expected = {name: part.grad for name, part in vae.named_parameters() if id(part) in shared and part.grad is not None}
    vae.zero_grad()
    (vae.logits(vae.encode(clips).mean).log_softmax(-1) * weight).sum().backward()
    found = dict(vae.named_parameters())
    assert "encoder.embed.weight" in expected
    assert sum("projections" in name for name in expected) == sum("projections" in name for name in found)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name].grad, gradient, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(("name", "millions"), [("dynamiccity-carlasc", 1.70), ("dynamiccity-occ3d", 1.81)])
def test_as_many_weights_as_the_release(name: str, millions: float) -> None:
    """With every layer of the release, to the digits it is known to; ours lacks those that change nothing."""
    from dynamiccity_plain import parameters

    vae = HexPlaneVae(*hexplane_preset(name))
    assert round(parameters(vae) / 1e6, 2) == millions
    assert 0 < parameters(vae) - sum(part.numel() for part in vae.parameters()) < 10_000
