"""Baselines: what is copied, what is carried along, and agents that move on as they moved."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models import metrics
from models.baselines import ConstantVelocityWorldModel, CopyWorldModel, agent_blobs, follow_agents
from models.warp import WarpWorldModel
from scenes.grid import AGENTS, CLASS_ID, FREE, MINI
from scenes.motion import motion_from_poses
from scenes.render import render
from scenes.scene import Scene

CAR, PEDESTRIAN = CLASS_ID["car"], CLASS_ID["pedestrian"]


def _clip(scene: Scene, frames: int = 16, start: float = 1.0) -> tuple[Tensor, Tensor]:
    times = start + torch.arange(frames) * scene.dt
    poses = scene.ego_poses(0, times)
    return render(scene, poses, times, MINI, ego=0).unsqueeze(0), motion_from_poses(poses).unsqueeze(0)


def _still(**boxes: tuple[int, int, int, int]) -> Tensor:
    """A frame with one blob a class name: columns i0:i1, j0:j1, layer 1."""
    frame = torch.full(MINI.shape, FREE, dtype=torch.uint8)
    frame[:, :, 0] = CLASS_ID["driveable_surface"]
    for name, (i0, i1, j0, j1) in boxes.items():
        frame[i0:i1, j0:j1, 1] = CLASS_ID[name]
    return frame


def test_copy_repeats_the_last_frame(town: Callable[..., Scene]) -> None:
    occupancy, motion = _clip(town(0))
    model = CopyWorldModel(MINI)
    rollout = model.start(occupancy[:, :4], motion[:, :4], torch.zeros(1, dtype=torch.int64))
    chunk = model.advance(rollout, motion[:, 4:6])
    assert chunk.voxels is not None
    assert torch.equal(chunk.voxels, occupancy[:, 3:4].expand(-1, 2, -1, -1, -1))
    assert model.advance(rollout, motion[:, 6:8], decode=False).voxels is None


def test_blobs_are_the_connected_columns_of_one_class() -> None:
    frame = _still(car=(10, 16, 10, 12), pedestrian=(16, 17, 12, 13), bus=(30, 44, 30, 34))
    frame[60:63, 60:62, 1] = CAR
    frame[63, 62, 1] = CAR  # touches by a corner
    classes, blobs = agent_blobs(frame[None])
    assert len(blobs.unique()) == 5
    assert blobs[0, 63, 62] == blobs[0, 60, 60]
    assert blobs[0, 16, 12] != blobs[0, 15, 11]
    assert bool(((blobs > 0) == (classes >= 0)).all())


def test_a_moving_car_moves_on_and_a_parked_one_stays() -> None:
    frames = torch.stack([_still(car=(20 + 2 * t, 26 + 2 * t, 40, 42), pedestrian=(70, 71, 70, 71)) for t in range(8)])
    model = ConstantVelocityWorldModel(MINI)
    history = frames[: model.history_frames - 2]
    motion = torch.zeros(1, 8, 3)
    rollout = model.start(history[None], motion[:, : len(history)], torch.zeros(1, dtype=torch.int64))
    first = model.advance(rollout, motion[:, :2]).voxels
    second = model.advance(rollout, motion[:, :2]).voxels
    assert first is not None
    assert second is not None
    assert torch.equal(torch.cat((first, second), dim=1)[0], frames[len(history) : len(history) + 4])


@pytest.mark.parametrize("turn", [0.0, 0.1])
def test_velocity_is_over_ground_whatever_the_ego_does(town: Callable[..., Scene], turn: float) -> None:
    scene = town(3)
    times = 1.0 + torch.arange(5) * scene.dt
    poses = scene.ego_poses(0, times)
    poses[:, 2] += turn * torch.arange(5)
    occupancy = render(scene, poses, times, MINI, ego=0)
    blobs, velocity = follow_agents(occupancy, motion_from_poses(poses), MINI, scene.dt)
    found = torch.stack([velocity[blobs == number][0].norm() for number in blobs[blobs > 0].unique()])
    tracks = scene.tracks
    speeds = (tracks.poses[1:, 1, :2] - tracks.poses[1:, 0, :2]).norm(dim=-1) / scene.dt
    assert int((found > 3).sum()) >= 2
    for speed in found[found > 3]:
        assert float((speeds - speed).abs().min()) < 1.0
    assert int((found == 0).sum()) >= 3  # parked cars do not creep by rounding


def test_agents_moved_on_fit_better_than_agents_left_behind(town: Callable[..., Scene]) -> None:
    scores: dict[str, list[Tensor]] = {"cv": [], "warp": [], "copy": []}
    models = {"cv": ConstantVelocityWorldModel(MINI), "warp": WarpWorldModel(MINI), "copy": CopyWorldModel(MINI)}
    for seed in range(3):
        occupancy, motion = _clip(town(seed))
        for name, model in models.items():
            rollout = model.start(occupancy[:, :6], motion[:, :6], torch.zeros(1, dtype=torch.int64))
            voxels = torch.cat([model.advance(rollout, motion[:, t : t + 2]).voxels for t in range(6, 10, 2)], dim=1)
            scores[name].append(metrics.confusion(occupancy[:, 6:10], voxels, 18))
    total = {name: sum(parts) for name, parts in scores.items()}
    agents = {name: metrics.miou(matrix, AGENTS) for name, matrix in total.items()}
    assert agents["cv"] > agents["warp"] + 0.1 > agents["copy"] + 0.1
    assert metrics.miou(total["cv"]) > metrics.miou(total["warp"]) > metrics.miou(total["copy"])


def test_worlds_do_not_touch_each_other(town: Callable[..., Scene]) -> None:
    pairs = [_clip(town(seed)) for seed in range(2)]
    occupancy, motion = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    model = ConstantVelocityWorldModel(MINI)
    seeds = torch.zeros(2, dtype=torch.int64)
    both = model.advance(model.start(occupancy[:, :6], motion[:, :6], seeds), motion[:, 6:8]).voxels
    alone = model.advance(model.start(occupancy[1:, :6], motion[1:, :6], seeds[1:]), motion[1:, 6:8]).voxels
    assert both is not None
    assert alone is not None
    assert torch.equal(both[1:], alone)


def test_a_history_of_one_frame_stands_still() -> None:
    frame = _still(car=(20, 26, 40, 42))
    model = ConstantVelocityWorldModel(MINI)
    rollout = model.start(frame[None, None], torch.zeros(1, 1, 3), torch.zeros(1, dtype=torch.int64))
    chunk = model.advance(rollout, torch.tensor([[[0.0, 0.0, math.pi / 2]] * 2]))
    assert chunk.voxels is not None
    assert int((chunk.voxels[0, 1] == CAR).sum()) == 12
    assert torch.equal(chunk.voxels[0, 1].flip(0, 1), frame)
