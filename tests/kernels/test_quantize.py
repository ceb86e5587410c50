"""Quantisation in training: codes, straight-through output, commitment, counts and gradients, on both paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import nearest_code, quantize
from kernels.codebook import nearest_code_torch
from kernels.quantize import Quantization, quantize_torch

SHAPES = [(70, 2, 37, 4), (129, 1, 70, 16), (33, 3, 1, 1), (130, 2, 65, 17), (5, 1, 40, 150)]  # N, G, K, D


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Callable[[Tensor, Tensor], Quantization]:
    """Each of the two paths."""
    if request.param == "torch":
        return quantize_torch
    pytest.importorskip("triton")
    from kernels.quantize_triton import Quantize

    return lambda x, codebook: Quantization(*Quantize.apply(x, codebook))


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gather(codebook: Tensor, codes: Tensor) -> Tensor:
    """Code vectors (N, G, D) of ids (N, G)."""
    return torch.stack([codebook[group, codes[:, group]] for group in range(len(codebook))], dim=1)


@given(st.integers(1, 60), st.integers(1, 3), st.integers(1, 40), st.integers(1, 9), st.integers(0, 1000))
@settings(max_examples=40)
def test_definition_is_the_steps_one_by_one(count: int, groups: int, codes: int, channels: int, seed: int) -> None:
    x, codebook = normals(count, groups, channels, seed=seed).requires_grad_(), normals(groups, codes, channels, seed=seed + 1)
    found = quantize(x, codebook)
    slope = normals(count, groups, channels, seed=seed + 2)
    ((found.quantized * slope).sum() + 3 * found.commitment).backward()
    y = x.detach().clone().requires_grad_()
    near = gather(codebook, nearest_code(y, codebook))
    passed, commitment = y + (near - y).detach(), (y - near).square().mean()
    ((passed * slope).sum() + 3 * commitment).backward()
    assert torch.equal(found.codes, nearest_code(y, codebook))
    assert torch.equal(found.quantized, passed)
    assert torch.equal(found.commitment, commitment)
    assert torch.equal(x.grad, y.grad)
    assert found.counts.tolist() == [torch.bincount(part, minlength=codes).tolist() for part in found.codes.T]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "groups", "codes", "channels"), SHAPES)
@pytest.mark.usefixtures("poisoned_memory")
def test_error_at_most_twice_that_of_torch(
    way: Callable[[Tensor, Tensor], Quantization],
    device: str,
    count: int,
    groups: int,
    codes: int,
    channels: int,
    dtype: torch.dtype,
) -> None:
    x = normals(count, groups, channels).to(device, dtype).requires_grad_()
    codebook = normals(groups, codes, channels, seed=1).to(device, dtype)
    slope = normals(count, groups, channels, seed=2).to(device, dtype)
    found = way(x, codebook)
    torch.autograd.backward((found.quantized, found.commitment), (slope, torch.tensor(100.0, device=device)))
    if channels <= 16:
        assert torch.equal(found.codes, nearest_code_torch(x, codebook))
    near = gather(codebook, found.codes)
    distance = (x.detach() - near).double()
    exact = {
        "quantized": (found.quantized, near.double(), x.detach() + (near - x.detach())),
        "commitment": (found.commitment, distance.square().mean(), (x.detach() - near).square().mean()),
        "gradient": (x.grad, slope.double() + 200 * distance / x.numel(), slope + 200 * (x.detach() - near) / x.numel()),
    }
    for name, (ours, value, torchs) in exact.items():
        assert (ours.double() - value).norm() <= 2 * (torchs.double() - value).norm() + 1e-6 * value.norm(), name
    assert found.counts.tolist() == [torch.bincount(part, minlength=codes).tolist() for part in found.codes.T]


@pytest.mark.parametrize("used", ["quantized", "commitment"])
def test_a_result_that_nobody_used(way: Callable[[Tensor, Tensor], Quantization], device: str, used: str) -> None:
    x, codebook = normals(40, 2, 4).to(device).requires_grad_(), normals(2, 9, 4, seed=1).to(device)
    found = way(x, codebook)
    getattr(found, used).sum().backward()
    near = gather(codebook, found.codes)
    expected = torch.ones_like(x) if used == "quantized" else 2 * (x.detach() - near) / x.numel()
    torch.testing.assert_close(x.grad, expected)


def test_the_codebook_may_move_before_the_gradient(way: Callable[[Tensor, Tensor], Quantization], device: str) -> None:
    x, codebook = normals(40, 2, 4).to(device).requires_grad_(), normals(2, 9, 4, seed=1).to(device)
    found = way(x, codebook)
    expected = 2 * (x.detach() - gather(codebook, found.codes)) / x.numel()
    codebook.zero_()
    found.commitment.backward()
    torch.testing.assert_close(x.grad, expected)


def test_mixed_types_and_strides(way: Callable[[Tensor, Tensor], Quantization], device: str) -> None:
    x = normals(4, 2, 40).permute(2, 1, 0).to(device).bfloat16().requires_grad_()
    codebook = normals(2, 30, 4).to(device)
    found = way(x, codebook)
    assert found.quantized.dtype == found.commitment.dtype == torch.float32
    torch.testing.assert_close(found.quantized, gather(codebook, found.codes))
    (found.quantized.sum() + found.commitment).backward()
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter adds NaN by numpy
def test_what_is_not_finite_gets_a_valid_id(way: Callable[[Tensor, Tensor], Quantization], device: str) -> None:
    x = normals(40, 2, 4).to(device)
    x[3], x[7, 0, 2] = torch.nan, torch.inf
    found = way(x, normals(2, 30, 4, seed=1).to(device))
    assert int(found.codes.min()) >= 0
    assert int(found.counts.sum()) == 80


def test_no_vectors() -> None:
    found = quantize(torch.empty(0, 3, 4), normals(3, 5, 4))
    assert found.quantized.shape == (0, 3, 4)
    assert not found.counts.any()


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"quantize: expected x \(N, G, D\)"):
        quantize(normals(5, 2, 4), normals(3, 6, 4))
    with pytest.raises(ValueError, match="quantize: x must be float32 or bfloat16"):
        quantize(normals(5, 2, 4).double(), normals(2, 6, 4))
