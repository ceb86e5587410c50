"""nuPlan's types of collisions, on voxels, by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from agents.evaluation.collisions import CollisionType, collision_of, collision_type, in_lane, no_at_fault_collision
from agents.evaluation.episode import Episode

BOX = np.array([4.6, 1.8, 1.4])
HERE = np.zeros(3)
Make, Crash = Callable[..., Episode], Callable[[str, int], np.ndarray]


@pytest.mark.parametrize(
    ("speed", "other", "at", "kind"),
    [
        (0.04, 5.0, (4.0, 0.0), CollisionType.STOPPED_EGO),
        (8.0, 0.5, (4.0, 0.0), CollisionType.STOPPED_TRACK),
        (8.0, 5.0, (4.0, 0.0), CollisionType.ACTIVE_FRONT),
        (8.0, 5.0, (2.5, 0.0), CollisionType.ACTIVE_FRONT),  # as deep as both have driven since the state before
        (2.0, 2.0, (2.5, 0.6), CollisionType.ACTIVE_LATERAL),
        (8.0, 5.0, (1.0, 1.0), CollisionType.ACTIVE_LATERAL),
        (8.0, 12.0, (-1.0, 0.3), CollisionType.ACTIVE_REAR),
    ],
)
def test_types(speed: float, other: float, at: tuple[float, float], kind: CollisionType) -> None:
    assert collision_type(HERE, speed, BOX, np.array([at]), other, voxel=0.8, dt=1 / 12) is kind


@pytest.mark.parametrize("speed", [4.0, 6.0, 8.0, 10.0, 12.0])
@pytest.mark.parametrize("late", [0.0, 0.05, 0.11, 0.17, 0.21])
def test_a_walker_before_the_front_is_the_egos_fault(
    speed: float, late: float, drive_straight: Make, last_step_hits: Crash
) -> None:
    """Crossing at 1.2 m/s and in the middle of the lane when the front arrives, however the frames fall."""
    meeting = 2.6 + late
    walker = ("pedestrian", 3.7 + speed * meeting, -1.2 * meeting, 0.0, 1.2, 0.8, 0.8)
    crash = last_step_hits("pedestrian", 6)
    found = collision_of(drive_straight(speed=speed, steps=6, agents=(walker,), collision_class=crash))
    assert found is not None
    assert found.kind in (CollisionType.ACTIVE_FRONT, CollisionType.STOPPED_TRACK)
    assert found.at_fault


def test_a_standing_car_ahead_is_the_egos_fault(drive_straight: Make, last_step_hits: Crash) -> None:
    """The front is at 3.7 + 8 t m, the other's rear at 31.2 m: they meet at 3.44 s."""
    ahead = ("car", 33.6, 0.0, 0.0, 0.0, 4.8, 2.0)
    found = collision_of(drive_straight(speed=8.0, steps=8, agents=(ahead,), collision_class=last_step_hits("car", 8)))
    assert found is not None
    assert (found.hit, found.kind, found.at_fault) == ("car", CollisionType.STOPPED_TRACK, True)
    assert found.seconds == pytest.approx(3.5, abs=0.17)
    assert found.ego_speed == 8.0
    assert no_at_fault_collision(found) == 0.0


def test_a_slower_car_ahead_is_hit_by_the_front(drive_straight: Make, last_step_hits: Crash) -> None:
    ahead = ("truck", 22.4, 0.0, 4.0, 0.0, 8.0, 2.4)  # its rear is 14.7 m before the front, 4 m/s slower
    found = collision_of(drive_straight(speed=8.0, steps=8, agents=(ahead,), collision_class=last_step_hits("truck", 8)))
    assert found is not None
    assert (found.kind, found.at_fault) == (CollisionType.ACTIVE_FRONT, True)
    assert found.other_speed == pytest.approx(4.0, abs=0.8)


def test_who_is_rear_ended_is_not_at_fault(drive_straight: Make, last_step_hits: Crash) -> None:
    behind = ("car", -19.0, 0.0, 8.0, 0.0, 4.8, 2.0)
    episode = drive_straight(speed=4.0, steps=8, agents=(behind,), collision_class=last_step_hits("car", 8))
    found = collision_of(episode)
    assert found is not None
    assert (found.kind, found.at_fault) == (CollisionType.ACTIVE_REAR, False)
    assert no_at_fault_collision(found) == 1.0


@pytest.mark.parametrize(("y", "at_fault"), [(0.0, False), (1.4, True)])
def test_a_hit_from_the_side_is_the_egos_fault_between_lanes(
    y: float, at_fault: bool, drive_straight: Make, last_step_hits: Crash
) -> None:
    """Someone on foot walks into the car's side; 1.4 m beside the route its corners are 2.3 m from it."""
    walker = ("pedestrian", 33.0, y + 7.4, 0.0, -1.6, 0.8, 0.8)
    episode = drive_straight(speed=8.0, steps=8, y=y, agents=(walker,), collision_class=last_step_hits("pedestrian", 8))
    found = collision_of(episode)
    assert found is not None
    assert (found.hit, found.kind, found.at_fault) == ("pedestrian", CollisionType.ACTIVE_LATERAL, at_fault)
    assert in_lane(episode.poses[-1], episode.box, episode.route) is not at_fault


@pytest.mark.parametrize(("kind", "term"), [("traffic_cone", 0.5), ("barrier", 0.5), ("manmade", 0.0), ("vegetation", 0.0)])
def test_objects_cost_half(kind: str, term: float, drive_straight: Make, last_step_hits: Crash) -> None:
    ahead = (kind, 34.0, 0.0, 0.0, 0.0, 1.6, 3.2)
    found = collision_of(drive_straight(speed=8.0, steps=8, agents=(ahead,), collision_class=last_step_hits(kind, 8)))
    assert found is not None
    assert found.kind is CollisionType.STOPPED_TRACK
    assert no_at_fault_collision(found) == term


def test_what_vanished_is_still_judged(drive_straight: Make, last_step_hits: Crash) -> None:
    found = collision_of(drive_straight(steps=4, collision_class=last_step_hits("car", 4)))
    assert found is not None
    assert found.seconds == 2.0


def test_no_collision_no_fault(drive_straight: Make) -> None:
    assert collision_of(drive_straight()) is None
    assert no_at_fault_collision(None) == 1.0
