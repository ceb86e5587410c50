"""Groups of clips by source and by how the ego drives."""

from __future__ import annotations

import pytest
import torch

from models.fidelity.grouping import by_source, by_trajectory, trajectory_type

DT = 0.25


def drive(speeds: list[float], yaw: float = 0.0) -> torch.Tensor:
    """Motion (T, 3) with these speeds in m/s, turning by `yaw` radians in all."""
    motion = torch.zeros(len(speeds) + 1, 3)
    motion[1:, 0] = torch.tensor(speeds) * DT
    motion[1:, 2] = yaw / len(speeds)
    return motion


@pytest.mark.parametrize(
    ("motion", "kind"),
    [
        (drive([0.1] * 8), "still"),
        (drive([5.0] * 8), "straight"),
        (drive([5.0] * 8, yaw=0.3), "straight"),
        (drive([5.0] * 8, yaw=0.5), "left"),
        (drive([5.0] * 8, yaw=-0.5), "right"),
        (drive([2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5]), "straight"),
        (drive([2.0] * 4 + [5.0] * 4), "accelerate"),
        (drive([5.0] * 4 + [2.0] * 4), "brake"),
        (torch.zeros(1, 3), "still"),
    ],
)
def test_types_of_trajectories(motion: torch.Tensor, kind: str) -> None:
    assert trajectory_type(motion, DT) == kind


def test_groups_hold_every_clip_once() -> None:
    groups = by_source(["sumo/1", "made/left/0", "sumo/2", "alone", "made/right/0", "made/left/1"])
    assert {name: index.tolist() for name, index in groups.items()} == {
        "alone": [3],
        "made/left": [1, 5],
        "made/right": [4],
        "sumo": [0, 2],
    }
    turns = by_trajectory(torch.stack([drive([5.0] * 8, yaw) for yaw in (1.0, -1.0, 1.0)]), DT)
    assert {name: index.tolist() for name, index in turns.items()} == {"left": [0, 2], "right": [1]}
