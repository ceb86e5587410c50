"""Product quantisation: a latent is split into G groups and each is snapped to the nearest code of its own codebook."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kernels import nearest_code, quantize


class Quantized(NamedTuple):
    """Outcome of quantising latents (..., G * D).

    Attributes:
        latents: code vectors (..., G * D), with the gradient passed straight through.
        codes: code ids int64 (..., G).
        commitment: mean squared distance of the latents from their codes, a scalar that pulls the encoder to the codes.
        counts: how many latents fell to each code, int64 (G, K), for `ProductQuantizer.update`.
    """

    latents: Tensor
    codes: Tensor
    commitment: Tensor
    counts: Tensor


class ProductQuantizer(nn.Module):
    """G codebooks of K codes with D channels, learned as moving averages of the latents that fall to them.

    A code that hardly any latent falls to is dead; `update` moves dead codes onto latents of the batch, so that they
    compete again.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, groups: int, num_codes: int, code_dim: int, decay: float = 0.98, dead_below: float = 0.05) -> None:
        super().__init__()
        self.groups, self.num_codes, self.code_dim = groups, num_codes, code_dim
        self.decay, self.dead_below = decay, dead_below
        generator = torch.Generator().manual_seed(0)
        codebook = torch.randn(groups, num_codes, code_dim, generator=generator)
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(groups, num_codes))
        self.register_buffer("sums", codebook.clone())

    def codes(self, latents: Tensor) -> Tensor:
        """Nearest code ids int64 (..., G) of latents (..., G * D)."""
        rows = latents.reshape(-1, self.groups, self.code_dim)
        return nearest_code(rows, self.codebook).long().reshape(*latents.shape[:-1], self.groups)

    def lookup(self, codes: Tensor) -> Tensor:
        """Code vectors (..., G * D) of code ids int64 (..., G)."""
        group = torch.arange(self.groups, device=codes.device)
        return self.codebook[group, codes].flatten(-2)

    def forward(self, latents: Tensor) -> Quantized:
        """Snap latents (..., G * D)."""
        found = quantize(latents.reshape(-1, self.groups, self.code_dim), self.codebook)
        codes = found.codes.reshape(*latents.shape[:-1], self.groups)
        return Quantized(found.quantized.reshape(latents.shape), codes, found.commitment, found.counts)

    @torch.no_grad()
    def update(self, latents: Tensor, codes: Tensor, generator: torch.Generator, counts: Tensor | None = None) -> Tensor:
        """Move the codes towards the means of their latents and revive dead ones; returns how many codes were dead.

        latents (..., G * D) and their codes (..., G) come from one batch, and so do counts (G, K), which are counted here where
        they are not given; with several processes the sums are added over all.
        """
        rows = latents.detach().reshape(-1, self.groups, self.code_dim).transpose(0, 1).float()
        index = codes.reshape(-1, self.groups).T
        if counts is None:
            counts = torch.zeros_like(self.counts).scatter_add_(1, index, torch.ones_like(index, dtype=torch.float32))
        counts = counts.to(self.counts)
        sums = torch.zeros_like(self.sums).scatter_add_(1, index.unsqueeze(-1).expand_as(rows), rows)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        # A code is dead when it gets less than a small share of what it would get if all codes were used alike.
        dead = self.counts < self.dead_below * self.counts.mean(1, keepdim=True)
        pick = torch.randint(rows.shape[1], dead.shape, generator=generator).to(rows.device)
        fresh = rows.gather(1, pick.unsqueeze(-1).expand(-1, -1, self.code_dim))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(fresh, src=0)
        revived = self.counts.mean(1, keepdim=True).expand_as(self.counts)
        self.sums.copy_(torch.where(dead.unsqueeze(-1), fresh * revived.unsqueeze(-1), self.sums))
        self.counts.copy_(torch.where(dead, revived, self.counts))
        self.codebook.copy_(self.sums / self.counts.clamp(min=1e-6).unsqueeze(-1))
        return dead.sum()
