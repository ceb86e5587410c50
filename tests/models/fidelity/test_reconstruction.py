"""Reconstruction figures by hand, by the papers' protocol and by ours."""

from __future__ import annotations

import pytest
import torch

from models.fidelity.reconstruction import ReconstructionTally, commonest_classes
from scenes.clip import Clip
from scenes.grid import FREE, Grid

CELL = Grid(shape=(4, 1, 1), voxel=1.0, origin=(0.0, 0.0, 0.0))


def cells(*frames: list[int]) -> torch.Tensor:
    return torch.tensor(frames, dtype=torch.uint8).reshape(1, len(frames), 4, 1, 1)


def test_by_hand_in_both_protocols() -> None:
    """Class 0 is half right in the first frame and absent in the second, where class 1 is right in one cell of two."""
    tally = ReconstructionTally(CELL, 2)
    tally.add(cells([0, 0, FREE, FREE], [1, FREE, FREE, FREE]), cells([0, 1, FREE, FREE], [1, 1, FREE, FREE]))
    found = tally.report()
    # All cells: class 0 hits 1 of 2; class 1 hits 1, and two cells are wrongly of it.
    assert found["miou"] == pytest.approx((1 / 2 + 1 / 3) / 2, abs=1e-5)
    assert found["iou"] == pytest.approx(3 / 4, abs=1e-5)
    # By frame: class 0 has 1/2, and counts as 1 where it is absent; class 1, absent in frame 0, counts as 1 and has 1/2.
    assert found["by_frame"] == pytest.approx([(0.5 + 16) / 17, (0.5 + 16) / 17], abs=1e-5)
    assert found["miou_papers"] == pytest.approx((0.5 + 16) / 17, abs=1e-5)
    assert found["iou_papers"] == pytest.approx((1 + 1 / 2) / 2, abs=1e-5)
    assert found["per_class"]["others"] == pytest.approx(1 / 2)
    assert found["per_class_papers"]["others"] == pytest.approx(3 / 4)
    assert found["per_class"]["car"] is None
    assert found["per_class_papers"]["car"] == 1


def test_clips_are_accumulated_and_not_averaged() -> None:
    tally = ReconstructionTally(CELL, 1)
    tally.add(cells([0, 0, 0, FREE]), cells([0, 0, 0, FREE]))
    tally.add(cells([0, FREE, FREE, FREE]), cells([FREE, FREE, FREE, FREE]))
    assert tally.report()["per_class"]["others"] == pytest.approx(3 / 4)
    assert tally.report()["clips"] == 2


def test_the_baseline_that_keeps_nothing(true_clips: list[Clip], grid: Grid) -> None:
    shown = commonest_classes([cells([0, 0, 1, FREE], [0, 1, 1, FREE])[0], cells([2, 1, 1, FREE])[0]], CELL)
    assert shown.flatten().tolist() == [0, 1, 1, FREE]
    shown = commonest_classes([clip.occupancy for clip in true_clips[:20]], grid)
    tally = ReconstructionTally(grid, 6)
    for clip in true_clips[20:]:
        tally.add(clip.occupancy[None], shown.expand_as(clip.occupancy)[None])
    assert 0.2 > tally.report()["miou"] > 0
