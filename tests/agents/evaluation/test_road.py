"""Drivable area, direction and speed, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from agents.evaluation.episode import Episode
from agents.evaluation.road import (
    beside_drivable,
    drivable_area_compliance,
    route_direction_compliance,
    speed_limit_compliance,
)
from scenes.grid import CLASS_ID, DRIVABLE, FREE, MINI

Make = Callable[..., Episode]


@pytest.mark.parametrize(("y", "metres"), [(5.5, 0.0), (6.4, 0.0), (6.5, 0.1), (7.0, 0.6), (7.8, np.inf)])
def test_distance_to_drivable_voxels(y: float, metres: float) -> None:
    """Columns with their centre below 6 m are drivable: the last one ends at 6.4 m, where the grid's lines are."""
    y_of = MINI.column_centres().numpy()[..., 1]
    ground = np.where(y_of < 6.1, DRIVABLE, CLASS_ID["terrain"]).astype(np.uint8)
    assert beside_drivable(ground, np.array([[3.0, y]]), MINI)[0] == pytest.approx(metres)


def test_unknown_ground_is_no_exit() -> None:
    ground = np.full(MINI.shape[:2], FREE, dtype=np.uint8)
    assert beside_drivable(ground, np.array([[0.0, 0.0], [90.0, 0.0]]), MINI).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("y", "term"), [(0.0, 1.0), (4.6, 1.0), (5.9, 0.0)])
def test_corners_stay_within_the_tolerance(y: float, term: float, drive_straight: Make) -> None:
    """The car is 0.9 m wide to each side: at 4.6 its left corners are at 5.5 m, at 5.9 at 6.8 m."""
    assert drivable_area_compliance(drive_straight(speed=0.0, steps=2, y=y)) == term


def test_a_wrong_column_of_one_frame_is_no_exit(drive_straight: Make) -> None:
    episode = drive_straight(steps=4)
    ground = episode.ground.copy()
    ground[5] = CLASS_ID["terrain"]
    assert drivable_area_compliance(replace(episode, ground=ground)) == 1.0
    ground[6] = CLASS_ID["terrain"]
    assert drivable_area_compliance(replace(episode, ground=ground)) == 0.0


@pytest.mark.parametrize(
    ("gained", "term"),
    [
        ([0, 4, 8, 12], 1.0),
        ([0, 4, 3.1, 2.2], 1.0),  # 1.8 m back within a second
        ([0, 4, 2.9, 1.8], 0.5),
        ([0, 4, 1.0, -2.0], 0.5),
        ([0, 4, 0.9, -2.2], 0.0),
        ([0, 4, 2.9, 3.5, 2.4], 1.0),  # never two metres within one second
    ],
)
def test_driving_back_along_the_route(gained: list[float], term: float) -> None:
    assert route_direction_compliance(np.array(gained, dtype=float), 0.5) == term


@pytest.mark.parametrize(("speed", "term"), [(9.0, 1.0), (10.0, 1.0), (10.0 + 2.23 / 2, 0.5), (12.23, 0.0), (20.0, 0.0)])
def test_speeding_by_its_mean_excess(speed: float, term: float) -> None:
    assert speed_limit_compliance(np.full(50, speed), 10.0, 0.1) == pytest.approx(term)


def test_speeding_half_of_the_time_costs_half() -> None:
    speed = np.concatenate((np.full(500, 8.0), np.full(500, 10.0 + 2.23)))
    assert speed_limit_compliance(speed, 10.0, 0.1) == pytest.approx(0.5, abs=1e-3)
