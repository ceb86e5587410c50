"""Modulated normalisation and gated residual: values and gradients against float64, on both paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from kernels import ada_norm, gated_residual, gated_residual_norm
from kernels.ada_norm import ada_norm_torch, gated_residual_norm_torch, gated_residual_torch

Way = Callable[..., tuple[Tensor, ...]]
NAMES = ("x", "y", "gate", "scale", "shift")
SHAPES = [(2, 19, 40), (3, 67, 64), (1, 1, 1), (2, 3, 300)]  # M, N, C


def plain(kind: str, x: Tensor, y: Tensor, gate: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
    """What a block does, in torch's own operations and in the type of the arguments."""
    if kind != "norm":
        x = x + gate.unsqueeze(1) * y
    if kind == "gate":
        return (x,)
    out = layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)
    return (out,) if kind == "norm" else (x, out)


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the two paths, with the arguments of `plain`."""
    if request.param == "torch":
        norm, gated, both = ada_norm_torch, gated_residual_torch, gated_residual_norm_torch
    else:
        pytest.importorskip("triton")
        from kernels.ada_norm_triton import AdaNorm, GatedResidual, GatedResidualNorm

        def norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
            return AdaNorm.apply(x, scale, shift, x.dtype)

        def both(x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
            return GatedResidualNorm.apply(x, *rest, x.dtype)

        gated = GatedResidual.apply

    def call(kind: str, x: Tensor, y: Tensor, gate: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, ...]:
        if kind == "norm":
            return (norm(x, scale, shift),)
        return (gated(x, y, gate),) if kind == "gate" else both(x, y, gate, scale, shift)

    return call


def arguments(shape: tuple[int, int, int], device: str = "cpu", seed: int = 0) -> list[Tensor]:
    """Arguments of `plain` that bfloat16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    sequences, _, channels = shape
    sizes = [shape, shape, *[(sequences, channels)] * 3]
    parts = [torch.randn(size, generator=generator).bfloat16().float() for size in sizes]
    return [part.to(device) for part in [2 + 3 * parts[0], *parts[1:]]]


def passes(way: Way, kind: str, given: list[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Results, and gradients of all arguments that take part, as float64, of one forward and one backward pass."""
    leaves = [part.to(dtype, copy=True).requires_grad_() for part in given]
    results = way(kind, *leaves)
    generator = torch.Generator().manual_seed(7)
    slopes = [torch.randn(result.shape, generator=generator).bfloat16().to(result) for result in results]
    torch.autograd.backward(results, slopes)
    found = {f"result {number}": result.detach() for number, result in enumerate(results)}
    found |= {name: leaf.grad for name, leaf in zip(NAMES, leaves, strict=True) if leaf.grad is not None}
    return {name: value.double() for name, value in found.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["norm", "gate", "both"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("poisoned_memory")
def test_error_at_most_twice_that_of_torch(
    way: Way, device: str, kind: str, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    given = arguments(shape, device)
    exact = passes(plain, kind, given, torch.float64)
    ours, torchs = passes(way, kind, given, dtype), passes(plain, kind, given, dtype)
    assert ours.keys() == exact.keys()
    for name, value in exact.items():
        # Triton's interpreter cuts the last bits off where a GPU rounds to bfloat16.
        slack = 2.0**-7 if dtype == torch.bfloat16 and device == "cpu" else 1e-6
        allowed = 2 * (torchs[name] - value).norm() + slack * value.norm() + 1e-5 * (value.norm() == 0)
        assert (ours[name] - value).norm() <= allowed, name


@given(st.integers(1, 3), st.integers(1, 9), st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=25)
def test_public_functions_are_what_a_block_did(sequences: int, tokens: int, channels: int, seed: int) -> None:
    x, y, gate, scale, shift = arguments((sequences, tokens, channels), seed=seed)
    norm = nn.LayerNorm(channels, elementwise_affine=False, eps=1e-6)
    stream = x + gate[:, None] * y
    assert torch.equal(ada_norm(x, scale, shift), norm(x) * (1 + scale[:, None]) + shift[:, None])
    assert torch.equal(gated_residual(x, y, gate), stream)
    residual, out = gated_residual_norm(x, y, gate, scale, shift)
    assert torch.equal(residual, stream)
    assert torch.equal(out, norm(stream) * (1 + scale[:, None]) + shift[:, None])


@pytest.mark.parametrize("used", [0, 1])
def test_a_result_that_nobody_used(way: Way, device: str, used: int) -> None:
    given = arguments((2, 11, 24), device)
    found = []
    for path, dtype in ((way, torch.float32), (plain, torch.float64)):
        leaves = [part.to(dtype, copy=True).requires_grad_() for part in given]
        path("both", *leaves)[used].square().sum().backward()
        found.append([torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves])
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-4)


def test_parts_of_one_modulation_and_types_of_mixed_precision(device: str) -> None:
    triton_path = pytest.importorskip("kernels.ada_norm_triton")
    generator = torch.Generator().manual_seed(3)
    modulation = torch.randn(2, 6, 40, generator=generator).bfloat16().to(device)
    x, y = (torch.randn(2, 40, 13, generator=generator).transpose(1, 2).to(device) for _ in range(2))
    gate, scale, shift = (modulation[:, index] for index in (2, 4, 3))
    given = (x, y.bfloat16(), gate, scale, shift, torch.bfloat16)
    expected = gated_residual_norm_torch(*given)
    found = triton_path.GatedResidualNorm.apply(*given)
    assert [part.dtype for part in found] == [torch.float32, torch.bfloat16]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2 if theirs.dtype == torch.bfloat16 else 1e-6, atol=1e-6)


def test_gradients_repeat(way: Way, device: str) -> None:
    given = arguments((2, 70, 16), device)
    first, again = (passes(way, "both", given, torch.float32) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_no_tokens(way: Way, device: str) -> None:
    found = passes(way, "both", arguments((2, 0, 8), device), torch.float32)
    assert found["x"].shape == (2, 0, 8)
    assert not found["scale"].any()


def test_arguments_that_do_not_fit() -> None:
    x, y, gate, scale, shift = arguments((2, 3, 8))
    with pytest.raises(ValueError, match=r"ada_norm: expected x \(M, N, C\)"):
        ada_norm(x[0], scale, shift)
    with pytest.raises(ValueError, match=r"ada_norm: scale must be \(2, 8\)"):
        ada_norm(x, scale[:1], shift)
    with pytest.raises(ValueError, match=r"gated_residual: y must be \(2, 3, 8\)"):
        gated_residual(x, y[:, 1:], gate)
    with pytest.raises(ValueError, match="gated_residual_norm: shift must be float32 or bfloat16"):
        gated_residual_norm(x, y, gate, scale, shift.double())
