"""The grid says where voxels are, and refuses what is not on it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scenes.grid import (
    AGENTS,
    CARLASC,
    CLASSES,
    COLOURS,
    FLAT,
    FREE,
    MINI,
    OCC3D,
    OCC3D_WAYMO,
    STATIC_OBSTACLES,
    Grid,
    check_occupancy,
)


@pytest.mark.parametrize("grid", [OCC3D, MINI, CARLASC])
def test_centres_are_where_the_convention_puts_them(grid: Grid) -> None:
    for axis, centres in enumerate((grid.x_centres, grid.y_centres, grid.z_centres)):
        assert len(centres) == grid.shape[axis]
        assert float(centres[0]) == pytest.approx(grid.origin[axis] + grid.voxel / 2)
        torch.testing.assert_close(centres.diff(), torch.full_like(centres[1:], grid.voxel))
    columns = grid.column_centres()
    assert columns.shape == (*grid.shape[:2], 2)
    assert torch.equal(columns[3, 7], torch.stack((grid.x_centres[3], grid.y_centres[7])))


@given(below=st.floats(0.0, 3.0), voxel=st.floats(0.2, 1.0))
def test_the_ground_lies_in_or_on_top_of_its_layer(below: float, voxel: float) -> None:
    grid = Grid((4, 4, 20), voxel, (0.0, 0.0, -below))
    layer_bottom = -below + grid.ground_index * voxel
    assert layer_bottom <= 1e-4
    assert layer_bottom + voxel >= -1e-4


def test_every_class_is_free_flat_obstacle_or_agent_and_has_its_own_colour() -> None:
    assert sorted([*FLAT, *STATIC_OBSTACLES, *AGENTS, FREE]) == list(range(len(CLASSES)))
    assert len(set(COLOURS)) == len(CLASSES) == 18


@pytest.mark.parametrize(("grid", "classes"), [(CARLASC, 12), (OCC3D_WAYMO, 16)])
def test_grids_with_classes_of_their_own_end_in_free_and_can_be_drawn(grid: Grid, classes: int) -> None:
    assert grid.num_classes == len(set(grid.classes)) == len(set(grid.colours)) == classes
    assert grid.classes[grid.free] == "free"


def test_grids_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="three positive integers"):
        Grid((4, 0, 4), 0.4, (0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="positive metres"):
        Grid((4, 4, 4), 0.0, (0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="17 classes but 18 colours"):
        Grid((4, 4, 4), 0.4, (0.0, 0.0, 0.0), classes=CLASSES[:17])


def test_occupancy_that_is_not_on_the_grid_is_refused() -> None:
    good = torch.zeros(2, *MINI.shape, dtype=torch.uint8)
    check_occupancy(good, MINI)
    with pytest.raises(ValueError, match="uint8"):
        check_occupancy(good.long(), MINI)
    with pytest.raises(ValueError, match=r"\(96, 96, 8\), found \(2, 96, 96, 4\)"):
        check_occupancy(good[..., :4], MINI)
    good[1, 2, 3, 4] = 200
    with pytest.raises(ValueError, match="scan: expected class ids below 18, found 200"):
        check_occupancy(good, MINI, "scan")
