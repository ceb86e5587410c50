"""Counter-based noise: the published words, the shape of the normal, and independence of everything but the counter."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import philox_normal
from kernels.noise import WORD, philox

# Known answers of philox4x32-10 from the authors' own distribution (Random123, kat_vectors): counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((WORD,) * 4, (WORD,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
INT64 = st.integers(-(2**63), 2**63 - 1)


def worlds(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_published_words(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    found = philox(tuple(map(worlds, counter)), tuple(map(worlds, key)))
    assert tuple(int(word) for word in found) == words


def reference_word(seed: int, step: int, index: int, element: int) -> int:
    """The word of one element in Python's own integers."""
    counter = [element // 4, index, step & WORD, (step >> 32) & WORD]
    key = [seed & WORD, (seed >> 32) & WORD]
    for _ in range(10):
        left, right = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [(right >> 32) ^ counter[1] ^ key[0], right & WORD, (left >> 32) ^ counter[3] ^ key[1], left & WORD]
        key = [(key[0] + 0x9E3779B9) & WORD, (key[1] + 0xBB67AE85) & WORD]
    return counter[element % 4]


@given(INT64, INT64, st.integers(0, WORD), st.integers(0, 70))
@settings(max_examples=60)
def test_every_element_follows_from_its_counter(seed: int, step: int, index: int, element: int) -> None:
    found = philox_normal(worlds(seed), worlds(step), index, (element + 1,))[0, element]
    radial, angular = (reference_word(seed, step, index, element - element % 2 + i) for i in range(2))
    radius, angle = math.sqrt(-2 * math.log((radial + 0.5) / 2**32)), 2 * math.pi * (angular + 0.5) / 2**32
    expected = radius * (math.sin(angle) if element % 2 else math.cos(angle))
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_normal_distribution() -> None:
    sample = philox_normal(torch.arange(64), torch.arange(64) * 7, 3, (4096,)).flatten().double()
    count = len(sample)
    assert abs(sample.mean()) < 4 / math.sqrt(count)
    assert abs(sample.var() - 1) < 4 * math.sqrt(2 / count)
    assert abs((sample**3).mean()) < 4 * math.sqrt(15 / count)
    assert abs((sample**4).mean() - 3) < 4 * math.sqrt(96 / count)
    ordered = sample.sort().values
    cumulative = 0.5 * (1 + torch.erf(ordered / math.sqrt(2)))
    rank = torch.arange(count, dtype=torch.float64)
    kolmogorov = torch.maximum(cumulative - rank / count, (rank + 1) / count - cumulative).max()
    assert kolmogorov * math.sqrt(count) < 1.63  # one sample in a hundred would exceed it by chance


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 64])
def test_neighbouring_elements_are_uncorrelated(lag: int) -> None:
    sample = philox_normal(worlds(5), worlds(0), 0, (1 << 17,))[0].double()
    pairs = len(sample) - lag
    assert abs((sample[lag:] * sample[:-lag]).mean()) < 4 / math.sqrt(pairs)
    assert abs((sample[lag:] ** 2 * sample[:-lag] ** 2).mean() - 1) < 4 * math.sqrt(8 / pairs)


def test_worlds_steps_and_draws_are_uncorrelated() -> None:
    draws = [
        philox_normal(worlds(seed), worlds(step), index, (1 << 14,))[0]
        for seed, step, index in ((0, 0, 0), (1, 0, 0), (1 << 32, 0, 0), (0, 1, 0), (0, 1 << 32, 0), (0, 0, 1), (-1, 0, 0))
    ]
    correlation = torch.corrcoef(torch.stack(draws).double()) - torch.eye(len(draws))
    assert correlation.abs().max() < 4.5 / math.sqrt(1 << 14)


@given(st.lists(st.tuples(INT64, INT64), min_size=1, max_size=6), st.integers(0, WORD), st.integers(0, 5))
@settings(max_examples=30)
def test_a_world_depends_on_its_own_counter_only(pairs: list[tuple[int, int]], index: int, chosen: int) -> None:
    seeds, steps = (worlds(*values) for values in zip(*pairs, strict=True))
    together = philox_normal(seeds, steps, index, (3, 67))
    chosen %= len(pairs)
    alone = philox_normal(seeds[chosen : chosen + 1], steps[chosen : chosen + 1], index, (3, 67))
    assert torch.equal(together[chosen], alone[0])
    assert torch.equal(together.reshape(len(pairs), -1)[:, :50], philox_normal(seeds, steps, index, (50,)))


@pytest.mark.parametrize("shape", [(1,), (4,), (1023,), (1025,), (3, 5, 7), (2048,), (0,)])
@pytest.mark.usefixtures("poisoned_memory")
def test_kernel_gives_the_same_numbers(device: str, shape: tuple[int, ...]) -> None:
    from kernels.noise_triton import philox_normal_triton

    seeds, steps = worlds(0, -5, 2**62 + 12_345), worlds(0, 2**40 + 7, -1)
    for index in (0, 1, WORD):
        found = philox_normal_triton(seeds.to(device), steps.to(device), index, shape).cpu()
        expected = philox_normal(seeds, steps, index, shape)
        assert found.shape == expected.shape == (3, *shape)
        torch.testing.assert_close(found, expected, rtol=4e-7, atol=1e-9)


def test_no_worlds() -> None:
    assert philox_normal(worlds(), worlds(), 0, (2, 3)).shape == (0, 2, 3)


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="seeds must be int64"):
        philox_normal(torch.zeros(2), worlds(0, 0), 0, (4,))
    with pytest.raises(ValueError, match="steps must be int64"):
        philox_normal(worlds(0, 0), torch.zeros(2, 1, dtype=torch.int64), 0, (4,))
    with pytest.raises(ValueError, match="one entry a world"):
        philox_normal(worlds(0, 0), worlds(0), 0, (4,))
    with pytest.raises(ValueError, match="index must be between"):
        philox_normal(worlds(0), worlds(0), -1, (4,))
