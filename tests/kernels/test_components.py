"""Connected components: what scipy finds, on both paths, also where components wind through the whole map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from kernels import connected_components
from kernels.components import connected_components_torch
from models.agents import seen_from_above
from scenes.grid import FREE, MINI
from scenes.render import render
from scenes.scene_file import load_scene

SCENES = Path(__file__).parents[2] / "occworld_env" / "data"


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Callable[[Tensor], Tensor]:
    """Each of the two paths, from CPU tensors to CPU tensors."""
    if request.param == "torch":
        return connected_components_torch
    device = request.getfixturevalue("device")
    from kernels.components_triton import connected_components_triton

    return lambda classes: connected_components_triton(classes.to(device)).cpu()


def reference(classes: Tensor) -> Tensor:
    """Components that scipy finds, class by class, named as here."""
    labels = np.zeros(classes.shape, dtype=np.int64)
    number = np.arange(1, classes[0].numel() + 1 if len(classes) else 1).reshape(classes.shape[1:])
    for area, found in zip(classes.numpy(), labels, strict=True):
        for kind in np.unique(area[area >= 0]):
            parts, count = ndimage.label(area == kind, structure=np.ones((3, 3)))
            largest = ndimage.maximum(number, parts, np.arange(count + 1)).astype(np.int64)
            found[parts > 0] = largest[parts[parts > 0]]
    return torch.from_numpy(labels)


def scattered(shape: tuple[int, ...], kinds: int, share: float, seed: int) -> Tensor:
    """Maps in which each cell has, with this chance, one of some classes."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, kinds, shape, generator=generator)
    return classes.masked_fill(torch.rand(shape, generator=generator) > share, -1)


def spiral(size: int) -> Tensor:
    """A path one cell wide that winds to the middle, a cell apart from itself."""
    path = torch.full((size, size), -1)
    low, high = 0, size - 1
    path[0, 0] = 0
    while high > low:
        path[low, max(low - 2, 0) : high + 1] = 0
        path[low:high, high], path[high, low : high + 1] = 0, 0
        path[low + 2 : high, low] = 0
        low, high = low + 2, high - 2
    return path


def comb(size: int) -> Tensor:
    """Teeth that are joined along the last row only."""
    teeth = torch.full((size, size), -1)
    teeth[:, ::2], teeth[-1] = 0, 0
    return teeth


def tree(size: int) -> Tensor:
    """Teeth that are joined in pairs, the pairs in pairs, and so on, each time a row further up."""
    teeth, apart = comb(size), 2
    teeth[-1, 1::2] = -1
    row = size - 1
    while apart < size and row >= 0:
        for start in range(0, size - apart, 2 * apart):
            teeth[row, start : start + apart + 1] = 0
        row, apart = row - 2, 2 * apart
    return teeth


def winding(size: int) -> list[Tensor]:
    """Maps that take many rounds, turned and mirrored in every way."""
    snake = comb(size)
    snake[-1] = -1
    snake[:, ::2] = 0
    snake[-1, 1::4], snake[0, 3::4] = 0, 0
    checked = torch.arange(size).view(-1, 1) % 2 + torch.arange(size) % 2 - 1
    maps = [spiral(size), comb(size), tree(size), snake, checked, torch.zeros(size, size, dtype=torch.int64)]
    turned = [part.rot90(turns) for part in maps for turns in range(4)]
    return [*turned, *(part.T for part in turned)]


shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@given(shapes, st.integers(1, 3), st.floats(0.2, 1.0), st.integers(0, 10_000))
@settings(max_examples=150)
def test_definition_finds_what_scipy_finds(shape: tuple[int, ...], kinds: int, share: float, seed: int) -> None:
    classes = scattered(shape, kinds, share, seed)
    assert torch.equal(connected_components(classes), reference(classes))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.95])
@pytest.mark.usefixtures("poisoned_memory")
def test_both_ways_in_noise(way: Callable[[Tensor], Tensor], share: float) -> None:
    classes = scattered((2, 13, 17), 2, share, 5)
    found = way(classes)
    assert found.dtype == torch.int64
    assert torch.equal(found, reference(classes))


def test_winding_components(way: Callable[[Tensor], Tensor]) -> None:
    classes = torch.stack(winding(15))
    assert torch.equal(way(classes), reference(classes))


@pytest.mark.parametrize("size", [96, 200])
def test_rounds_suffice_for_the_largest_maps(size: int) -> None:
    generator = torch.Generator().manual_seed(6)
    thresholds = torch.rand(12, size, size, generator=generator) > torch.linspace(0.35, 0.65, 12).view(-1, 1, 1)
    classes = torch.stack([*winding(size), *(part.long() - 1 for part in thresholds)])
    assert torch.equal(connected_components(classes), reference(classes))


def test_rounds_are_enough_without_a_look_at_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = torch.stack([*winding(17), *scattered((8, 17, 17), 2, 0.6, 7)])
    expected = connected_components(classes)
    monkeypatch.setattr("kernels.components._settled", lambda before, after: False)
    assert torch.equal(connected_components(classes), expected)


def test_agents_of_a_recorded_drive() -> None:
    scene = load_scene(sorted(SCENES.glob("*.scene"))[0])
    ego = scene.egos[0]
    times = torch.tensor(scene.ego_span(ego)).double().mean(0, keepdim=True)
    occupancy = render(scene, scene.ego_poses(ego, times), times, MINI, ego)
    above = seen_from_above(occupancy, FREE).long()
    classes = above.masked_fill(above == FREE, -1)
    assert int((classes >= 0).sum()) > 20
    assert torch.equal(connected_components(classes), reference(classes))


def test_types_and_strides(way: Callable[[Tensor], Tensor]) -> None:
    classes = scattered((2, 9, 7), 2, 0.7, 8)
    expected = way(classes)
    for dtype in (torch.int8, torch.int16, torch.int32):
        assert torch.equal(way(classes.to(dtype)), expected)
    turned = classes.transpose(1, 2).contiguous().transpose(1, 2)
    assert not turned.is_contiguous()
    assert torch.equal(way(turned), expected)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (3, 1, 1), (1, 1, 6), (1, 6, 1)])
def test_thin_and_empty_maps(way: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    classes = torch.zeros(shape, dtype=torch.int64)
    assert torch.equal(way(classes), classes + shape[1] * shape[2])


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="signed integers"):
        connected_components(torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="signed integers"):
        connected_components(torch.zeros(2, 3, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"\(N, X, Y\)"):
        connected_components(torch.zeros(3, 3, dtype=torch.int64))
