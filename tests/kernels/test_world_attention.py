"""Attention over past frames: right forward and backward, blind to what may not be seen, and what the transformer computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import models.transformer
from kernels import world_attention
from kernels.world_attention import _WorldAttention, world_attention_torch
from models.rotary import phases
from models.transformer import Context, KeyValues, TransformerConfig, Unrotated, WorldTransformer
from scenes.grid import MINI

Attention = Callable[..., Tensor]
NAMES = ("query", "key", "value", "past_key", "past_value", "query_weight", "key_weight")  # what gets gradients
PAST_KEY, PAST_VALUE, VALID = 3, 4, 9  # places among the arguments


@dataclass(frozen=True)
class Shape:
    """Sequences, new and past frames, tokens, heads, channels, window, and the first past frame that is seen."""

    batch: int
    frames: int
    past: int
    tokens: int
    heads: int
    channels: int
    window: int
    first: int


SLIDING, CACHED = Shape(2, 2, 2, 21, 1, 16, 2, -2), Shape(1, 1, 3, 70, 1, 32, 2, 1)


def make(shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Any]:
    """Random arguments: queries, keys and values side by side, the past one layer of a cache, bfloat16 with 16-bit tables."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    def turns(*size: int) -> Tensor:
        angle = 6 * normal(*size, shape.channels // 2)
        table = torch.stack((angle.cos(), angle.sin()), dim=-1).flatten(-2)
        return table.half() if dtype == torch.bfloat16 else table

    inner = (shape.tokens, shape.heads, shape.channels)
    new = normal(shape.batch, shape.frames, shape.tokens, 3, *inner[1:]).to(dtype).unbind(3)
    past = normal(2, shape.batch, shape.past, 3, *inner).to(dtype)[:, :, :, 1].unbind(0)
    weights = (1 + 0.3 * normal(shape.channels), 1 + 0.3 * normal(shape.channels))
    tables = (turns(shape.tokens), turns(shape.batch, shape.frames, shape.window, shape.tokens))
    seen = torch.rand(shape.batch, shape.frames, shape.window, generator=generator) > 0.3
    return [*new, *past, *weights, *tables, seen, shape.first]


def wide(arguments: list[Any]) -> list[Any]:
    """The same numbers in float64."""
    return [part.double() if torch.is_tensor(part) and part.is_floating_point() else part for part in arguments]


def turned(x: Tensor, table: Tensor, back: bool = False) -> Tensor:
    """x (..., N, H, D) rotated by a table (..., N, D), through complex numbers."""
    phase = torch.view_as_complex(table.float().unflatten(-1, (-1, 2)))
    pairs = torch.view_as_complex(x.float().contiguous().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * (phase.conj() if back else phase).unsqueeze(-2)).flatten(-2).to(x.dtype)


def by_torch(*arguments: Any) -> Tensor:
    """torch's own way in the type of the arguments: normalise, rotate and lay out every window, then its fused attention."""
    query, key, value, past_key, past_value, query_weight, key_weight, own, turns, valid, first = arguments
    query, key = (
        nn.functional.rms_norm(part.float(), part.shape[-1:], weight, 1e-6).to(part.dtype)
        for part, weight in ((query, query_weight), (key, key_weight))
    )
    query, key, value = (turned(part, own) for part in (query, key, value))
    results = []
    for frame in range(query.shape[1]):
        place = first + frame + torch.arange(valid.shape[-1])
        seen = valid[:, frame] & (place >= 0) & (place < past_key.shape[1])
        at = place.clamp(0, past_key.shape[1] - 1)
        keys, values = (turned(part[:, at], turns[:, frame]).flatten(1, 2) for part in (past_key, past_value))
        keys, values = torch.cat((keys, key[:, frame]), 1), torch.cat((values, value[:, frame]), 1)
        mask = nn.functional.pad(seen.repeat_interleave(query.shape[2], dim=1), (0, query.shape[2]), value=True)
        line = (part.transpose(1, 2) for part in (query[:, frame], keys, values))
        attended = nn.functional.scaled_dot_product_attention(*line, attn_mask=mask[:, None, None])
        results.append(turned(attended.transpose(1, 2), own, back=True))
    return torch.stack(results, dim=1)


@pytest.fixture
def kernel(device: str) -> Attention:
    """The Triton path under autograd, from CPU tensors to CPU tensors."""

    def call(*arguments: Any) -> Tensor:
        moved = (part.to(device) if torch.is_tensor(part) else part for part in arguments)
        return _WorldAttention.apply(*moved, 1e-6).cpu()

    return call


def with_gradients(call: Attention, arguments: list[Any], slope: Tensor) -> tuple[Tensor, ...]:
    """The result, and the gradients of its product with `slope`."""
    leaves = [part.detach().requires_grad_() for part in arguments[: len(NAMES)]]
    result = call(*leaves, *arguments[len(NAMES) :])
    return result.detach(), *torch.autograd.grad(result, leaves, slope.to(result.dtype))


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [SLIDING, CACHED])
@pytest.mark.usefixtures("poisoned_memory", "rounds_to_nearest")
def test_error_at_most_twice_that_of_torch(kernel: Attention, shape: Shape, dtype: torch.dtype) -> None:
    arguments = make(shape, dtype)
    slope = torch.randn(arguments[0].shape, generator=torch.Generator().manual_seed(9)).to(dtype)
    exact = with_gradients(world_attention_torch, wide(arguments), slope)
    ours, torchs = with_gradients(kernel, arguments, slope), with_gradients(by_torch, arguments, slope)
    for name, true, found, other in zip(("result", *NAMES), exact, ours, torchs, strict=True):
        assert found.shape == true.shape, name
        assert found.dtype == other.dtype, name
        assert error(found, true) <= 2 * error(other, true) + 1e-6, name


@given(
    st.builds(
        Shape,
        *(st.integers(1, 3) for _ in range(3)),
        st.integers(1, 5),
        st.integers(1, 2),
        st.just(4),
        st.integers(1, 3),
        st.integers(-4, 2),
    ),
    st.integers(0, 1000),
)
@settings(max_examples=20)
def test_definition_is_attention_over_rotated_windows(shape: Shape, seed: int) -> None:
    arguments = make(shape, seed=seed)
    torch.testing.assert_close(world_attention(*arguments), by_torch(*arguments), atol=2e-5, rtol=1e-4)


@pytest.mark.usefixtures("poisoned_memory")
def test_histories_of_any_length_and_what_is_hidden_is_not_read(kernel: Attention) -> None:
    arguments = make(Shape(4, 1, 3, 9, 1, 16, 3, 0))
    arguments[VALID] = torch.tensor([[[0, 0, 0]], [[0, 0, 1]], [[1, 0, 1]], [[1, 1, 1]]], dtype=torch.bool)
    expected = world_attention_torch(*arguments)
    alone = [part[:1] if index < PAST_KEY else part for index, part in enumerate(arguments)]
    alone[PAST_KEY], alone[PAST_VALUE], alone[8] = arguments[3][1:2], arguments[4][1:2], arguments[8][1:2]
    alone[VALID] = arguments[VALID][:1]
    torch.testing.assert_close(world_attention_torch(*alone), expected[:1])
    for index in (PAST_KEY, PAST_VALUE):
        arguments[index] = arguments[index].masked_fill(~arguments[VALID][:, 0, :, None, None, None], torch.nan)
    for call in (world_attention_torch, kernel):
        found = with_gradients(call, arguments, torch.ones_like(expected))
        torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)
        assert all(part.isfinite().all() for part in found)
        assert float(found[1 + PAST_KEY][2, 1].abs().max()) == 0
        assert float(found[1 + PAST_VALUE][2, 2].abs().min()) > 0


def test_one_token_and_a_past_of_another_type(kernel: Attention) -> None:
    arguments = make(Shape(2, 1, 1, 1, 2, 16, 1, 0), torch.bfloat16)
    arguments[VALID].fill_(True)
    for index in (PAST_KEY, PAST_VALUE):
        arguments[index] = arguments[index].float()
    found = with_gradients(kernel, arguments, torch.ones_like(arguments[0]))
    exact = with_gradients(world_attention_torch, wide(arguments), torch.ones_like(arguments[0]))
    assert found[1 + PAST_KEY].dtype == torch.float32
    assert error(found[0], exact[0]) < 0.01
    assert error(found[1 + PAST_VALUE], exact[1 + PAST_VALUE]) < 0.01


def test_no_worlds(kernel: Attention) -> None:
    arguments = make(Shape(0, 2, 2, 5, 1, 16, 2, -2))
    result, *gradients = with_gradients(kernel, arguments, torch.ones_like(arguments[0]))
    assert result.shape == (0, 2, 5, 1, 16)
    assert float(gradients[-1].abs().sum()) == 0


@pytest.fixture
def transformer() -> WorldTransformer:
    """Two small blocks over 3 x 3 tokens whose weights are not zero."""
    torch.manual_seed(0)
    model = WorldTransformer(MINI, (3, 3), 6, 5, TransformerConfig(width=32, depth=2, head_dim=16, window=2))
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1 and len(parameter) == 16), std=0.2)
    return model


def path(sequences: int, frames: int) -> Tensor:
    """World poses of cars that drive on and turn, float64 (B, S, 3)."""
    steps = torch.tensor([2.0, 0.3, 0.1], dtype=torch.float64) * torch.arange(1, sequences + 1)[:, None, None]
    return steps.expand(-1, frames, -1).cumsum(1)


def test_equals_the_attention_of_a_block(
    kernel: Attention, transformer: WorldTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.transformer, "world_attention", kernel)
    block, sequences, frames = next(iter(transformer.blocks)), 2, 2
    window = transformer.window(path(sequences, 2 + frames), torch.tensor([[[0, 0], [0, 1]]]).bool().expand(2, -1, -1), frames)
    x, modulation = torch.randn(sequences * frames, 9, 32), torch.randn(sequences * frames, 6, 32)
    raw, own = block.project(x, modulation, True), phases(transformer.places, torch.zeros(3), transformer.frequency)
    q, k, v = block.project(x, modulation, False)
    keys, values = (part.unflatten(0, (sequences, frames)) for part in (k, v))
    rotated = transformer._rotate(transformer._slide(keys), transformer._slide(values), window)
    expected = block(x, modulation, (q, k, v), own, rotated, window)
    found = block(x, modulation, raw, own, Unrotated(keys, values, -2, frames), window)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_the_transformer_computes_the_same_through_it(transformer: WorldTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences, a cache and noisy frames with the past unrotated, against the path that rotates it first."""
    valid = torch.tensor([[[0, 0], [0, 1], [1, 1]], [[0, 0], [0, 0], [1, 0]]]).bool()
    inputs, condition, poses = torch.randn(2, 3, 9, 6), torch.randn(2, 3, 32), path(2, 5)

    def run() -> list[Tensor]:
        window = transformer.window(poses, valid, 3)
        written, contexts = transformer.write(inputs, condition, window)
        noisy = transformer.denoise(1 - inputs, condition, contexts, window)
        part = [past.first(3) for past in contexts]
        fewer = transformer.denoise(inputs[:1], condition[:1], part, window.first(1))
        frame = transformer.window(poses[:, 2:], valid[:, 2:], 1)
        past = transformer.context(KeyValues(written.keys[:, :2], written.values[:, :2]), frame)
        again, _ = transformer.write(inputs[:, 2:], condition[:, 2:], frame, past)
        return [*written, noisy, fewer, *again, *torch.autograd.grad(noisy.sum() + again.keys.sum(), transformer.parameters())]

    expected = run()
    assert isinstance(
        transformer.context(
            KeyValues(*(torch.zeros(1, 2, 2, 9, 32),) * 2), transformer.window(poses[:1, :3], valid[:1, :1], 1)
        )[0],
        Context,
    )
    monkeypatch.setattr(models.transformer, "has_kernel", lambda tensor, head_dim: True)
    for found, wanted in zip(run(), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_arguments_that_do_not_fit() -> None:
    arguments = make(Shape(1, 2, 2, 3, 1, 4, 2, -2))
    for index, part, words in (
        (0, torch.zeros(2, 3, 1, 4), r"query must be \(B, S, N, H, D\)"),
        (0, arguments[0].double(), "query must be float32 or bfloat16"),
        (1, arguments[1].bfloat16(), "key must be float32"),
        (PAST_KEY, arguments[PAST_KEY][:, :0], "T and W positive"),
        (PAST_VALUE, arguments[PAST_VALUE][:, :1], r"past_value must be .* \(1, 2, 3, 1, 4\)"),
        (7, arguments[7].bfloat16(), "own must be float32 or float16"),
        (8, arguments[8][:, :1], "turns must be"),
        (VALID, arguments[VALID].int(), "valid must be bool"),
    ):
        with pytest.raises(ValueError, match=words):
            world_attention(*arguments[:index], part, *arguments[index + 1 :])
