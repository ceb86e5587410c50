"""OccSora's tokenizer with the same weights, written in the most direct way: what our implementation is timed against.

Maps are contiguous (B, C, T, H, W), every padding is made in memory, attention keeps its scores, and all logits are held before
their argmax. This is how the released code is built.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, conv_transpose3d, pad, relu

from models.occsora.attention import AxialAttention, AxisAttention
from models.occsora.convolutional import Double, Halve, PaperDecoder, PaperEncoder, ResidualBlock
from models.occsora.tokenizer import OccSoraTokenizer


def encode(tokenizer: OccSoraTokenizer, occupancy: Tensor) -> Tensor:
    """Latents (B, c, t, h, w) of occupancy uint8 (B, T, X, Y, Z)."""
    encoder = tokenizer.encoder
    assert isinstance(encoder, PaperEncoder)
    x = tokenizer.classes(occupancy.int()).flatten(-2).permute(0, 4, 1, 2, 3).contiguous()
    for halve in encoder.halves:
        assert isinstance(halve, Halve)
        layer = halve.convolution
        x = relu(conv3d(pad(x, _padding(layer)), layer.weight, layer.bias, layer.stride))
    return tokenizer.before(_residual(encoder.residual, encoder.last(x)))


def decode(tokenizer: OccSoraTokenizer, latents: Tensor) -> Tensor:
    """Classes uint8 (B, T, X, Y, Z) of quantised latents (B, c, t, h, w)."""
    decoder = tokenizer.decoder
    assert isinstance(decoder, PaperDecoder)
    x = _residual(decoder.residual, tokenizer.after(latents))
    for number, double in enumerate(decoder.doubles):
        assert isinstance(double, Double)
        layer = double.convolution
        x = conv_transpose3d(pad(relu(x) if number else x, _padding(layer)), layer.weight, layer.bias, layer.stride, padding=3)
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    logits = x.view(*x.shape[:-1], decoder.height, decoder.class_dim) @ tokenizer.classes.weight.T
    return logits.argmax(-1).to(torch.uint8)


def _padding(layer: nn.Conv3d | nn.ConvTranspose3d) -> list[int]:
    """As much as makes n places n / stride, or n * stride, the larger half in front."""
    return [part for step in reversed(layer.stride) for part in ((4 - step + 1) // 2, (4 - step) // 2)]


def _residual(stack: nn.Sequential, x: Tensor) -> Tensor:
    for block in stack:
        x = x + _attention(block.attention, block.convolutions(x)) if isinstance(block, ResidualBlock) else block(x)
    return x


def _attention(layer: AxialAttention, x: Tensor) -> Tensor:
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    width, height, time = (_along(axis, x) for axis in layer.along)
    return (width + height + time).permute(0, 4, 1, 2, 3).contiguous()


def _along(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, AxisAttention)
    lines = [part.unflatten(-1, (layer.heads, -1)).transpose(layer.axis, 3) for part in layer.enter(x).chunk(3, dim=-1)]
    query, key, value = (part.transpose(-3, -2).contiguous() for part in lines)
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    found = (scores.softmax(-1) @ value).transpose(-3, -2).flatten(-2)
    return layer.leave(found.transpose(layer.axis, 3))
