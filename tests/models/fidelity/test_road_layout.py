"""Layouts of the road, drawn by hand."""

from __future__ import annotations

import math

import pytest
import torch

from models.fidelity.road_layout import LAYOUTS, road_layout
from scenes.grid import CLASS_ID, DRIVABLE, MINI, OCC3D, Grid


def town(grid: Grid, *arms: float) -> torch.Tensor:
    """A frame (1, X, Y, Z) with roads 8 m wide from the middle outwards, one in each direction in degrees."""
    frame = torch.full((1, *grid.shape), grid.free, dtype=torch.uint8)
    frame[..., grid.ground_index] = CLASS_ID["terrain"]
    xy = grid.column_centres() - grid.column_centres().mean((0, 1))
    for arm in arms:
        axis = torch.tensor([math.cos(math.radians(arm)), math.sin(math.radians(arm))], dtype=torch.float64)
        along, across = xy @ axis, xy @ torch.stack((-axis[1], axis[0]))
        frame[0, (along > -4) & (across.abs() < 4), grid.ground_index] = DRIVABLE
    return frame


@pytest.mark.parametrize("grid", [MINI, OCC3D], ids=["mini", "occ3d"])
@pytest.mark.parametrize(
    ("arms", "layout"),
    [
        ((), "no road"),
        ((37.0,), "dead end"),
        ((10.0, 190.0), "straight"),
        ((350.0, 175.0), "straight"),
        ((0.0, 90.0), "bend"),
        ((0.0, 270.0), "bend"),
        ((0.0, 90.0, 180.0), "fork"),
        ((0.0, 90.0, 180.0, 270.0), "crossing"),
        ((0.0, 70.0, 140.0, 210.0, 290.0), "crossing"),
    ],
)
def test_by_the_arms_of_the_road(grid: Grid, arms: tuple[float, ...], layout: str) -> None:
    assert LAYOUTS[int(road_layout(town(grid, *arms), grid))] == layout


def test_neither_a_lorry_nor_a_patch_of_tarmac_changes_it() -> None:
    frame = town(MINI, 0.0, 180.0)
    i, j = 72, 48  # on the road, 19.2 m ahead
    frame[0, i - 4 : i + 4, j - 1 : j + 2, MINI.ground_index :] = CLASS_ID["truck"]
    frame[0, 48:50, 71:74, MINI.ground_index] = DRIVABLE
    assert LAYOUTS[int(road_layout(frame, MINI))] == "straight"


def test_an_open_place_is_a_crossing() -> None:
    frame = town(MINI)
    frame[..., MINI.ground_index] = DRIVABLE
    assert LAYOUTS[int(road_layout(frame, MINI))] == "crossing"
