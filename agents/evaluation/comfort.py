"""nuPlan's `ego_is_comfortable`: six bounds on accelerations, jerks and yaw, on signals smoothed as nuPlan smooths them."""

from __future__ import annotations

import numpy as np
from scipy.signal import savgol_filter

from occworld_env.reward import NUPLAN, ComfortBounds

Array = np.ndarray
SIGNALS = ("longitudinal", "lateral", "jerk", "longitudinal_jerk", "yaw_rate", "yaw_acceleration")
_ACCELERATION_WINDOW, _JERK_WINDOW, _DERIVATIVE_WINDOW = 8, 15, 5
# nuPlan's yaw functions take window_length=15 and never pass it on, so theirs is the default of 5; kept, as NAVSIM keeps it.
_YAW_WINDOW = _DERIVATIVE_WINDOW


def smoothed(values: Array) -> Array:
    """Acceleration (N,) through nuPlan's Savitzky-Golay filter: window 8, second order; as it is where that does not fit."""
    if len(values) <= 2:
        return values
    return savgol_filter(values, window_length=min(_ACCELERATION_WINDOW, len(values)), polyorder=2)


def derivative(values: Array, dt: float, window: int, polyorder: int = 2, order: int = 1) -> Array:
    """Derivative (N,) of values (N,) that are dt seconds apart, by a Savitzky-Golay filter of at most `window` points.

    Zero where there are too few values for the filter, as of an episode that ends in its first step.
    """
    if len(values) <= polyorder:
        return np.zeros_like(values)
    return savgol_filter(values, window_length=min(window, len(values)), polyorder=polyorder, deriv=order, delta=dt)


def comfort_signals(speed: Array, acceleration: Array, yaw: Array, dt: float, centre_ahead: float = 0.0) -> dict[str, Array]:
    """The six signals of `SIGNALS`, (N,) each, of a car's states dt seconds apart.

    speed (N,) m/s and acceleration (N,) m/s^2 along the car at its rear axle, yaw (N,) radians. nuPlan takes accelerations at
    the centre of the car, centre_ahead metres before the rear axle. Its simulated rear axle has no lateral acceleration; here
    it has the centripetal one.
    """
    heading = np.unwrap(yaw)
    rate = derivative(heading, dt, _YAW_WINDOW)
    turn = derivative(heading, dt, _YAW_WINDOW, polyorder=3, order=2)
    along = acceleration - rate**2 * centre_ahead
    across = speed * rate + turn * centre_ahead
    longitudinal, lateral, magnitude = (smoothed(part) for part in (along, across, np.hypot(along, across)))
    return {
        "longitudinal": longitudinal,
        "lateral": lateral,
        "jerk": derivative(magnitude, dt, _JERK_WINDOW),
        "longitudinal_jerk": derivative(longitudinal, dt, _JERK_WINDOW),
        "yaw_rate": rate,
        "yaw_acceleration": turn,
    }


def comfort_kept(signals: dict[str, Array], bounds: ComfortBounds = NUPLAN) -> dict[str, bool]:
    """Which of the six bounds are kept throughout; an ego is comfortable where all are."""
    sides = {
        "lateral": bounds.lateral,
        "jerk": bounds.jerk,
        "longitudinal_jerk": bounds.longitudinal_jerk,
        "yaw_rate": bounds.yaw_rate,
        "yaw_acceleration": bounds.yaw_acceleration,
    }
    along = signals["longitudinal"]
    kept = {"longitudinal": bool((along > bounds.braking).all() and (along < bounds.acceleration).all())}
    return kept | {name: bool((np.abs(signals[name]) < side).all()) for name, side in sides.items()}
