"""What is measured in a clip does not depend on whose names its classes have."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.fidelity.description import Description, describe
from scenes.clip import Clip
from scenes.grid import CARLASC, CLASS_ID, FREE, OCC3D_WAYMO, Grid
from scenes.label_sets import from_occ3d


def _in_classes_of(named: Grid, clip: Clip, grid: Grid) -> Description:
    """The clip, whose voxels are on `grid`, described in the classes of another grid."""
    own = replace(grid, classes=named.classes, colours=named.colours)
    return describe([replace(clip, occupancy=from_occ3d(clip.occupancy, own))], own, len(clip.occupancy), [], pairs=2)


@pytest.mark.parametrize("named", [CARLASC, OCC3D_WAYMO])
def test_agents_change_and_motion_are_those_of_the_scene_in_every_label_set(
    named: Grid, true_clips: list[Clip], grid: Grid
) -> None:
    """In CarlaSC the cyclist is a vehicle, an agent still; ids of road, ground and poles are those of agents in Occ3D."""
    clip = true_clips[0]
    occupancy = clip.occupancy.clone()
    occupancy[:, 2:8, 2:8] = FREE  # away from all others, so that no two agents become one of a common class
    occupancy[:, 4, 4, 1:3] = CLASS_ID["bicycle"]
    clip = replace(clip, occupancy=occupancy)
    expected, found = describe([clip], grid, len(occupancy), [], pairs=2), _in_classes_of(named, clip, grid)
    assert int(expected.histograms["agents"].sum()) > len(occupancy)
    assert torch.equal(found.histograms["agents"], expected.histograms["agents"])
    assert torch.equal(found.commanded, expected.commanded)
    assert float(expected.commanded[..., 0].min()) > 1.0
    torch.testing.assert_close(found.found, expected.found, atol=0.05, rtol=0.0)
    torch.testing.assert_close(found.found, found.commanded, atol=0.2, rtol=0.0)
