"""Counter-based noise: normals that are a pure function of (world seed, step, denoising index, element).

The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). There is no state: a
world's noise depends on nothing but its own counter, so batches, forks, replays and CUDA graphs all see the same numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.dispatch import on_triton

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
# The multipliers less 2^32, so that a product with a word fits in a signed int64; `_round` puts the difference back.
_SIGNED_MULTIPLIERS = tuple(multiplier - (1 << 32) for multiplier in MULTIPLIERS)


def philox_normal(seeds: Tensor, steps: Tensor, index: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normals, float32 (B, *shape), that each world draws at its step.

    seeds: int64 (B,), all 64 bits are the key. steps: int64 (B,), the step of each world. index: which draw of the step this
    is, 0 to 2^32 - 1. shape: shape of one world's draw, up to 2^34 elements. Raises ValueError where these do not fit.
    Element e of a world is word e % 4 of the counter (e // 4, index, step low, step high), so a longer draw begins with a
    shorter one. CPU and GPU agree to the last bit but for rare roundings.
    """
    _check(seeds, steps, index)
    if on_triton(seeds):
        from kernels.noise_triton import philox_normal_triton

        return philox_normal_triton(seeds, steps, index, shape)
    return philox_normal_torch(seeds, steps, index, shape)


def philox_normal_torch(seeds: Tensor, steps: Tensor, index: int, shape: tuple[int, ...]) -> Tensor:
    """The definition of `philox_normal` in plain torch, on any device."""
    batch, size = len(seeds), math.prod(shape)
    element = torch.arange((size + 3) // 4, device=seeds.device).expand(batch, -1)
    draw, step = torch.full_like(element, index), steps.unsqueeze(1).expand_as(element)
    words = philox((element, draw, step & WORD, (step >> 32) & WORD), _key(seeds))
    # In float64 and rounded once, so that logarithms and cosines of different devices give the same float32.
    first, second, third, fourth = ((word.to(torch.float64) + 0.5) * 2.0**-32 for word in words)
    normals = (*_box_muller(first, second), *_box_muller(third, fourth))
    return torch.stack(normals, dim=-1).flatten(1)[:, :size].to(torch.float32).reshape(batch, *shape)


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four counter words and two key words give four random words.

    All are int64 tensors that hold 0 to 2^32 - 1 and broadcast against one another.
    """
    for number in range(ROUNDS):
        counter = _round(counter, tuple((word + number * step) & WORD for word, step in zip(key, KEY_STEPS, strict=True)))
    return counter


def _round(counter: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One round: two 32 x 32 bit products, their high halves mixed with the other words and the key."""
    left, right = counter[0] * _SIGNED_MULTIPLIERS[0], counter[2] * _SIGNED_MULTIPLIERS[1]
    high_left, high_right = (left >> 32) + counter[0], (right >> 32) + counter[2]
    return high_right ^ counter[1] ^ key[0], right & WORD, high_left ^ counter[3] ^ key[1], left & WORD


def _key(seeds: Tensor) -> tuple[Tensor, Tensor]:
    """The low and the high word of each seed, int64 (B, 1)."""
    return (seeds & WORD).unsqueeze(1), ((seeds >> 32) & WORD).unsqueeze(1)


def _box_muller(radial: Tensor, angular: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent normals from two uniforms in (0, 1)."""
    radius, angle = radial.log().mul_(-2).sqrt_(), angular * (2 * math.pi)
    return radius * angle.cos(), radius * angle.sin()


def _check(seeds: Tensor, steps: Tensor, index: int) -> None:
    """Raise ValueError where the arguments of `philox_normal` do not fit."""
    for name, value in (("seeds", seeds), ("steps", steps)):
        if value.dtype != torch.int64 or value.ndim != 1:
            raise ValueError(f"philox_normal: {name} must be int64 (B,), found {value.dtype} {tuple(value.shape)}")
    if len(seeds) != len(steps) or seeds.device != steps.device:
        places = f"{len(seeds)} on {seeds.device} and {len(steps)} on {steps.device}"
        raise ValueError(f"philox_normal: seeds and steps must hold one entry a world on one device, found {places}")
    if not 0 <= index <= WORD:
        raise ValueError(f"philox_normal: index must be between 0 and 2^32 - 1, found {index}")
