"""What is particular about nuScenes recordings: where the ego is, when its rows were measured, how boxes were interpolated."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE = (4.08, 1.73, 1.56)  # length, width, height of its car in metres; recordings interchange length and width
CENTRE_AHEAD = 1.39  # metres that the middle of its box lies ahead of the rear axle, which is what recordings give

_MESSAGE = 0.2  # one lost message of the car's bus stretches a row by this share: rows are every fifth of 50 a second
_DRIFT = 50  # rows over which an unexplained delay is spread
_HALF_WINDOW = 7  # rows to each side over which the boxes of others are averaged
_TAIL = 15  # rows at the end among which the switch from bus messages to key frames is looked for

Array = np.ndarray[Any, Any]


def place_ego(poses: Array, dt: float) -> Array:
    """Poses (T, 3) of the middle of the ego's box, dt seconds apart, from its recorded rows (T, 3) of the rear axle."""
    poses = retime(poses, dt)
    yaw = poses[:, 2]
    centre = poses.copy()
    centre[:, :2] += CENTRE_AHEAD * np.stack((np.cos(yaw), np.sin(yaw)), axis=-1)
    return centre


def retime(poses: Array, dt: float) -> Array:
    """Poses (T, 3) at times 0, dt, 2 dt, ... from rows (T, 3) that were not measured at these times.

    ScenarioNet takes the ego's rows from the car's bus, five messages a row, while everything else is timed by key frames.
    A lost message makes the step to the next row a fifth longer, and all rows after it early by as much; held against the
    real occupancy of a frame, the ego of scene-1077 is 0.12 s ahead of the other cars after six of them. Where the messages
    end before the scene, the last rows are key frames again, mostly a jump back: it shows when the last message was
    measured, and what the lost ones do not explain of that is spread over the last five seconds before.
    """
    rows = np.arange(len(poses))
    ahead = np.stack((np.cos(poses[:-1, 2]), np.sin(poses[:-1, 2])), axis=-1)
    step = (np.diff(poses[:, :2], axis=0) * ahead).sum(1)
    ratio = _against_neighbours(step, dt)
    late = _MESSAGE * np.round((ratio - 1) / _MESSAGE).clip(0, 2) * (ratio > 1.12)
    switch = [row for row in range(max(len(step) - _TAIL, 0), len(step)) if ratio[row] > 1.5 or ratio[row] < 0.9]
    measured = rows + np.concatenate(([0.0], late.cumsum()))
    if switch:
        last = switch[-1]  # the last row from the bus: the next one is on time
        rest = last + 1 - ratio[last] - measured[last]
        measured[: last + 1] += rest * (1 - (last - rows[: last + 1]) / _DRIFT).clip(0)
        keep = np.concatenate((measured[: last + 1] < last + 1, np.ones(len(rows) - last - 1, dtype=bool)))
        measured[last + 1 :] = rows[last + 1 :]
        poses, measured = poses[keep], measured[keep]
    columns = (poses[:, 0], poses[:, 1], np.unwrap(poses[:, 2]))
    return np.stack([np.interp(rows, measured, column) for column in columns], axis=-1)


def smooth(poses: Array, valid: Array) -> Array:
    """Poses (T, 3) of another agent, averaged over half a second to either side within each stretch of validity (T,).

    Its boxes were drawn twice a second and joined by straight lines: its speed would jump twice a second too. The ends of a
    stretch are continued point-symmetrically, so that they stay where they are.
    """
    smoothed = poses.copy()
    window = np.hanning(2 * _HALF_WINDOW + 3)[1:-1]
    edges = np.flatnonzero(np.diff(np.concatenate(([False], valid, [False])).astype(int)))
    for first, end in edges.reshape(-1, 2):
        reach = min(_HALF_WINDOW, end - first - 1)
        if reach < 1:
            continue
        values = np.concatenate((poses[first:end, :2], np.unwrap(poses[first:end, 2])[:, None]), axis=1)
        before, after = 2 * values[0] - values[reach:0:-1], 2 * values[-1] - values[-2 : -reach - 2 : -1]
        padded = np.concatenate((before, values, after))
        kernel = window[_HALF_WINDOW - reach : _HALF_WINDOW + reach + 1]
        for axis in range(3):
            smoothed[first:end, axis] = np.convolve(padded[:, axis], kernel / kernel.sum(), mode="valid")
    return smoothed


def _against_neighbours(step: Array, dt: float) -> Array:
    """Length of each step (T - 1,) relative to the steps about it, 1 where the car is too slow to tell.

    A step counts as too long only if it is longer than those before and those after it, so that braking does not.
    """
    padded = np.pad(step, 3, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3)
    before, after = np.median(windows[: len(step)], axis=1), np.median(windows[4 : 4 + len(step)], axis=1)
    high, low = np.maximum(before, after), np.minimum(before, after)
    reference = np.where(step > high, high, np.where(step < low, low, step))
    return np.where(low > 2.0 * dt, step / np.maximum(reference, 1e-9), 1.0)
