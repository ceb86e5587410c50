"""The motion found in true clips is the one they were driven with, whatever is written beside them."""

from __future__ import annotations

import math

import pytest
import torch

from models.fidelity.action_response import found_motion, median, others_commands, response_errors
from scenes.clip import Clip
from scenes.grid import Grid


def test_another_command_is_noticed_by_as_much_as_it_differs(true_clips: list[Clip], grid: Grid) -> None:
    clip = true_clips[0]
    wrong = clip.motion.clone()
    wrong[1:, 0] += 0.5
    for motion, metres in ((clip.motion, 0.0), (wrong, 1.0)):  # two frames of 0.25 s lie between those of a pair
        commanded, found = found_motion(clip.occupancy, motion, grid, clip.dt, pairs=2)
        errors = response_errors(commanded, found)
        assert errors.shape == (2, 2)
        assert errors[:, 0].tolist() == pytest.approx([metres, metres], abs=0.15)


def test_what_cannot_be_found_is_infinitely_wrong_and_what_is_out_of_reach_does_not_count(grid: Grid) -> None:
    empty = torch.full((6, *grid.shape), grid.free, dtype=torch.uint8)
    motion = torch.zeros(6, 3)
    assert response_errors(*found_motion(empty, motion, grid, 0.25, pairs=1)).tolist() == [[math.inf, math.inf]]
    motion[1:, 0] = 20.0
    assert response_errors(*found_motion(empty, motion, grid, 0.25, pairs=1)).isnan().all()
    with pytest.raises(ValueError, match="clips of 3 or more, found 2"):
        found_motion(empty[:2], motion[:2], grid, 0.25, pairs=1)


def test_the_median_counts_failures_and_leaves_out_what_is_unknown() -> None:
    assert median(torch.tensor([[1.0, 3.0], [math.nan, 2.0]])) == 2
    assert median(torch.tensor([1.0, math.inf, math.inf])) == math.inf
    assert median(torch.tensor([1.0, 3.0, math.nan])) == 2
    assert math.isnan(median(torch.tensor([math.nan])))


def test_another_command_is_another() -> None:
    """The clip before, around the end, unless it was told the same; nothing where all were told the same."""
    straight, left, right = (
        torch.tensor([[4.0, 0.0, turn], [4.0, 0.0, turn]], dtype=torch.float64) for turn in (0.0, 0.2, -0.2)
    )
    commanded = torch.stack((straight, straight, left, left, right))
    expected = torch.stack((right, right, straight, straight, left))
    assert torch.equal(others_commands(commanded), expected)
    assert others_commands(commanded[:2]).isnan().all()
