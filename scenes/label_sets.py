"""Class ids of other data sets as those of Occ3D-nuScenes, in which scenes, environment and planners think, and back."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from scenes.grid import CLASSES, Grid

# Classes that have another name in Occ3D-nuScenes, of all data sets that are read.
_TO_OCC3D = {
    "building": "manmade",
    "other": "others",
    "general_object": "others",
    "pole": "manmade",
    "sign": "manmade",
    "traffic_light": "manmade",
    "construction_cone": "traffic_cone",
    "tree_trunk": "vegetation",
    "road": "driveable_surface",
    "walkable": "sidewalk",
    "ground": "terrain",
    "vehicle": "car",
    "cyclist": "bicycle",
}
# Where a data set has no class of that name, the first of these that it has.
_FROM_OCC3D = {
    "others": ("other", "general_object"),
    "barrier": ("general_object",),
    "bus": ("vehicle",),
    "car": ("vehicle",),
    "construction_vehicle": ("vehicle",),
    "motorcycle": ("vehicle",),
    "traffic_cone": ("construction_cone", "barrier"),
    "trailer": ("vehicle",),
    "truck": ("vehicle",),
    "driveable_surface": ("road",),
    "other_flat": ("ground", "walkable"),
    "sidewalk": ("walkable",),
    "terrain": ("ground", "walkable"),
    "manmade": ("building",),
}
# Where its class of that name stands for something else: a bicycle of ours is ridden, which is a cyclist in Occ3D-Waymo and,
# since CARLA has no tag for it, a vehicle in CarlaSC, whose class "bicycle" no recording has.
_RATHER = {"bicycle": ("cyclist", "vehicle")}


def to_occ3d(occupancy: Tensor, grid: Grid) -> Tensor:
    """Class ids on `grid`, uint8 of any shape, as those of Occ3D-nuScenes; ids that are no class stay what they are.

    Raises ValueError where a class of the grid is none of those known here.
    """
    return _translated(occupancy, _table(grid.classes, CLASSES))


def from_occ3d(occupancy: Tensor, grid: Grid) -> Tensor:
    """Class ids of Occ3D-nuScenes, uint8 of any shape, as those of `grid`; the rest is as in `to_occ3d`."""
    return _translated(occupancy, _table(CLASSES, grid.classes))


def _translated(occupancy: Tensor, table: Tensor | None) -> Tensor:
    return occupancy if table is None else table.to(occupancy.device)[occupancy.long()]


@lru_cache(maxsize=8)
def _table(given: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor | None:
    """Id among `wanted` of each id among `given`, uint8 (256,); None where they are the same."""
    if given == wanted:
        return None
    table = torch.arange(256, dtype=torch.uint8)
    for number, name in enumerate(given):
        if wanted == CLASSES:
            names = [name, _TO_OCC3D.get(name, "")]
        else:
            names = [*_RATHER.get(name, ()), name, *_FROM_OCC3D.get(name, ())]
        found = next((other for other in names if other in wanted), None)
        if found is None:
            raise ValueError(f"Grid.classes: expected classes of Occ3D-nuScenes, CarlaSC or Occ3D-Waymo, found {name!r}")
        table[number] = wanted.index(found)
    return table
