"""Class ids of one data set as those of another."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scenes.grid import CARLASC, CLASS_ID, CLASSES, OCC3D, OCC3D_WAYMO, Grid
from scenes.label_sets import from_occ3d, to_occ3d

KINDS = (
    ("driveable_surface",),
    ("other_flat", "sidewalk", "terrain"),
    ("others", "barrier", "traffic_cone", "manmade", "vegetation"),
    ("bicycle", "bus", "car", "construction_vehicle", "motorcycle", "trailer", "truck"),
    ("pedestrian",),
    ("free",),
)


def every_class(grid: Grid) -> torch.Tensor:
    return torch.arange(grid.num_classes, dtype=torch.uint8)


@pytest.mark.parametrize("grid", [CARLASC, OCC3D_WAYMO])
def test_a_class_stays_of_its_kind_on_the_way_there_and_back(grid: Grid) -> None:
    there = from_occ3d(every_class(OCC3D), grid)
    assert there.dtype == torch.uint8
    assert int(there.max()) < grid.num_classes
    back = to_occ3d(there, grid)
    kind = {name: number for number, names in enumerate(KINDS) for name in names}
    assert [kind[CLASSES[number]] for number in back.tolist()] == [kind[name] for name in CLASSES]
    assert torch.equal(from_occ3d(back, grid), there)


def test_names_that_differ() -> None:
    assert CARLASC.classes[int(from_occ3d(torch.tensor(CLASS_ID["truck"], dtype=torch.uint8), CARLASC))] == "vehicle"
    pole = torch.tensor(CARLASC.classes.index("pole"), dtype=torch.uint8)
    assert CLASSES[int(to_occ3d(pole, CARLASC))] == "manmade"


@pytest.mark.parametrize(("grid", "name"), [(CARLASC, "vehicle"), (OCC3D_WAYMO, "cyclist")])
def test_a_bicycle_that_is_ridden_is_what_recordings_call_it(grid: Grid, name: str) -> None:
    """CARLA counts bicycles among the vehicles, and Waymo's class of that name has no rider."""
    ridden = torch.tensor(CLASS_ID["bicycle"], dtype=torch.uint8)
    assert grid.classes[int(from_occ3d(ridden, grid))] == name


def test_what_is_no_class_stays() -> None:
    unknown = torch.tensor([255], dtype=torch.uint8)
    assert torch.equal(to_occ3d(unknown, CARLASC), unknown)
    assert to_occ3d(unknown, OCC3D) is unknown


def test_classes_that_nobody_knows_are_named() -> None:
    odd = replace(CARLASC, classes=("dragon", *CARLASC.classes[1:]))
    with pytest.raises(ValueError, match="found 'dragon'"):
        to_occ3d(every_class(odd), odd)
    with pytest.raises(ValueError, match="found 'manmade'"):
        from_occ3d(every_class(OCC3D), odd)
