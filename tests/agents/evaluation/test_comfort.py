"""nuPlan's comfort on signals whose derivatives are known, and its filters as they are, quirks included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import savgol_filter

from agents.evaluation.comfort import SIGNALS, comfort_kept, comfort_signals, derivative, smoothed

DT = 0.1


def at_rest(count: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(count), np.zeros(count), np.zeros(count)


def kept(speed: np.ndarray, acceleration: np.ndarray, yaw: np.ndarray) -> dict[str, bool]:
    return comfort_kept(comfort_signals(speed, acceleration, yaw, DT))


def test_filters_leave_polynomials_of_their_order_alone() -> None:
    t = np.arange(40) * DT
    np.testing.assert_allclose(derivative(t**2, DT, 15), 2 * t, atol=1e-9)
    np.testing.assert_allclose(derivative(t**3, DT, 5, polyorder=3, order=2), 6 * t, atol=1e-6)


def test_the_even_window_shifts_by_half_a_sample() -> None:
    """Which nuPlan's own filter does too: eight points have no middle one."""
    t = np.arange(40) * DT
    inside = slice(4, -4)
    np.testing.assert_allclose(smoothed(t**2)[inside], (t + DT / 2)[inside] ** 2, atol=1e-9)


def test_windows_are_nuplans() -> None:
    rng = np.random.default_rng(0)
    speed, acceleration, yaw = rng.normal(size=(3, 40))
    signals = comfort_signals(speed, acceleration, yaw, DT)
    longitudinal = savgol_filter(acceleration, 8, 2)
    np.testing.assert_allclose(signals["longitudinal"], longitudinal)
    np.testing.assert_allclose(signals["longitudinal_jerk"], savgol_filter(longitudinal, 15, 2, deriv=1, delta=DT))
    unwrapped = np.unwrap(yaw)
    np.testing.assert_allclose(signals["yaw_rate"], savgol_filter(unwrapped, 5, 2, deriv=1, delta=DT))
    np.testing.assert_allclose(signals["yaw_acceleration"], savgol_filter(unwrapped, 5, 3, deriv=2, delta=DT))


@pytest.mark.parametrize("count", [4, 6, 10])
def test_windows_are_clipped_to_short_drives(count: int) -> None:
    assert all(kept(*at_rest(count)).values())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_drive_too_short_for_the_filters_breaks_no_bound(count: int) -> None:
    assert all(kept(*at_rest(count)).values())


@pytest.mark.parametrize(("acceleration", "broken"), [(2.39, False), (2.41, True), (-4.04, False), (-4.06, True)])
def test_longitudinal_bounds(acceleration: float, broken: bool) -> None:
    speed, pull, yaw = at_rest()
    found = kept(speed, pull + acceleration, yaw)
    assert found["longitudinal"] is not broken
    assert all(value for name, value in found.items() if name != "longitudinal")


@pytest.mark.parametrize(("rate", "broken"), [(0.94, False), (0.96, True)])
def test_yaw_rate_and_the_turn_across_pi(rate: float, broken: bool) -> None:
    yaw = (rate * np.arange(40) * DT + 3.0 + np.pi) % (2 * np.pi) - np.pi
    found = kept(*at_rest()[:2], yaw)
    assert found["yaw_rate"] is not broken
    assert found["yaw_acceleration"]


@pytest.mark.parametrize(("speed", "broken"), [(9.7, False), (9.9, True)])
def test_lateral_acceleration_is_speed_times_yaw_rate(speed: float, broken: bool) -> None:
    still, pull, _ = at_rest()
    assert kept(still + speed, pull, 0.5 * np.arange(40) * DT)["lateral"] is not broken  # 4.85 and 4.95 m/s^2


@pytest.mark.parametrize(("name", "bound"), [("jerk", 8.37), ("longitudinal_jerk", 4.13), ("yaw_acceleration", 1.93)])
def test_bounds_hold_to_both_sides(name: str, bound: float) -> None:
    signals = {signal: np.zeros(10) for signal in SIGNALS}
    for value, within in ((bound - 0.01, True), (bound + 0.01, False), (-bound - 0.01, False)):
        signals[name] = np.array([0.0, value])
        assert comfort_kept(signals)[name] is within


def test_a_jerk_is_the_slope_of_the_smoothed_acceleration() -> None:
    signals = comfort_signals(np.zeros(60), 3.0 * np.arange(60) * DT, np.zeros(60), DT)
    inside = slice(12, -12)  # beyond the ends, where the even window jumps by half a sample
    np.testing.assert_allclose(signals["longitudinal_jerk"][inside], 3.0, atol=1e-9)


def test_the_centre_of_the_car_swings_out() -> None:
    yaw = 0.5 * 0.8 * (np.arange(40) * DT) ** 2  # 0.8 rad/s^2
    still, pull, _ = at_rest()
    signals = comfort_signals(still, pull, yaw, DT, centre_ahead=1.5)
    np.testing.assert_allclose(signals["lateral"], 1.2, atol=1e-6)
    assert signals["longitudinal"].min() < -1.5  # centripetal
    assert set(signals) == set(SIGNALS)
