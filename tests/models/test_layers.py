"""Layers on maps: the ConvNeXt block against the torch layers it is named after."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from models.layers import ConvBlock

KEYS = {f"{layer}.{part}" for layer in ("depthwise", "norm", "widen", "narrow") for part in ("weight", "bias")}


def plain(block: ConvBlock, x: Tensor) -> Tensor:
    """The block by its own layers."""
    y = block.norm(block.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    return x + block.narrow(gelu(block.widen(y), approximate="tanh"))


def test_block_is_its_layers_to_the_bit() -> None:
    torch.manual_seed(0)
    block = ConvBlock(24)
    assert set(block.state_dict()) == KEYS
    found, expected = [], []
    for call, into in ((block, found), (lambda x: plain(block, x), expected)):
        x = torch.randn(2, 7, 6, 24, generator=torch.Generator().manual_seed(1), requires_grad=True)
        out = call(x)
        into.extend((out, *torch.autograd.grad(out.square().sum(), (x, *block.parameters()))))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_multiplies_in_its_type_and_keeps_that_of_the_map(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    block, x = ConvBlock(16), torch.randn(1, 5, 4, 16)
    expected = block(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = block(x.to(dtype))
    assert found.dtype == dtype
    assert not torch.equal(found.float(), expected)
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)
