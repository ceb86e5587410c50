"""The diffusion transformer's parts: as many weights as published, adaLN-Zero, and independence of order and neighbours."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.dit import DiT, DiTBlock, DiTConfig, FinalLayer, TimeStepEmbedding, waves


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def awake(module: nn.Module) -> nn.Module:
    """The module with no weight at zero any more."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module


@pytest.mark.parametrize(("width", "heads"), [(256, 16), (256, 4), (384, 8)])
def test_as_many_weights_as_the_reference(width: int, heads: int) -> None:
    """12 C^2 of attention and feed-forward and 6 C^2 of modulation, with biases; the number of heads changes nothing."""
    assert count(DiTBlock(width, heads)) == 18 * width**2 + 15 * width
    assert count(FinalLayer(width, 32)) == 2 * width**2 + 2 * width + 32 * (width + 1)
    assert count(TimeStepEmbedding(width)) == 257 * width + width * (width + 1)


def test_the_paper_s_transformer_has_its_published_size() -> None:
    model = DiT(DiTConfig(), outputs=256)
    assert (count(model.blocks), count(model.final)) == (33_137_664, 197_376)


def test_fresh_blocks_are_the_identity_and_the_output_is_zero() -> None:
    x, condition = torch.randn(2, 5, 32), torch.randn(2, 32)
    model = DiT(DiTConfig(width=32, depth=2, heads=4), outputs=6)
    for block in model.blocks:
        torch.testing.assert_close(block(x, condition), x)
    assert torch.equal(model(x, condition), torch.zeros(2, 5, 6))


def reference(block: DiTBlock, x: Tensor, condition: Tensor) -> Tensor:
    """The block as its paper draws it, with attention written out."""
    parts = (block.modulation.weight @ nn.functional.silu(condition) + block.modulation.bias).chunk(6)
    norm = nn.functional.layer_norm
    hidden = norm(x, x.shape[-1:], eps=1e-6) * (1 + parts[1]) + parts[0]
    size = x.shape[-1] // block.heads
    heads = []
    query, key, value = block.query_key_value(hidden).chunk(3, dim=-1)
    for head in range(block.heads):
        q, k, v = (part[:, head * size : (head + 1) * size] for part in (query, key, value))
        heads.append((q @ k.T / math.sqrt(size)).softmax(-1) @ v)
    x = x + parts[2] * block.out(torch.cat(heads, dim=-1))
    hidden = norm(x, x.shape[-1:], eps=1e-6) * (1 + parts[4]) + parts[3]
    return x + parts[5] * block.narrow(nn.functional.gelu(block.widen(hidden), approximate="tanh"))


@pytest.mark.parametrize("heads", [1, 2, 3, 12])
def test_block_is_that_of_the_paper(heads: int) -> None:
    block = awake(DiTBlock(24, heads, 2))
    x, condition = torch.randn(3, 7, 24), torch.randn(3, 24)
    found = block(x, condition)
    for sample in range(3):
        torch.testing.assert_close(found[sample], reference(block, x[sample], condition[sample]), atol=1e-5, rtol=1e-5)


def test_tokens_have_no_order_of_their_own() -> None:
    """Where a token lies is told by its content alone: a permutation goes through."""
    model = awake(DiT(DiTConfig(width=32, depth=2, heads=2), outputs=3))
    x, condition, order = torch.randn(2, 9, 32), torch.randn(2, 32), torch.randperm(9)
    torch.testing.assert_close(model(x[:, order], condition), model(x, condition)[:, order], atol=1e-5, rtol=1e-5)


def test_every_parameter_learns() -> None:
    """From adaLN-Zero's start the gradient reaches the output first; awake, it reaches all."""
    model = awake(DiT(DiTConfig(width=16, depth=2, heads=2), outputs=3))
    x = torch.randn(2, 4, 16, requires_grad=True)
    embedding = awake(TimeStepEmbedding(16))
    model(x, embedding(torch.tensor([3, 700]))).square().sum().backward()
    for part in (model, embedding):
        assert all(float(parameter.grad.abs().sum()) > 0 for parameter in part.parameters())
    assert float(x.grad.abs().sum()) > 0


def test_waves_tell_any_two_steps_apart() -> None:
    """The formula of the paper, even for steps between the whole ones, and no two of 1000 steps alike."""
    found = waves(torch.tensor([0.0, 2.5]), 8)
    for index, place in enumerate((0.0, 2.5)):
        angles = [place * 10_000 ** (-i / 4) for i in range(4)]
        expected = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
        torch.testing.assert_close(found[index], expected)
    every = waves(torch.arange(1000), 256)
    assert float((torch.cdist(every, every) + 100 * torch.eye(1000)).min()) > 0.1


@pytest.mark.parametrize("wrong", [{"heads": 5}, {"depth": 0}, {"mlp_ratio": 0}])
def test_impossible_shapes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="DiTConfig"):
        DiTConfig(**{"width": 32, "heads": 4, **wrong})
