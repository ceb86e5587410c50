"""Columns under a pose: those that the grid itself finds, on both paths, as warp and map look them up."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import Lattice, gather_columns
from kernels.columns import gather_columns_torch
from models.interface import Rollout
from models.warp import UNKNOWN, warp
from models.world_map import empty_map, recall
from scenes.grid import MINI, OCC3D, Grid
from scenes.motion import transform

SMALL = Grid(shape=(14, 10, 3), voxel=0.4, origin=(-2.0, -2.4, -0.4))
SHAPES = [(2, 2, 14, 10, 3), (1, 3, 31, 28, 16), (3, 1, 14, 10, 1)]  # worlds, frames, rows, width and height of the raster


@pytest.fixture(params=["torch", "triton"])
def way(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    """Each of the two paths, from CPU tensors to CPU tensors."""
    if request.param == "torch":
        return gather_columns_torch
    device = request.getfixturevalue("device")
    from kernels.columns_triton import gather_columns_triton

    return lambda columns, poses, *rest: gather_columns_triton(columns.to(device), poses.to(device), *rest).cpu()


def lattice(grid: Grid, margin: tuple[int, int] = (0, 0)) -> Lattice:
    """The columns of a grid."""
    return Lattice(grid.shape[:2], grid.voxel, grid.origin[:2], margin)


def raster(*shape: int, seed: int = 0) -> Tensor:
    """Bytes of all values."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def somewhere(batch: int, frames: int, reach: float, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """Poses (B, F, 3) within some metres, turned in any way."""
    uniform = torch.rand(batch, frames, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return (uniform * torch.tensor((reach, reach, math.pi))).to(dtype)


def walked(columns: Tensor, poses: Tensor, grid: Grid, margin: tuple[int, int], fill: int) -> Tensor:
    """`gather_columns` one column at a time, by the points that the grid and the pose give."""
    batch, rows, width, height = columns.shape
    points = transform(poses, grid.column_centres().to(poses.dtype).flatten(0, 1))
    index = ((points - points.new_tensor(grid.origin[:2])) / grid.voxel).floor()
    out = torch.full((*index.shape[:3], height), fill, dtype=columns.dtype)
    for world, frame, cell in torch.cartesian_prod(*map(torch.arange, index.shape[:3])).tolist():
        i, j = (int(number) + before for number, before in zip(index[world, frame, cell], margin, strict=True))
        if 0 <= i < rows and 0 <= j < width:
            out[world, frame, cell] = columns[world, i, j]
    return out.view(batch, poses.shape[1], *grid.shape[:2], height)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("poisoned_memory")
def test_each_column_is_the_one_its_centre_lies_in(
    way: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    batch, frames, rows, width, height = shape
    columns, poses = raster(batch, rows, width, height), somewhere(batch, frames, 4.0, dtype)
    margin = ((rows - SMALL.shape[0]) // 2, (width - SMALL.shape[1]) // 2)
    found = way(columns, poses, lattice(SMALL, margin), 77)
    assert found.dtype == torch.uint8
    assert torch.equal(found, walked(columns, poses, SMALL, margin, 77))


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 3), st.sampled_from([-1e-9, 1e-9]))
@settings(max_examples=40)
def test_whole_steps_and_quarter_turns(ahead: int, left: int, turns: int, beside: float) -> None:
    grid = Grid(shape=(10, 10, 2), voxel=0.4, origin=(-2.0, -2.0, 0.0))
    columns = raster(1, 10, 10, 2)
    pose = torch.tensor([[[ahead * 0.4 + beside, left * 0.4 + beside, turns * math.pi / 2]]], dtype=torch.float64)
    padded = torch.full((1, 30, 30, 2), 9, dtype=torch.uint8)
    padded[:, 10:20, 10:20] = columns
    expected = padded[:, 10 + ahead : 20 + ahead, 10 + left : 20 + left].rot90(-turns, (1, 2))
    assert torch.equal(gather_columns(columns, pose, lattice(grid), 9)[:, 0], expected)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_border_is_where_float64_has_it(way: Callable[..., Tensor], side: float) -> None:
    columns = raster(1, *SMALL.shape)
    pose = torch.tensor([[[0.2 + side * 1e-9, 0.0, 0.0]]], dtype=torch.float64)
    expected = torch.cat((columns[:, 1:], torch.full_like(columns[:, :1], 5)), dim=1) if side > 0 else columns
    assert torch.equal(way(columns, pose, lattice(SMALL), 5)[:, 0], expected)


def test_warped_frames_are_those_of_warp(way: Callable[..., Tensor]) -> None:
    columns, poses = raster(3, *MINI.shape), somewhere(3, 1, 15.0)
    assert torch.equal(way(columns, poses, lattice(MINI), UNKNOWN)[:, 0], warp(columns, poses[:, 0], MINI))


@pytest.mark.parametrize("grid", [MINI, OCC3D])
def test_the_map_recalls_the_same(grid: Grid) -> None:
    state = empty_map(grid, 2, torch.device("cpu"))
    size = state["map"].shape[1]
    state["map"] = raster(2, size, size, grid.shape[2])
    poses, margin = somewhere(2, 2, 4.0), ((size - grid.shape[0]) // 2, (size - grid.shape[1]) // 2)
    found = gather_columns(state["map"], poses, lattice(grid, margin), UNKNOWN)
    assert torch.equal(found, recall(Rollout({**state, "pose": state["map_pose"]}), poses, grid))


def test_flags(way: Callable[..., Tensor]) -> None:
    columns, poses = raster(2, 14, 10, 1) > 127, somewhere(2, 1, 2.0, torch.float32)
    for fill in (0, 1):
        found = way(columns, poses, lattice(SMALL), fill)
        assert found.dtype == torch.bool
        assert torch.equal(found, walked(columns, poses, SMALL, (0, 0), fill))


def test_strides_and_far_away(way: Callable[..., Tensor]) -> None:
    columns = raster(2, 3, 10, 14).permute(0, 3, 2, 1)
    poses = somewhere(2, 3, 2.0).transpose(0, 1).contiguous().transpose(0, 1)
    assert not columns.is_contiguous()
    assert torch.equal(way(columns, poses, lattice(SMALL), 3), walked(columns, poses, SMALL, (0, 0), 3))
    far = torch.tensor([1e12, -1e300], dtype=torch.float64).view(2, 1, 1).expand(2, 1, 3)
    assert bool((way(columns, far, lattice(SMALL), 3) == 3).all())


@pytest.mark.parametrize("shape", [(0, 1), (2, 0)])
def test_no_worlds_and_no_frames(way: Callable[..., Tensor], shape: tuple[int, int]) -> None:
    found = way(raster(shape[0], *SMALL.shape), torch.zeros(*shape, 3), lattice(SMALL), 0)
    assert found.shape == (*shape, *SMALL.shape)


def test_arguments_that_do_not_fit() -> None:
    columns, poses, place = raster(2, *SMALL.shape), somewhere(2, 1, 2.0), lattice(SMALL)
    with pytest.raises(ValueError, match="uint8 or bool"):
        gather_columns(columns.int(), poses, place, 0)
    with pytest.raises(ValueError, match=r"must be \(B, F, 3\)"):
        gather_columns(columns, poses[:1], place, 0)
    with pytest.raises(ValueError, match="float64 or float32"):
        gather_columns(columns, poses.half(), place, 0)
    with pytest.raises(ValueError, match="between 0 and 255"):
        gather_columns(columns, poses, place, 256)
    with pytest.raises(ValueError, match="between 0 and 1"):
        gather_columns(columns > 3, poses, place, 255)
