"""Vector quantisation in training: the nearest codes, and all that a training step wants to know about them, in one pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.codebook import check_lookup, nearest_code_torch
from kernels.dispatch import on_triton


class Quantization(NamedTuple):
    """Outcome of `quantize` for vectors (N, G, D).

    Attributes:
        codes: ids of the nearest codes, int64 (N, G).
        quantized: those codes (N, G, D), in the wider type of the two; the gradient passes straight to the vectors.
        commitment: mean squared distance of the vectors from their codes, a float32 scalar whose gradient goes to the vectors.
        counts: how many vectors fell to each code, int64 (G, K).
    """

    codes: Tensor
    quantized: Tensor
    commitment: Tensor
    counts: Tensor


def quantize(x: Tensor, codebook: Tensor) -> Quantization:
    """Snap each vector to the nearest code of its group, differentiable once with respect to x.

    x: (N, G, D). codebook: (G, K, D), which gets no gradient. Types, limits and ties are those of `nearest_code`, and so are
    the errors; nothing of size N x K is ever held, and equal calls give equal bits.
    """
    check_lookup("quantize", x, codebook)
    if on_triton(x) and x.numel():
        from kernels.quantize_triton import Quantize

        return Quantization(*Quantize.apply(x, codebook.detach()))
    return quantize_torch(x, codebook)


def quantize_torch(x: Tensor, codebook: Tensor) -> Quantization:
    """The definition of `quantize` in plain torch."""
    groups, codes = codebook.shape[:2]
    group, book = torch.arange(groups, device=x.device), codebook.detach()
    found = nearest_code_torch(x.detach(), book)
    near = book[group, found]
    commitment = (x.float() - near.float()).square().mean()
    counts = torch.bincount((found + codes * group).flatten(), minlength=groups * codes).view(groups, codes)
    return Quantization(found, x + (near - x).detach(), commitment, counts)
