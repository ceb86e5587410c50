"""Classes of voxels: the argmax of the logits that two linear layers and the trust make, on both paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from kernels import classify, classify_voxels
from kernels.classify import classify_voxels_torch

Case = tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor | None, Tensor | None]
SHAPES = [(70, 5, 20, 3, 7), (65, 33, 40, 8, 18), (3, 1, 1, 1, 1), (64, 32, 96, 8, 18), (5, 9, 33, 17, 30)]  # P, V, C, E, K


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    """Each of the two paths, from CPU tensors to CPU tensors."""
    if request.param == "torch":
        return classify_voxels_torch
    device = request.getfixturevalue("device")
    from kernels.classify_triton import classify_voxels_triton

    def move(value: Any) -> Any:
        return tuple(map(move, value)) if isinstance(value, tuple) else None if value is None else value.to(device)

    return lambda *case: classify_voxels_triton(*move(case)).cpu()


def lattice(shape: tuple[int, ...], carried: bool, seed: int = 0) -> Case:
    """Arguments of small whole numbers, so that every logit is exact and many are equal."""
    count, voxels, channels, dim, classes = shape
    generator = torch.Generator().manual_seed(seed)

    def whole(*size: int) -> Tensor:
        return torch.randint(-1, 2, size, generator=generator).float()

    held = torch.randint(0, classes + 3, (count, voxels), generator=generator).to(torch.uint8)
    held = torch.where(held > classes, 255, held).to(torch.uint8)
    trust = (3 * whole(count, voxels), held) if carried else (None, None)
    layers = (whole(voxels * dim, channels), whole(voxels * dim)), (whole(classes, dim), whole(classes))
    return whole(count, channels), *layers, *trust


def logits(case: Case, dtype: torch.dtype = torch.float64) -> Tensor:
    """Logits (P, V, K) as two layers and the trust give them in this type."""
    places, features, classes, trust, carried = case
    (weight, bias), (matrix, offset) = ([part.to(dtype) for part in layer] for layer in (features, classes))
    found = linear(linear(places.to(dtype), weight, bias).unflatten(-1, (-1, matrix.shape[1])), matrix, offset)
    if trust is not None and carried is not None:
        index = carried.long().clamp(max=len(matrix) - 1).unsqueeze(-1)
        found = found.scatter_add(-1, index, (trust.to(dtype) * (carried < len(matrix))).unsqueeze(-1))
    return found


def first_of(values: Tensor) -> Tensor:
    """The lowest id among the largest logits."""
    return (values == values.amax(-1, keepdim=True)).int().argmax(-1)


@given(st.tuples(*(st.integers(1, top) for top in (20, 9, 12, 9, 25))), st.booleans(), st.integers(0, 1000))
@settings(max_examples=60)
def test_definition_on_a_lattice_full_of_ties(shape: tuple[int, ...], carried: bool, seed: int) -> None:
    case = lattice(shape, carried, seed)
    assert torch.equal(classify_voxels(*case), first_of(logits(case)).to(torch.uint8))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.usefixtures("poisoned_memory")
def test_ties_go_to_the_lower_id(way: Callable[..., Tensor], shape: tuple[int, ...], carried: bool) -> None:
    case = lattice(shape, carried, seed=1)
    found = way(*case)
    assert found.dtype == torch.uint8
    assert torch.equal(found, first_of(logits(case)).to(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_error_at_most_twice_that_of_torch(way: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    count, voxels, channels, dim, classes = shape
    generator = torch.Generator().manual_seed(2)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).to(dtype)

    layers = (normal(voxels * dim, channels), normal(voxels * dim)), (normal(classes, dim), normal(classes))
    held = torch.randint(0, 2 * classes, (count, voxels), generator=generator, dtype=torch.int32)
    case = (normal(count, channels), *layers, normal(count, voxels), held)
    exact = logits(case)
    ours, torchs = (
        (exact.amax(-1) - exact.gather(-1, ids.long().unsqueeze(-1)).squeeze(-1)).sum()
        for ids in (way(*case), first_of(logits(case, dtype)))
    )
    assert ours <= 2 * torchs + 1e-6 * exact.abs().sum() / classes


def test_mixed_types_and_strides(way: Callable[..., Tensor]) -> None:
    places, (weight, bias), (matrix, offset), trust, carried = lattice((9, 4, 20, 8, 18), True)
    assert trust is not None
    assert carried is not None
    turned = (trust.T.contiguous().T, carried.T.contiguous().T)
    case = (places.T.contiguous().T.bfloat16(), (weight, bias.bfloat16()), (matrix.bfloat16(), offset), *turned)
    assert not case[0].is_contiguous()
    assert torch.equal(way(*case), first_of(logits(case)).to(torch.uint8))


def test_what_is_not_finite_gets_a_valid_id(way: Callable[..., Tensor]) -> None:
    case = lattice((6, 3, 8, 4, 5), False)
    expected = way(*case)
    case[0][2] = torch.nan
    found, clean = way(*case), torch.arange(6) != 2
    assert int(found.max()) < 5
    assert torch.equal(found[clean], expected[clean])


def test_slices_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    case = lattice((50, 6, 12, 4, 10), True)
    whole = classify_voxels(*case)
    for block in (1, 7 * 60, 1000):
        monkeypatch.setattr(classify, "_BLOCK", block)
        assert torch.equal(classify_voxels(*case), whole)


def test_autocast_and_gradients_do_not_touch_it() -> None:
    case = lattice((50, 6, 12, 4, 10), True)
    expected = classify_voxels(*case)
    case[0].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(classify_voxels(*case), expected)


def test_no_places(way: Callable[..., Tensor]) -> None:
    assert way(*lattice((0, 4, 8, 4, 5), True)).shape == (0, 4)


def test_arguments_that_do_not_fit() -> None:
    places, features, classes, trust, carried = lattice((5, 4, 8, 3, 6), True)
    assert trust is not None
    assert carried is not None
    with pytest.raises(ValueError, match=r"expected places \(P, C\)"):
        classify_voxels(places[:, 1:], features, classes)
    with pytest.raises(ValueError, match=r"expected places \(P, C\)"):
        classify_voxels(places, (features[0][1:], features[1][1:]), classes)
    with pytest.raises(ValueError, match="come together"):
        classify_voxels(places, features, classes, trust)
    with pytest.raises(ValueError, match=r"must be \(P, V\) = \(5, 4\)"):
        classify_voxels(places, features, classes, trust[:, 1:], carried[:, 1:])
    with pytest.raises(ValueError, match="carried must be uint8 or int32"):
        classify_voxels(places, features, classes, trust, carried.long())
    with pytest.raises(ValueError, match="places must be float32 or bfloat16"):
        classify_voxels(places.double(), features, classes)
    with pytest.raises(ValueError, match="1 to 256 classes"):
        classify_voxels(places, features, (torch.zeros(300, 3), torch.zeros(300)))
