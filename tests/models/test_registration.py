"""Registration finds known motions in rendered scenes, and does not find what is not there."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.registration import motion_errors, register
from models.warp import warp
from scenes.grid import CLASS_ID, FREE, MINI, OCC3D, Grid
from scenes.motion import compose
from scenes.render import render
from scenes.scene import Scene

MOTIONS = torch.tensor(
    [
        [0.0, 0.0, 0.0],
        [3.0, 0.1, 0.0],
        [7.9, 0.6, 0.16],
        [5.1, -0.5, -0.21],
        [1.3, 0.2, 0.33],
        [-1.0, 0.0, 0.05],
        [2.0, 0.2, -0.5],
    ],
    dtype=torch.float64,
)


def _pairs(scene: Scene, motions: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    times = torch.linspace(1.0, 7.0, len(motions))
    poses = scene.ego_poses(0, times)
    first = render(scene, poses, times, grid, ego=0)
    return first, render(scene, compose(poses, motions), times + 0.5, grid, ego=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_known_motions_are_recovered_below_the_size_of_a_voxel(town: Callable[..., Scene], seed: int) -> None:
    first, second = _pairs(town(seed), MOTIONS, MINI)
    estimated, residual = register(first, second, MINI)
    distance, angle = motion_errors(estimated, MOTIONS)
    assert float(distance.median()) < 0.1
    assert float(angle.median()) < 0.15
    assert float(distance.max()) < 0.2
    assert float(angle.max()) < 0.3
    assert float(residual.max()) < 0.1


def test_finer_voxels_give_a_finer_answer(town: Callable[..., Scene]) -> None:
    first, second = _pairs(town(4), MOTIONS[2:4], OCC3D)
    distance, angle = motion_errors(register(first, second, OCC3D)[0], MOTIONS[2:4])
    assert float(distance.max()) < 0.05
    assert float(angle.max()) < 0.1


def test_a_world_that_ignores_the_command_is_found_out(town: Callable[..., Scene]) -> None:
    first, _ = _pairs(town(1), MOTIONS[:3], MINI)
    frozen, _ = register(first, first, MINI)
    assert torch.allclose(frozen, torch.zeros_like(frozen), atol=1e-3)
    other = torch.tensor([[6.0, 0.0, 0.1]], dtype=torch.float64)
    swapped = warp(first[:1], other, MINI, FREE)
    distance, angle = motion_errors(register(first[:1], swapped, MINI)[0], other)
    assert float(distance) < 0.2
    assert float(angle) < 0.3
    assert float(motion_errors(register(first[:1], swapped, MINI)[0], MOTIONS[1:2])[0]) > 2.0


def test_things_that_vanish_or_appear_do_not_mislead(town: Callable[..., Scene]) -> None:
    first, second = _pairs(town(2), MOTIONS[2:4], MINI)
    second = second.clone()
    second[:, :30, :, 1:] = FREE
    second[:, 70:80, 20:40, 1:5] = CLASS_ID["manmade"]
    second[:, 40:50, 40:46, 1:3] = CLASS_ID["car"]
    distance, angle = motion_errors(register(first, second, MINI)[0], MOTIONS[2:4])
    assert float(distance.max()) < 0.3
    assert float(angle.max()) < 0.5


def test_frames_without_structure_give_nan() -> None:
    empty = torch.full((1, *MINI.shape), FREE, dtype=torch.uint8)
    pose, residual = register(empty, empty, MINI)
    assert bool(pose.isnan().all())
    assert bool(residual.isnan().all())


def test_errors_are_measured_in_metres_and_degrees() -> None:
    a = torch.tensor([[1.0, 2.0, math.pi - 0.01]])
    b = torch.tensor([[4.0, 6.0, -math.pi + 0.01]])
    distance, angle = motion_errors(a, b)
    assert float(distance) == pytest.approx(5.0)
    assert float(angle) == pytest.approx(math.degrees(0.02), rel=1e-3)


def test_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="second"):
        register(torch.zeros(1, *MINI.shape, dtype=torch.uint8), torch.zeros(1, 4, 4, 4, dtype=torch.uint8), MINI)
