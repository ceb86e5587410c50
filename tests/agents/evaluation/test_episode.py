"""Episodes are written and read whole, without pickling, and recorded as they were driven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.constant_velocity import ConstantVelocity
from agents.evaluation.episode import Episode, StartState, load_episode, save_episode
from agents.evaluation.geometry import to_ego
from agents.evaluation.record import record, speeds_along
from agents.evaluation.scores import score_episode
from agents.evaluation.worlds import WorldSettings, check_worlds, open_world
from scenes.bicycle import Bicycle

torch.set_num_threads(1)
Make, Crash = Callable[..., Episode], Callable[[str, int], np.ndarray]


def test_what_is_written_is_read(drive_straight: Make, last_step_hits: Crash, tmp_path: Path) -> None:
    episode = drive_straight(steps=3, collision_class=last_step_hits("bus", 3))
    path = tmp_path / "deep" / "0.npz"
    save_episode(episode, path)
    again = load_episode(path)
    for item in fields(Episode):
        np.testing.assert_array_equal(getattr(again, item.name), getattr(episode, item.name))
    assert score_episode(again) == score_episode(episode)
    assert [item.name for item in path.parent.iterdir()] == ["0.npz"]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 begins like one", b"\x80\x04K\x00."])
def test_other_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.npz: expected a recorded episode"):
        load_episode(tmp_path / "other.npz")


def test_pickles_are_not_opened(drive_straight: Make, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", told=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="expected a recorded episode"):
        load_episode(tmp_path / "bad.npz")


def test_speeds_are_those_of_the_bicycle() -> None:
    bicycle, dt = Bicycle(), 0.1
    rng = np.random.default_rng(0)
    pose, speed = torch.tensor([3.0, 1.0, 3.1], dtype=torch.float64), torch.tensor(6.0, dtype=torch.float64)
    poses, speeds = [pose.numpy()], []
    for pull, wheel in zip(rng.uniform(-6, 3, 30), rng.uniform(-0.5, 0.5, 30), strict=True):
        pose, speed = bicycle.step(pose, speed, torch.tensor(pull), torch.tensor(wheel), dt)
        poses.append(pose.numpy())
        speeds.append(float(speed))
    np.testing.assert_allclose(speeds_along(np.stack(poses), 6.0, dt), speeds, atol=1e-6)


def test_a_drive_is_taken_down_as_it_was(open_folder: Path) -> None:
    env = open_world("warp", WorldSettings(str(open_folder)))
    place = StartState(0, "bent", "ego", 1.0, 2.0, 5)
    episode = record(env, ConstantVelocity(), place, "warp", "cv")
    assert (len(episode.reward), len(episode.frame_poses), len(episode.poses)) == (4, 9, 25)
    assert (episode.ending, episode.seconds, episode.horizon) == ("time limit", pytest.approx(2.0), 2.0)
    np.testing.assert_allclose(episode.speed, 6.0, atol=1e-9)
    np.testing.assert_allclose(np.diff(episode.gained), 3.0, atol=1e-9)
    np.testing.assert_allclose(episode.expert[:20], 1.5 * np.arange(20), atol=1e-6)  # then the road bends
    local = to_ego(episode.frame_poses[0], episode.frame_poses[-1, :2])
    np.testing.assert_allclose(local, [12.0, 0.0], atol=1e-9)
    assert score_episode(episode).no_at_fault_collision == 1.0


def test_a_crash_is_taken_down(walled_folder: Path) -> None:
    env = open_world("warp", WorldSettings(str(walled_folder)))
    place = StartState(0, "bent", "ego", 1.0, 20.0, 5)
    scores = score_episode(record(env, ConstantVelocity(), place, "warp", "cv"))
    assert (scores.hit, scores.collision_type, scores.at_fault) == ("barrier", "stopped track", 1.0)
    reach = 6.0 + scores.metres + 4.6 / 2 + 1.4  # of the front, whose rear axle was at x = 6 m
    assert 39.2 <= reach <= 39.2 + 3.0 + 0.8  # a step's way, and a voxel
    assert scores.score == scores.route_progress / 2


def test_worlds_are_checked() -> None:
    check_worlds(("dream", "warp"))
    with pytest.raises(ValueError, match="--worlds: expected some of dream, reference, warp, found 'moon'"):
        check_worlds(("dream", "moon"))
