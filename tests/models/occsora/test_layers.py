"""Layers of OccSora's tokenizer: what they compute, and what each place of them depends on."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from models.occsora.attention import AxialAttention, AxisAttention
from models.occsora.classes import best_class, class_logits
from models.occsora.codebook import Codebook
from models.occsora.config import Stride
from models.occsora.convolutional import Double, Halve
from models.occsora.lean import Merge, Split, TimeMix

STRIDES = list(product((1, 2), repeat=3))


def same_padding(stride: Stride) -> list[int]:
    """Padding that a convolution of four taps needs so that n places become n / stride, the larger half in front."""
    return [part for step in reversed(stride) for part in ((4 - step + 1) // 2, (4 - step) // 2)]


@pytest.mark.parametrize("stride", STRIDES)
def test_halve_is_a_convolution_with_same_padding(stride: Stride) -> None:
    layer, x = Halve(3, 5, stride), torch.randn(2, 3, 4, 6, 8)
    padded = torch.nn.functional.pad(x, same_padding(stride))
    expected = torch.nn.functional.conv3d(padded, layer.convolution.weight, layer.convolution.bias, stride)
    torch.testing.assert_close(layer(x), expected)
    assert expected.shape[2:] == tuple(length // step for length, step in zip(x.shape[2:], stride, strict=True))


@pytest.mark.parametrize("stride", STRIDES)
def test_double_is_a_transposed_convolution_with_same_padding(stride: Stride) -> None:
    layer, x = Double(3, 5, stride), torch.randn(2, 3, 4, 6, 8)
    padded = torch.nn.functional.pad(x, same_padding(stride))
    weight, bias = layer.convolution.weight, layer.convolution.bias
    expected = torch.nn.functional.conv_transpose3d(padded, weight, bias, stride, padding=3)
    torch.testing.assert_close(layer(x), expected)
    assert expected.shape[2:] == tuple(length * step for length, step in zip(x.shape[2:], stride, strict=True))


@pytest.mark.parametrize("stride", STRIDES)
def test_double_a_few_frames_at_a_time(stride: Stride) -> None:
    layer, x = Double(3, 5, stride), torch.randn(1, 3, 5, 4, 6)
    parts = [layer.frames(x, first, min(first + 2, 5)) for first in range(0, 5, 2)]
    torch.testing.assert_close(torch.cat(parts, 2), layer(x))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_attention_along_an_axis_is_softmax_attention_of_each_line(axis: int) -> None:
    layer, x = AxisAttention(8, 2, axis), torch.randn(2, 3, 4, 5, 8)
    query, key, value = (part.unflatten(-1, (2, 4)).transpose(axis, 3) for part in layer.enter(x).chunk(3, dim=-1))
    score = torch.einsum("bmnlhc,bmnkhc->bmnhlk", query, key) / 4**0.5
    expected = torch.einsum("bmnhlk,bmnkhc->bmnlhc", score.softmax(-1), value).flatten(-2)
    torch.testing.assert_close(layer(x), layer.leave(expected.transpose(axis, 3)))


def test_axial_attention_reaches_the_lines_through_a_place_and_no_other() -> None:
    layer, x = AxialAttention(8, 2), torch.randn(1, 3, 4, 5, 8)
    other = x.clone()
    other[0, 1, 2, 3] += 1
    moved = (layer(x) - layer(other)).abs().amax(-1)[0] > 1e-7
    expected = torch.zeros(3, 4, 5, dtype=torch.bool)
    expected[:, 2, 3] = expected[1, :, 3] = expected[1, 2, :] = True
    assert torch.equal(moved, expected)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        AxialAttention(8, 3)


def make_codebook() -> tuple[Codebook, Tensor]:
    torch.manual_seed(0)
    codebook = Codebook(6, 16)
    torch.nn.init.normal_(codebook.codes)
    return codebook, torch.randn(2, 6, 2, 3, 4)


def test_codes_start_as_the_releases() -> None:
    codes = Codebook(6, 512).codes
    assert codes.abs().max() <= 1 / 512
    assert codes.std() > 0.5 / 512


def test_codes_are_the_nearest() -> None:
    """Equation 1, against all distances."""
    codebook, latents = make_codebook()
    quantized = codebook(latents)
    distance = torch.cdist(codebook.enter(latents).movedim(1, -1).reshape(-1, 6), codebook.codes)
    assert torch.equal(quantized.codes.flatten(), distance.argmin(-1))
    torch.testing.assert_close(codebook.lookup(quantized.codes), quantized.latents)
    torch.testing.assert_close(quantized.loss, 2 * distance.amin(-1).square().mean() / 6)


def test_gradient_passes_straight_through_the_choice() -> None:
    codebook, latents = make_codebook()
    latents.requires_grad_()
    slope = torch.randn(2, 6, 2, 3, 4)
    found = torch.autograd.grad(codebook(latents).latents, latents, slope)
    expected = torch.autograd.grad(codebook.leave(codebook.enter(latents)), latents, slope)
    torch.testing.assert_close(found, expected)


def test_loss_pulls_codes_and_vectors_together_and_leaves_unused_codes_alone() -> None:
    codebook, latents = make_codebook()
    quantized = codebook(latents)
    quantized.vectors.retain_grad()
    quantized.loss.backward()
    gap = quantized.vectors.detach() - codebook.codes.detach()[quantized.codes].movedim(-1, 1)
    torch.testing.assert_close(quantized.vectors.grad, 2 * gap / gap.numel())
    assert codebook.codes.grad is not None
    used = torch.bincount(quantized.codes.flatten(), minlength=16) > 0
    assert not used.all()
    assert torch.equal(codebook.codes.grad.abs().amax(-1) > 0, used)


def test_best_class_is_the_argmax_and_the_lowest_of_equals() -> None:
    table = torch.randn(18, 4)
    table[7] = table[3]
    features = torch.randn(3, 5000, 4)
    assert torch.equal(best_class(features, table), class_logits(features, table).argmax(-1).to(torch.uint8))


def test_time_mix_starts_as_the_identity_and_shifts_with_its_frames() -> None:
    layer, x = TimeMix(3), torch.randn(1, 4, 2, 2, 3)
    assert torch.equal(layer(x), x)
    torch.nn.init.ones_(layer.past)
    torch.testing.assert_close(layer(x)[:, 1:] - x[:, 1:], x[:, :-1])
    torch.nn.init.zeros_(layer.past)
    torch.nn.init.ones_(layer.future)
    torch.testing.assert_close(layer(x)[:, :-1] - x[:, :-1], x[:, 1:])


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2)])
def test_split_puts_boxes_where_merge_took_them(stride: Stride) -> None:
    """With the weights of one the transpose of the other's, and no bias, they are adjoint."""
    merge, split = Merge(3, 5, stride), Split(5, 3, stride)
    merge.norm = split.norm = torch.nn.Identity()
    torch.nn.init.zeros_(merge.project.bias)
    torch.nn.init.zeros_(split.project.bias)
    split.project.weight.data = merge.project.weight.data.T.contiguous()
    x = torch.randn(2, 4, 4, 6, 3)
    y = torch.randn_like(merge(x))
    torch.testing.assert_close((merge(x) * y).sum(), (x * split(y)).sum())


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_mixed_precision_chooses_by_float32_logits(size: float) -> None:
    """Logits in bfloat16 would often be equal, and the lowest class win in place of free, the last."""
    generator = torch.Generator().manual_seed(0)
    features, table = size * torch.randn(20_000, 4, generator=generator), torch.randn(18, 4, generator=generator)
    table[3] *= 5
    table[17] = table[3] + 0.02 * torch.randn(4, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, rounded = best_class(features.bfloat16(), table), class_logits(features, table).argmax(-1)
    expected = (features.bfloat16().float() @ table.T).argmax(-1)
    assert torch.equal(found, expected.to(torch.uint8))
    assert (found == 17).sum() > 1.1 * (rounded == 17).sum()
