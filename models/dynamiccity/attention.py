"""Attention of very small heads over long sequences, on a CPU: bound by exponentials, so each is paid once and in cache.

With eight channels a head, products cost less than the softmax between them. So scores of some queries against all keys are
made transposed, (keys, queries), as one wide product, and in powers of two, which torch computes several times faster than exp.
Sums come out of the product with the values, to which a row of ones is added. Nothing is subtracted from the scores first: that
is right while no score can overflow, which is looked at beforehand; otherwise torch's attention is called.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

SHORT = 512  # with 257 keys torch's attention is as fast, and with 65 three times as fast
LARGEST = 60.0  # scores in powers of two that are safe: with 2^60 for 2^20 keys, sums and products stay far from 2^127
_BLOCK = 1 << 18  # scores held at a time: a MiB, which a core's own cache holds


def small_head_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T / sqrt(D)) value: (S, H, M, D) of query (S, H, M, D), key and value (S, H, N, D); differentiable."""
    many = key.shape[-2] >= SHORT and query.shape[-2] >= SHORT
    if many and query.device.type == "cpu" and query.dtype == torch.float32 and _largest_score(query, key) < LARGEST:
        sequences = (part.flatten(0, 1) for part in (query, key, value))
        return _BlockwiseAttention.apply(*sequences).unflatten(0, query.shape[:2])
    return scaled_dot_product_attention(query, key, value)


def _largest_score(query: Tensor, key: Tensor) -> float:
    """A bound of the scores in powers of two: lengths of the longest query and the longest key of any head."""
    with torch.no_grad():
        longest = query.square().sum(-1).amax().sqrt() * key.square().sum(-1).amax().sqrt()
        return float(longest) / math.sqrt(query.shape[-1]) / math.log(2)


def _with_ones(x: Tensor) -> Tensor:
    """Rows (N, D) and a column of ones: (N, D + 1)."""
    return torch.cat((x, x.new_ones(len(x), 1)), dim=1)


def _queries_at_a_time(keys: int) -> int:
    return max(16, _BLOCK // keys // 16 * 16)  # whole vectors: products of 31 columns take twice as long as of 32


class _BlockwiseAttention(torch.autograd.Function):
    """Attention of (S, M, D), (S, N, D), (S, N, D), some queries at a time; scores are made again on the way back."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        sequences, count, dim = query.shape
        step = _queries_at_a_time(key.shape[1])
        turned, held = query.new_empty(sequences, dim + 1, count), query.new_empty(step, key.shape[1])
        scaled = (query * (1 / math.sqrt(dim) / math.log(2))).transpose(1, 2).contiguous()
        for number in range(sequences):
            keys, values = key[number].contiguous(), _with_ones(value[number]).T.contiguous()
            for start in range(0, count, step):
                queries = scaled[number, :, start : start + step]
                scores = torch.mm(keys, queries, out=held[: queries.shape[1]].view(len(keys), -1)).exp2_()
                turned[number, :, start : start + step] = values @ scores
        total = turned[:, dim:]
        result = (turned[:, :dim] / total).transpose(1, 2)
        ctx.save_for_backward(query, key, value, result, total)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, result, total = ctx.saved_tensors
        (gradient,) = gradients
        _, count, dim = query.shape
        step, scale = _queries_at_a_time(key.shape[1]), 1 / math.sqrt(dim)
        # With one more row each, two products give probabilities and what the softmax takes from their gradient.
        scaled = torch.cat((query.transpose(1, 2) * (scale / math.log(2)), -total.log2()), dim=1)
        passed = torch.cat((gradient, -(gradient * result).sum(-1, keepdim=True)), dim=2).transpose(1, 2)
        found = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for number in range(len(query)):
            keys, values = _with_ones(key[number]), _with_ones(value[number])
            to_key, to_value = torch.zeros_like(key[number]), torch.zeros_like(value[number])
            for start in range(0, count, step):
                part = slice(start, start + step)
                probability = keys @ scaled[number, :, part]
                torch.exp2(probability, out=probability)
                to_value.addmm_(probability, gradient[number, part])
                to_score = (values @ passed[number, :, part]).mul_(probability)
                to_key.addmm_(to_score, query[number, part], alpha=scale)
                found[0][number, part] = (keys[:, :dim].T @ to_score).T.mul_(scale)
            found[1][number], found[2][number] = to_key, to_value
        return found
