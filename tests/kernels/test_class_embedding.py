"""The layer that reads class ids: an embedding and a linear layer, on both paths, with their gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import embedding, linear

from kernels import class_embedding
from kernels.class_embedding import class_embedding_torch

Layers = tuple[Tensor, Tensor, Tensor]
Case = tuple[Tensor, Layers]
SHAPES = [
    (70, 5, 19, 8, 20),
    (130, 64, 19, 8, 96),
    (33, 20, 19, 6, 64),
    (3, 1, 1, 1, 1),
    (65, 12, 30, 17, 140),
]  # M, V, C, E, O


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    """Each of the two paths, from CPU tensors to CPU tensors."""
    if request.param == "torch":
        return lambda ids, layers, dtype=torch.float32: class_embedding_torch(ids, *layers, dtype)
    device = request.getfixturevalue("device")
    from kernels.class_embedding_triton import ClassEmbedding

    def run(ids: Tensor, layers: Layers, dtype: torch.dtype = torch.float32) -> Tensor:
        return ClassEmbedding.apply(ids.to(device), *(part.to(device) for part in layers), dtype).cpu()

    return run


def case(shape: tuple[int, ...], whole: bool, seed: int = 0) -> Case:
    """Ids, some of them above the last class, and layers of small whole numbers, so that all is exact, or of normals."""
    places, voxels, classes, dim, outputs = shape
    generator = torch.Generator().manual_seed(seed)

    def numbers(*size: int) -> Tensor:
        if whole:
            return torch.randint(-2, 3, size, generator=generator).float()
        return torch.randn(size, generator=generator)

    ids = torch.randint(0, classes + 2, (places, voxels), generator=generator)
    ids = torch.where(ids > classes, 255, ids).to(torch.uint8)
    return ids, (numbers(classes, dim), numbers(outputs, voxels * dim), numbers(outputs))


def plain(ids: Tensor, layers: Layers, dtype: torch.dtype = torch.float64) -> Tensor:
    """The embedding and the linear layer in this type."""
    table, weight, bias = (part.to(dtype) for part in layers)
    return linear(embedding(ids.int().clamp(max=len(table) - 1), table).flatten(1), weight, bias)


@given(st.tuples(*(st.integers(1, top) for top in (20, 9, 25, 9, 12))), st.integers(0, 1000))
@settings(max_examples=60)
def test_definition_is_an_embedding_and_a_linear_layer(shape: tuple[int, ...], seed: int) -> None:
    ids, layers = case(shape, whole=True, seed=seed)
    assert torch.equal(class_embedding(ids, *layers).double(), plain(ids, layers))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("poisoned_memory")
def test_whole_numbers_are_exact(way: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    ids, layers = case(shape, whole=True)
    assert torch.equal(way(ids, layers).double(), plain(ids, layers))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.usefixtures("rounds_to_nearest")
def test_error_at_most_twice_that_of_torch(way: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    ids, (table, weight, bias) = case(shape, whole=False, seed=1)
    layers = (table.to(dtype), weight.to(dtype), bias.to(dtype))
    exact, found = plain(ids, layers), way(ids, layers, dtype)
    assert found.dtype == dtype
    ours, torchs = ((part.double() - exact).abs().mean() for part in (found, plain(ids, layers, dtype)))
    assert ours <= 2 * torchs


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_gradients(way: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    ids, layers = case(shape, whole=True, seed=2)
    slope = torch.randint(-2, 3, (shape[0], shape[-1]), generator=torch.Generator().manual_seed(3)).float()
    leaves = [part.requires_grad_() for part in layers]
    expected = torch.autograd.grad(plain(ids, layers), leaves, slope.double())
    for found, true in zip(torch.autograd.grad(way(ids, layers), leaves, slope), expected, strict=True):
        assert torch.equal(found, true)


def test_autocast_decides_the_type_of_the_result_alone() -> None:
    ids, layers = case(SHAPES[0], whole=False, seed=4)
    exact = class_embedding(ids, *layers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(class_embedding(ids, *layers), exact.bfloat16())


def test_mixed_types_and_strides(way: Callable[..., Tensor]) -> None:
    ids, (table, weight, bias) = case(SHAPES[0], whole=True, seed=5)
    turned = (table.bfloat16(), weight.T.contiguous().T, bias.bfloat16())
    assert torch.equal(way(ids.T.contiguous().T, turned).double(), plain(ids, (table, weight, bias)))


def test_no_places(way: Callable[..., Tensor]) -> None:
    assert way(*case((0, 4, 8, 4, 5), whole=True)).shape == (0, 5)


def test_arguments_that_do_not_fit() -> None:
    ids, (table, weight, bias) = case((5, 4, 8, 3, 6), whole=True)
    with pytest.raises(ValueError, match=r"expected ids \(M, V\)"):
        class_embedding(ids[:, 1:], table, weight, bias)
    with pytest.raises(ValueError, match=r"expected ids \(M, V\)"):
        class_embedding(ids, table, weight[1:], bias)
    with pytest.raises(ValueError, match="ids must be uint8"):
        class_embedding(ids.int(), table, weight, bias)
    with pytest.raises(ValueError, match="weight must be float32 or bfloat16"):
        class_embedding(ids, table, weight.double(), bias)
    with pytest.raises(ValueError, match="1 to 256 classes"):
        class_embedding(ids, torch.zeros(300, 3), weight, bias)
