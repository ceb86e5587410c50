"""The codebook lookup: nearest, first among equals, stable under repetition, on both paths."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import nearest_code
from kernels.codebook import nearest_code_torch

Lookup = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(params=["torch", "triton"])
def lookup(request: pytest.FixtureRequest) -> Lookup:
    """Each of the two paths, from CPU tensors to CPU tensors."""
    if request.param == "torch":
        return nearest_code_torch
    device = request.getfixturevalue("device")
    from kernels.codebook_triton import nearest_code_triton

    return lambda x, codebook: nearest_code_triton(x.to(device), codebook.to(device)).cpu()


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def distances(x: Tensor, codebook: Tensor) -> Tensor:
    """Squared distances float64 (N, G, K), exact for the purpose."""
    return (x.double().unsqueeze(2) - codebook.double()).square().sum(-1)


@given(st.integers(1, 90), st.integers(1, 3), st.integers(1, 70), st.integers(1, 19), st.integers(0, 1000))
@settings(max_examples=60)
def test_definition_on_a_lattice_full_of_ties(count: int, groups: int, codes: int, channels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-2, 3, (count, groups, channels), generator=generator).float()
    codebook = torch.randint(-2, 3, (groups, codes, channels), generator=generator).float()
    distance = distances(x, codebook)
    first = (distance == distance.amin(-1, keepdim=True)).int().argmax(-1)
    assert torch.equal(nearest_code(x, codebook), first)


@pytest.mark.parametrize(
    ("count", "groups", "codes", "channels"),
    [(70, 2, 37, 4), (70, 2, 64, 4), (33, 3, 1, 1), (65, 1, 64, 20), (130, 1, 40, 150)],
)
@pytest.mark.usefixtures("poisoned_memory")
def test_ties_go_to_the_lower_id(lookup: Lookup, count: int, groups: int, codes: int, channels: int) -> None:
    half = torch.randint(-3, 4, (groups, codes, channels), generator=torch.Generator().manual_seed(1)).float()
    codebook = torch.cat((half, half), dim=1)
    x = torch.randint(-3, 4, (count, groups, channels), generator=torch.Generator().manual_seed(2)).float()
    distance = distances(x, codebook)
    first = (distance == distance.amin(-1, keepdim=True)).int().argmax(-1)
    found = lookup(x, codebook)
    assert found.dtype == torch.int64
    assert torch.equal(found, first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("count", "groups", "codes", "channels"), [(70, 2, 100, 3), (129, 1, 70, 16), (130, 2, 65, 17), (130, 1, 70, 200)]
)
@pytest.mark.usefixtures("poisoned_memory")
def test_error_at_most_twice_that_of_torch(
    lookup: Lookup, count: int, groups: int, codes: int, channels: int, dtype: torch.dtype
) -> None:
    x, codebook = normals(count, groups, channels).to(dtype), normals(groups, codes, channels, seed=1).to(dtype)
    distance = distances(x, codebook)
    product = torch.einsum("ngd,gkd->ngk", x, codebook).float()
    plain = (codebook.float().square().sum(-1) - 2 * product).argmin(-1)
    least = distance.amin(-1)
    ours, torchs = (
        (distance.gather(-1, code.unsqueeze(-1)).squeeze(-1) - least).sum() for code in (lookup(x, codebook), plain)
    )
    assert ours <= 2 * torchs + 1e-6 * least.sum()


def test_mixed_types_and_strides(lookup: Lookup) -> None:
    x, codebook = normals(4, 2, 40).permute(2, 1, 0), normals(2, 30, 4).bfloat16()
    assert not x.is_contiguous()
    assert torch.equal(lookup(x, codebook), distances(x, codebook).argmin(-1))


@pytest.mark.parametrize("spread", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("channels", [4, 16])
def test_snapping_twice_is_snapping_once(lookup: Lookup, channels: int, spread: float) -> None:
    middle = 5 * normals(2, 1, channels)
    codebook = middle + spread * normals(2, 50, channels, seed=1)  # codes closer to one another than their scores' rounding
    x = middle.transpose(0, 1) + spread * normals(64, 2, channels, seed=2)
    once, distance = lookup(x, codebook), distances(x, codebook)
    assert (distance.gather(-1, once.unsqueeze(-1)).squeeze(-1) <= distance.amin(-1) * (1 + 1e-5)).all()
    snapped = torch.stack([codebook[group, once[:, group]] for group in range(2)], dim=1)
    again = lookup(snapped, codebook)
    assert torch.equal(torch.stack([codebook[group, again[:, group]] for group in range(2)], dim=1), snapped)
    assert torch.equal(lookup(snapped, codebook), again)


def test_what_is_not_finite_gets_a_valid_id(lookup: Lookup) -> None:
    x = normals(40, 2, 4)
    x[3], x[7, 0, 2], x[9] = torch.nan, torch.inf, -torch.inf
    found, clean = lookup(x, normals(2, 30, 4, seed=1)), torch.ones(40, dtype=torch.bool)
    clean[[3, 7, 9]] = False
    assert int(found.min()) >= 0
    assert int(found.max()) < 30
    assert torch.equal(found[clean], lookup(x[clean], normals(2, 30, 4, seed=1)))


def test_blocks_do_not_show() -> None:
    x, codebook = normals(300, 3, 2), normals(3, 9000, 2, seed=1)
    assert torch.equal(nearest_code(x, codebook), distances(x, codebook).argmin(-1))


def test_autocast_and_gradients_do_not_touch_it() -> None:
    x, codebook = normals(200, 2, 8).requires_grad_(), normals(2, 64, 8, seed=1).requires_grad_()
    expected = nearest_code(x, codebook)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = nearest_code(x, codebook)
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_no_vectors(lookup: Lookup) -> None:
    assert lookup(torch.empty(0, 3, 4), normals(3, 5, 4)).shape == (0, 3)


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"expected x \(N, G, D\)"):
        nearest_code(normals(5, 2, 4), normals(3, 6, 4))
    with pytest.raises(ValueError, match="must be float32 or bfloat16"):
        nearest_code(normals(5, 2, 4).double(), normals(2, 6, 4))
    with pytest.raises(ValueError, match="1 to 65536 codes"):
        nearest_code(normals(5, 2, 4), normals(2, 0, 4))
    with pytest.raises(ValueError, match="1 to 65536 codes"):
        nearest_code(normals(5, 1, 513), normals(1, 2, 513))


def test_triton_is_not_imported_on_the_cpu() -> None:
    program = """
import sys, torch, kernels
kernels.nearest_code(torch.zeros(3, 2, 4), torch.zeros(2, 5, 4))
kernels.philox_normal(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 0, (4,))
sys.exit("triton" in sys.modules)
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
