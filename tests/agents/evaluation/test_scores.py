"""Progress and the scores made of the terms, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.evaluation.episode import Episode
from agents.evaluation.progress import expert_progress, progress_ratio, route_progress
from agents.evaluation.scores import cls, pdms, score_episode

Make, Crash = Callable[..., Episode], Callable[[str, int], np.ndarray]
share = st.floats(0, 1)


@pytest.mark.parametrize(
    ("ego", "expert", "ratio"),
    [(10.0, 20.0, 0.5), (30.0, 20.0, 1.0), (0.0, 20.0, 0.1), (0.0, 0.0, 1.0), (1.0, 1.5, 1.0), (-2.5, 20.0, 0.0)],
)
def test_progress_against_the_expert(ego: float, expert: float, ratio: float) -> None:
    assert progress_ratio(ego, expert) == pytest.approx(ratio)


def test_the_expert_counts_as_long_as_it_is_recorded(drive_straight: Make) -> None:
    """4 s at 8 m/s; the recorded driver goes twice as fast for one second."""
    episode = drive_straight(speed=8.0, steps=8, expert=16.0 * 0.25 * np.arange(5))
    assert expert_progress(episode) == pytest.approx(0.5)
    assert expert_progress(replace(episode, expert=np.zeros(1))) == 1.0


def test_who_crashes_stays_while_the_expert_drives_on(drive_straight: Make) -> None:
    episode = drive_straight(speed=8.0, steps=4, horizon=8.0, expert=8.0 * 0.25 * np.arange(33))
    assert expert_progress(episode) == pytest.approx(0.25)


def test_progress_along_the_route(drive_straight: Make) -> None:
    assert route_progress(drive_straight(speed=8.0, steps=8)) == pytest.approx(0.8)  # the target is 10 m/s
    assert route_progress(drive_straight(speed=8.0, steps=8, route_left=36.0)) == pytest.approx(32 / 36)
    assert route_progress(drive_straight(speed=8.0, steps=8, route_completed=np.arange(8) == 7)) == 1.0


def test_an_undisturbed_drive_scores_its_progress(drive_straight: Make) -> None:
    scores = score_episode(drive_straight(speed=8.0, steps=8))
    assert scores.score == pytest.approx(0.8)
    assert (scores.voxel_pdms, scores.voxel_cls) == (1.0, 1.0)
    assert (scores.ending, scores.hit, scores.metres) == ("time limit", "", 32.0)


def test_a_crash_at_fault_scores_nothing(drive_straight: Make, last_step_hits: Crash) -> None:
    ahead = ("car", 33.6, 0.0, 0.0, 0.0, 4.8, 2.0)
    scores = score_episode(drive_straight(speed=8.0, steps=8, agents=(ahead,), collision_class=last_step_hits("car", 8)))
    assert (scores.score, scores.voxel_pdms, scores.voxel_cls) == (0.0, 0.0, 0.0)
    assert (scores.collision, scores.at_fault, scores.hit, scores.ending) == (1.0, 1.0, "car", "collision")


def test_an_object_halves(drive_straight: Make, last_step_hits: Crash) -> None:
    cone = ("traffic_cone", 34.0, 0.0, 0.0, 0.0, 1.6, 3.2)
    scores = score_episode(
        drive_straight(speed=8.0, steps=8, agents=(cone,), collision_class=last_step_hits("traffic_cone", 8))
    )
    assert scores.score == pytest.approx(0.4)
    assert scores.voxel_pdms == pytest.approx(0.5 * (5 + 0 + 2) / 12)  # and the time to collision is 0


@pytest.mark.parametrize("event", ["offroad", "offroute"])
def test_leaving_the_road_or_the_route_scores_nothing(event: str, drive_straight: Make) -> None:
    scores = score_episode(drive_straight(steps=8, **{event: np.arange(8) == 7}))
    assert scores.score == 0.0
    assert getattr(scores, event) == 1.0


def test_formulas() -> None:
    assert pdms(1, 1, 0.5, 1, 0) == pytest.approx((2.5 + 5) / 12)
    assert pdms(0.5, 1, 1, 1, 1) == 0.5
    assert cls(1, 1, 1, 0.5, 0.6, 1, 0.75, 0) == pytest.approx(0.5 * (3 + 5 + 3) / 16)
    assert cls(1, 1, 0, 1, 1, 1, 1, 1) == 0.0


@given(share, share, share, share, share)
def test_scores_lie_between_0_and_1(a: float, b: float, ep: float, ttc: float, comfort: float) -> None:
    assert 0 <= pdms(a, b, ep, ttc, comfort) <= 1 + 1e-12
    assert 0 <= cls(a, b, 1, 1, ep, ttc, ep, comfort) <= 1 + 1e-12
