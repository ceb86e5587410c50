"""Depthwise convolution with normalisation against float64, on both paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import conv2d, layer_norm

from kernels import depthwise_norm
from kernels.depthwise_norm import depthwise_norm_torch

Way = Callable[..., Tensor]
NAMES = ("x", "weight", "bias", "scale", "shift")
SHAPES = [(2, 7, 5, 40), (1, 3, 9, 96), (1, 1, 1, 3), (3, 6, 4, 16)]  # B, H, W, C


def plain(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """What a block does, in torch's own operations and in the type of the arguments."""
    y = conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=2, groups=len(weight)).permute(0, 2, 3, 1)
    return layer_norm(y, y.shape[-1:], scale, shift)


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the two paths, with the arguments of `plain` and the type of the result."""

    def definition(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
        return depthwise_norm_torch(x, (weight, bias), (scale, shift), dtype)

    if request.param == "torch":
        return definition
    pytest.importorskip("triton")
    from kernels.depthwise_norm_triton import DepthwiseNorm

    return DepthwiseNorm.apply


def arguments(shape: tuple[int, int, int, int], device: str = "cpu", seed: int = 0) -> list[Tensor]:
    """Arguments of `plain` that bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    channels = shape[-1]
    sizes = [shape, (channels, 1, 5, 5), *[(channels,)] * 3]
    return [torch.randn(size, generator=generator).bfloat16().float().to(device) for size in sizes]


def passes(way: Way, given: list[Tensor], dtype: torch.dtype, *rest: torch.dtype) -> dict[str, Tensor]:
    """The result, and gradients of all arguments, as float64, of one forward and one backward pass."""
    leaves = [part.to(dtype, copy=True).requires_grad_() for part in given]
    result = way(*leaves, *rest)
    slope = torch.randn(result.shape, generator=torch.Generator().manual_seed(7)).bfloat16()
    result.backward(slope.to(result))
    found = {name: leaf.grad for name, leaf in zip(NAMES, leaves, strict=True) if leaf.grad is not None}
    return {name: value.double() for name, value in {"result": result.detach(), **found}.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("poisoned_memory", "rounds_to_nearest")
def test_error_at_most_twice_that_of_torch(way: Way, device: str, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    given = arguments(shape, device)
    exact = passes(plain, given, torch.float64)
    ours, torchs = passes(way, given, dtype, dtype), passes(plain, given, dtype)
    assert ours.keys() == exact.keys()
    for name, value in exact.items():
        assert (ours[name] - value).norm() <= 2 * (torchs[name] - value).norm() + 1e-6 * value.norm(), name


@given(st.tuples(*(st.integers(1, top) for top in (3, 9, 9, 24))), st.integers(0, 1000))
@settings(max_examples=25)
def test_public_function_is_what_a_block_did(shape: tuple[int, int, int, int], seed: int) -> None:
    x, *parts = arguments(shape, seed=seed)
    channels = shape[-1]
    depthwise, norm = nn.Conv2d(channels, channels, kernel_size=5, padding=2, groups=channels), nn.LayerNorm(channels)
    for own, part in zip((*depthwise.parameters(), *norm.parameters()), parts, strict=True):
        own.data.copy_(part)
    expected = norm(depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    assert torch.equal(depthwise_norm(x, (parts[0], parts[1]), (parts[2], parts[3])), expected)


def test_places_beyond_the_map_are_zero(way: Way, device: str) -> None:
    x, *parts = arguments((2, 6, 4, 16), device)
    wide = torch.zeros(2, 10, 8, 16, device=device)
    wide[:, 2:8, 2:6] = x
    expected = way(wide, *parts, torch.float32)[:, 2:8, 2:6]
    torch.testing.assert_close(way(x, *parts, torch.float32), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("rounds_to_nearest")
def test_types_of_mixed_precision_and_strides(way: Way, device: str) -> None:
    x, *parts = arguments((2, 3, 4, 40), device)
    turned = x.transpose(1, 3).contiguous().transpose(1, 3).bfloat16()
    assert not turned.is_contiguous()
    expected = plain(x, *parts)
    for dtype in (torch.float32, torch.bfloat16):
        found = way(turned, *parts, dtype)
        assert found.dtype == dtype
        tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


def test_autocast_does_not_touch_it() -> None:
    x, weight, bias, scale, shift = arguments((2, 6, 5, 24))
    expected = depthwise_norm(x, (weight, bias), (scale, shift))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(depthwise_norm(x, (weight, bias), (scale, shift)), expected)


def test_what_is_frozen_gets_no_gradient(way: Way, device: str) -> None:
    leaves = arguments((1, 3, 4, 16), device)
    complete = passes(way, leaves, torch.float32, torch.float32)
    leaves[1].requires_grad_()
    result = way(*leaves, torch.float32)
    result.backward(torch.randn(result.shape, generator=torch.Generator().manual_seed(7)).bfloat16().to(result))
    torch.testing.assert_close(leaves[1].grad.double(), complete["weight"])
    assert all(leaf.grad is None for leaf in (leaves[0], *leaves[2:]))


def test_no_maps(way: Way, device: str) -> None:
    found = passes(way, arguments((0, 4, 5, 8), device), torch.float32, torch.float32)
    assert found["result"].shape == (0, 4, 5, 8)
    assert not found["weight"].any()


def test_arguments_that_do_not_fit() -> None:
    x, weight, bias, scale, shift = arguments((2, 3, 4, 8))
    with pytest.raises(ValueError, match=r"expected x \(B, H, W, C\) with 1 to 512 channels"):
        depthwise_norm(x[0], (weight, bias), (scale, shift))
    with pytest.raises(ValueError, match=r"kernel must be \(8, 1, 5, 5\)"):
        depthwise_norm(x, (weight[..., 1:], bias), (scale, shift))
    with pytest.raises(ValueError, match=r"norm's bias must be \(8,\)"):
        depthwise_norm(x, (weight, bias), (scale, shift[1:]))
    with pytest.raises(ValueError, match="norm must be float32 or bfloat16"):
        depthwise_norm(x, (weight, bias), (scale.double(), shift))
