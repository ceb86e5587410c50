"""OccSora's codebook (equation 1), learned by gradient descent."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kernels import nearest_code


class Quantized(NamedTuple):
    """Outcome of quantising latents (B, C, t, h, w).

    Attributes:
        latents: what the decoder reads, behind the second 1x1 convolution, (B, C, t, h, w); the transformer diffuses these.
        codes: code ids int64 (B, t, h, w).
        loss: mean squared distance between vectors and codes, once for either side's gradient: a scalar.
        vectors: what was compared with the codes, before the straight-through step, (B, C, t, h, w).
    """

    latents: Tensor
    codes: Tensor
    loss: Tensor
    vectors: Tensor


class Codebook(nn.Module):
    """1x1 convolution, nearest of K codes in Euclidean distance, 1x1 convolution."""

    def __init__(self, channels: int, num_codes: int) -> None:
        super().__init__()
        self.enter = nn.Conv3d(channels, channels, 1)
        self.codes = nn.Parameter(torch.empty(num_codes, channels).uniform_(-1 / num_codes, 1 / num_codes))
        self.leave = nn.Conv3d(channels, channels, 1)

    def forward(self, latents: Tensor) -> Quantized:
        """Snap latents (B, C, t, h, w); gradients pass straight through the choice of the code."""
        vectors = self.enter(latents)
        rows = vectors.movedim(1, -1)
        codes = nearest_code(rows.reshape(-1, 1, rows.shape[-1]), self.codes.unsqueeze(0)).view(rows.shape[:-1])
        near = self.codes[codes].movedim(-1, 1)
        loss = (near.detach() - vectors).square().mean() + (near - vectors.detach()).square().mean()
        return Quantized(self.leave(vectors + (near - vectors).detach()), codes, loss, vectors)

    def lookup(self, codes: Tensor) -> Tensor:
        """What the decoder reads for code ids (B, t, h, w): (B, C, t, h, w)."""
        return self.leave(self.codes[codes.long()].movedim(-1, 1))
