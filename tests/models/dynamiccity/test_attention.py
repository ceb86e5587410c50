"""Attention of small heads against torch's own, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from models.dynamiccity import attention
from models.dynamiccity.attention import small_head_attention


@pytest.fixture(autouse=True)
def long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences of the tests count as long."""
    monkeypatch.setattr(attention, "SHORT", 32)


def make(sequences: int, heads: int, count: int, dim: int, size: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (sequences, heads, count, dim)
    return [(size * torch.randn(shape, generator=generator)).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("shape", [(2, 2, 65, 8), (1, 1, 300, 4), (1, 2, 127, 8), (3, 2, 17, 8)])
def test_values_and_gradients(shape: tuple[int, int, int, int]) -> None:
    """Within what float32 leaves of the same in float64, for counts that blocks do not divide."""
    query, key, value = make(*shape)
    passed = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    exact = [part.detach().double().requires_grad_() for part in (query, key, value)]
    found, expected = small_head_attention(query, key, value), scaled_dot_product_attention(*exact)
    torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=1e-5)
    ours = torch.autograd.grad(found, (query, key, value), passed)
    for one, other in zip(ours, torch.autograd.grad(expected, exact, passed.double()), strict=True):
        torch.testing.assert_close(one.double(), other, atol=5e-6, rtol=1e-4)


def test_blocks_give_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many queries are taken at a time changes rounding at most."""
    query, key, value = make(1, 2, 200, 8)
    whole = small_head_attention(query, key, value)
    monkeypatch.setattr(attention, "_BLOCK", 1)
    torch.testing.assert_close(small_head_attention(query, key, value), whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [6.0, 30.0])
def test_large_scores_stay_finite(size: float) -> None:
    """Scores that would overflow without a maximum taken from them go another way."""
    query, key, value = make(1, 1, 100, 8, size)
    found = small_head_attention(query, key, value)
    expected = scaled_dot_product_attention(*(part.double() for part in (query, key, value)))
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-3)


def test_one_query_is_a_row_of_many() -> None:
    query, key, value = make(2, 2, 80, 8)
    last = small_head_attention(query[:, :, -1:], key, value)
    torch.testing.assert_close(last, small_head_attention(query, key, value)[:, :, -1:], atol=1e-6, rtol=1e-5)
