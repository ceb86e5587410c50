"""The widened half of a ConvNeXt block against float64, on both paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from kernels import feed_forward
from kernels.feed_forward import feed_forward_torch

Way = Callable[..., Tensor]
NAMES = ("x", "y", "weight", "bias", "back", "back bias")
SHAPES = [(19, 40, 70), (70, 96, 192), (1, 1, 1), (5, 160, 320)]  # M, C, H


def plain(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, back: Tensor, back_bias: Tensor) -> Tensor:
    """What a block does, in torch's own operations and in the type of the arguments."""
    return x + linear(gelu(linear(y, weight, bias), approximate="tanh"), back, back_bias)


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the two paths, with the arguments of `plain`."""

    def definition(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, back: Tensor, back_bias: Tensor) -> Tensor:
        return feed_forward_torch(x, y, (weight, bias), (back, back_bias))

    if request.param == "torch":
        return definition
    pytest.importorskip("triton")
    from kernels.feed_forward_triton import FeedForward

    return FeedForward.apply


def arguments(shape: tuple[int, int, int], device: str = "cpu", seed: int = 0) -> list[Tensor]:
    """Arguments of `plain` that bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    rows, channels, hidden = shape
    sizes = [(rows, channels), (rows, channels), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    parts = [torch.randn(size, generator=generator) for size in sizes]
    parts[2], parts[4] = parts[2] / channels**0.5, parts[4] / hidden**0.5
    return [part.bfloat16().float().to(device) for part in parts]


def passes(way: Way, given: list[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The result, and gradients of all arguments, as float64, of one forward and one backward pass."""
    leaves = [part.to(dtype, copy=True).requires_grad_() for part in given]
    result = way(*leaves)
    result.backward(torch.randn(result.shape, generator=torch.Generator().manual_seed(7)).bfloat16().to(result))
    found = {name: leaf.grad for name, leaf in zip(NAMES, leaves, strict=True) if leaf.grad is not None}
    return {name: value.double() for name, value in {"result": result.detach(), **found}.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("poisoned_memory", "rounds_to_nearest")
def test_error_at_most_twice_that_of_torch(way: Way, device: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    given = arguments(shape, device)
    exact = passes(plain, given, torch.float64)
    ours, torchs = passes(way, given, dtype), passes(plain, given, dtype)
    assert ours.keys() == exact.keys()
    for name, value in exact.items():
        assert (ours[name] - value).norm() <= 2 * (torchs[name] - value).norm() + 1e-6 * value.norm(), name


@given(st.lists(st.integers(1, 5), max_size=3), st.integers(1, 24), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=25)
def test_public_function_is_what_a_block_did(lead: list[int], channels: int, hidden: int, seed: int) -> None:
    x, y, *parts = arguments((torch.Size(lead).numel(), channels, hidden), seed=seed)
    x, y = x.view(*lead, channels), y.view(*lead, channels)
    widen, narrow = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
    for own, part in zip((*widen.parameters(), *narrow.parameters()), parts, strict=True):
        own.data.copy_(part)
    expected = x + narrow(gelu(widen(y), approximate="tanh"))
    found = feed_forward(x, y, (parts[0], parts[1]), (parts[2], parts[3]))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("rounds_to_nearest")
def test_types_of_mixed_precision_and_strides(way: Way, device: str) -> None:
    x, y, *parts = arguments((12, 40, 70), device)
    expected = plain(x, y, *parts).view(3, 4, 40)
    turned = [part.view(3, 4, 40).transpose(0, 2).contiguous().transpose(0, 2) for part in (x, y)]
    assert not turned[0].is_contiguous()
    for stream, other in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.float32)):
        found = way(turned[0].to(stream), turned[1].to(other), *parts)
        assert found.dtype == stream
        torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # of the interpreter, where GELU is 0
@pytest.mark.parametrize("size", [1e2, 1e6, 1e12])
def test_large_numbers_stay_finite(way: Way, device: str, size: float) -> None:
    x, y, *parts = arguments((9, 24, 48), device)
    found = way(x, size * y, *parts)
    assert found.isfinite().all()
    torch.testing.assert_close(
        found.double(), plain(*(part.double() for part in (x, size * y, *parts))), rtol=1e-4, atol=1e-5 * size
    )


def test_autocast_does_not_touch_it() -> None:
    x, y, *parts = arguments((6, 24, 48))
    layers = (parts[0], parts[1]), (parts[2], parts[3])
    expected = feed_forward(x, y, *layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(feed_forward(x, y, *layers), expected)


@pytest.mark.parametrize("wanted", [0, 1, 4])
def test_what_is_frozen_gets_no_gradient(way: Way, device: str, wanted: int) -> None:
    leaves = arguments((5, 16, 32), device)
    complete = passes(way, leaves, torch.float32)
    leaves[wanted].requires_grad_()
    result = way(*leaves)
    result.backward(torch.randn(result.shape, generator=torch.Generator().manual_seed(7)).bfloat16().to(result))
    torch.testing.assert_close(leaves[wanted].grad.double(), complete[NAMES[wanted]], rtol=1e-5, atol=1e-5)
    assert all(leaf.grad is None for place, leaf in enumerate(leaves) if place != wanted)


def test_no_rows(way: Way, device: str) -> None:
    found = passes(way, arguments((0, 8, 16), device), torch.float32)
    assert found["result"].shape == (0, 8)
    assert not found["weight"].any()


def test_arguments_that_do_not_fit() -> None:
    x, y, weight, bias, back, back_bias = arguments((6, 8, 16))
    with pytest.raises(ValueError, match=r"expected x \(..., C\) with 1 to 256 channels"):
        feed_forward(torch.zeros(2, 300), torch.zeros(2, 300), (weight, bias), (back, back_bias))
    with pytest.raises(ValueError, match=r"y must be \(6, 8\)"):
        feed_forward(x, y[1:], (weight, bias), (back, back_bias))
    with pytest.raises(ValueError, match=r"widen \(H, C\) \(H,\) and narrow \(C, H\) \(C,\) must fit"):
        feed_forward(x, y, (weight, bias), (back.T, back_bias))
    with pytest.raises(ValueError, match="narrow's bias must be float32 or bfloat16"):
        feed_forward(x, y, (weight, bias), (back, back_bias.double()))
