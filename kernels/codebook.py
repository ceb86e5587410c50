"""The codebook lookup of product quantisation: for each vector, the nearest code of each group."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import on_triton

MAX_CODES, MAX_CHANNELS = 65_536, 512
_BLOCK = 1 << 20  # scores held at a time, so that they stay in cache
_MIN_ROWS = 64  # vectors scored at a time at the least, so that the matrix product has something to work on
_CANDIDATES = 1 << 20  # numbers held at a time when candidates are compared


def nearest_code(x: Tensor, codebook: Tensor) -> Tensor:
    """The id of the code nearest to each vector in Euclidean distance, int64 (N, G); ties go to the lower id.

    x: vectors (N, G, D), G groups of D <= 512 channels. codebook: (G, K, D), K <= 65536 codes for each group. Both float32
    or bfloat16 on one device, distances are taken in float32; no gradient passes. Neither path ever holds N x K distances.
    A vector that is a code gets that code, or the first that equals it; but on a GPU with D > 16, of codes that lie closer
    together than the rounding of |c|^2 - 2 x.c, either may be found. A vector with NaN or infinity gets some valid id.
    Raises ValueError where the shapes, types or devices do not fit.
    """
    check_lookup("nearest_code", x, codebook)
    x, codebook = x.detach(), codebook.detach()
    if on_triton(x):
        from kernels.codebook_triton import nearest_code_triton

        return nearest_code_triton(x, codebook)
    return nearest_code_torch(x, codebook)


@torch.no_grad()
def nearest_code_torch(x: Tensor, codebook: Tensor) -> Tensor:
    """The definition of `nearest_code` in plain torch: the first code at the least sum of squared differences in float32.

    That sum is evaluated only for candidates, those whose score |c|^2 - 2 x.c (a matrix product, that loses digits) is within
    its rounding error of the best score.
    """
    (count, groups, _), codes = x.shape, codebook.shape[1]
    vectors, book = x.float().transpose(0, 1), codebook.float()
    group_step = min(groups, max(1, _BLOCK // (_MIN_ROWS * codes)))
    row_step = max(_MIN_ROWS, _BLOCK // (group_step * codes))
    found = torch.empty(groups, count, dtype=torch.int64, device=x.device)
    for group in range(0, groups, group_step):
        part = book[group : group + group_step]
        for row in range(0, count, row_step):
            rows = vectors[group : group + group_step, row : row + row_step]
            found[group : group + group_step, row : row + row_step] = _nearest_of_block(rows, part)
    return found.T.contiguous()


def _nearest_of_block(x: Tensor, book: Tensor) -> Tensor:
    """`nearest_code_torch` for vectors (G, N, D) and codes (G, K, D) so few that all their scores (G, N, K) may be held."""
    (groups, count, channels), codes = x.shape, book.shape[1]
    norms = book.square().sum(-1)
    with torch.autocast(x.device.type, enabled=False):
        scores = torch.baddbmm(norms.unsqueeze(1), x, book.transpose(1, 2), alpha=-2)
    # A matrix product on a GPU may be done in TensorFloat-32, which keeps ten bits.
    epsilon = 2.0**-10 if x.is_cuda else torch.finfo(torch.float32).eps
    scale = (x.norm(dim=-1) + norms.amax(-1, keepdim=True).sqrt()).square()
    limit = scores.amin(-1) + 4 * epsilon * (channels + 4) * scale
    candidate = _positions(scores <= limit.unsqueeze(-1))
    target, code = candidate // codes, candidate % codes
    entry = target // count * codes + code
    vectors, entries, step = x.reshape(-1, channels), book.reshape(-1, channels), max(1, _CANDIDATES // channels)
    pairs = zip(target.split(step), entry.split(step), strict=True)
    distance = torch.cat([x.new_empty(0), *((vectors[n] - entries[k]).square().sum(-1) for n, k in pairs)])
    least = x.new_full((groups * count,), torch.inf).scatter_reduce(0, target, distance, "amin")
    first = torch.where(distance == least[target], code, codes)
    found = torch.full_like(least, codes, dtype=torch.int64).scatter_reduce(0, target, first, "amin")
    return found.masked_fill(found == codes, 0).reshape(groups, count)


def _positions(mask: Tensor) -> Tensor:
    """Flat positions of the true entries, int64 (M,); eight are looked at together, since few are true and nonzero is slow."""
    flat = mask.flatten()
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % 8))
    near = (flat.view(torch.int64).nonzero() * 8 + torch.arange(8, device=mask.device)).flatten()
    return near[flat[near]]


def check_lookup(name: str, x: Tensor, codebook: Tensor) -> None:
    """Raise ValueError, in the name of a function, where vectors and codebook do not fit."""
    if x.ndim != 3 or codebook.ndim != 3 or x.shape[1] != codebook.shape[0] or x.shape[2] != codebook.shape[2]:
        shapes = f"{tuple(x.shape)} and {tuple(codebook.shape)}"
        raise ValueError(f"{name}: expected x (N, G, D) and codebook (G, K, D), found {shapes}")
    if not 1 <= codebook.shape[1] <= MAX_CODES or not 1 <= codebook.shape[2] <= MAX_CHANNELS:
        limits = f"1 to {MAX_CODES} codes of 1 to {MAX_CHANNELS} channels"
        raise ValueError(f"{name}: codebook must hold {limits}, found (G, K, D) = {tuple(codebook.shape)}")
    for part, value in (("x", x), ("codebook", codebook)):
        if value.dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"{name}: {part} must be float32 or bfloat16, found {value.dtype}")
    if x.device != codebook.device:
        raise ValueError(f"{name}: x is on {x.device}, codebook on {codebook.device}")
