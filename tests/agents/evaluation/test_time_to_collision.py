"""Time to collision at constant velocities, worked out by hand, and velocities read off voxels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.evaluation.collisions import collision_of
from agents.evaluation.episode import Episode
from agents.evaluation.time_to_collision import least_time_to_collision, time_to_collision
from agents.evaluation.voxel_agents import VoxelAgent, agents_at
from occworld_env.footprint import VEHICLE

BOX = np.array([4.6, 1.8, 1.4])
Make, Crash = Callable[..., Episode], Callable[[str, int], np.ndarray]


def at(x: float, y: float, vx: float = 0.0, vy: float = 0.0) -> VoxelAgent:
    return VoxelAgent(VEHICLE, np.array([[x, y]]), np.array([vx, vy]))


@pytest.mark.parametrize(
    ("agent", "seconds"),
    [
        (at(13.65, 0.0), 1.0),  # 9.95 m ahead of the front at 3.7 m, closing at 10 m/s
        (at(13.65, 0.0, vx=5.0), 2.0),
        (at(13.65, 0.0, vx=10.0), np.inf),
        (at(60.0, 0.0), np.inf),  # beyond 3 s
        (at(13.65, 5.95, vy=-5.0), 1.1),  # crosses: at 1 s its y is 0.95, beside the car's 0.9
        (at(5.0, 4.0, vx=10.0, vy=-4.0), np.inf),  # stays ahead of the front
        (at(3.0, 4.0, vx=10.0, vy=-4.0), 0.8),
    ],
)
def test_by_hand(agent: VoxelAgent, seconds: float) -> None:
    assert time_to_collision(np.zeros(3), 10.0, BOX, [agent]) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("y", "place", "velocity", "counts"),
    [
        (0.0, (20.0, 0.0), (0.0, 0.0), True),
        (0.0, (6.4, 6.4), (4.8, -6.4), False),  # 45 degrees to the side, and the ego is in its lane
        (1.4, (6.4, 6.4), (4.8, -6.4), True),  # and here it is not
        (1.4, (-12.0, 0.0), (16.0, 0.0), False),  # behind
    ],
)
def test_who_counts(
    y: float, place: tuple[float, float], velocity: tuple[float, float], counts: bool, drive_straight: Make
) -> None:
    """All of them would meet the ego, which drives at 8 m/s, within 2 s."""
    other = ("car", place[0], y + place[1], *velocity, 1.6, 1.6)
    episode = drive_straight(speed=8.0, steps=1, y=y, agents=(other,))
    agent = agents_at(episode, 0)[0]
    assert time_to_collision(episode.poses[0], 8.0, episode.box, [agent]) < 2.1
    assert (least_time_to_collision(episode, None) < 3.0) is counts


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(-3.1, 3.1))
def test_it_is_the_same_anywhere_in_the_world(x: float, y: float, yaw: float) -> None:
    pose = np.array([x, y, yaw])
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    moved = VoxelAgent(VEHICLE, np.array([[13.66, 0.2]]) @ turn.T + (x, y), turn @ (3.0, 0.0))
    assert time_to_collision(pose, 10.0, BOX, [moved]) == pytest.approx(1.5)


@pytest.mark.parametrize("velocity", [(0.0, 0.0), (4.8, 0.0), (9.6, 0.0), (0.0, -3.2)])
def test_velocities_are_read_off_voxels(velocity: tuple[float, float], drive_straight: Make) -> None:
    car = ("car", 6.0, 4.0, *velocity, 4.8, 2.4)
    for frame in (0, 6):
        agents = agents_at(drive_straight(speed=6.4, steps=4, agents=(car,)), frame)
        assert len(agents) == 1
        np.testing.assert_allclose(agents[0].velocity, velocity, atol=0.81)


def test_neighbours_of_one_kind_stay_what_they_are(drive_straight: Make) -> None:
    queue = tuple(("car", x, 3.0, 0.0, 0.0, 4.8, 2.4) for x in (6.0, 12.4, 18.8))
    agents = agents_at(drive_straight(speed=8.0, agents=queue), 5)
    assert len(agents) == 3
    assert not any(agent.velocity.any() for agent in agents)


def test_least_over_an_episode(drive_straight: Make) -> None:
    """8 m/s towards a standing car: after 4 s the front is at 35.7 m, 0.9 s or so before its rear at 43 m."""
    ahead = ("car", 45.2, 0.0, 0.0, 0.0, 4.4, 2.0)
    found = least_time_to_collision(drive_straight(speed=8.0, steps=8, agents=(ahead,)), None)
    assert found == pytest.approx(0.9, abs=0.1)


def test_standing_egos_have_none(drive_straight: Make) -> None:
    oncoming = ("car", 10.0, 0.0, -4.0, 0.0, 4.8, 2.0)
    assert least_time_to_collision(drive_straight(speed=0.0, steps=2, agents=(oncoming,)), None) == np.inf


def test_zero_at_a_collision_at_fault(drive_straight: Make, last_step_hits: Crash) -> None:
    ahead = ("car", 33.6, 0.0, 0.0, 0.0, 4.8, 2.0)
    episode = drive_straight(speed=8.0, steps=8, agents=(ahead,), collision_class=last_step_hits("car", 8))
    assert least_time_to_collision(episode, collision_of(episode)) == 0.0
