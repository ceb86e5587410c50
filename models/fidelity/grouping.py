"""Groups of clips: by where they come from, or by how the ego drives in them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STILL, TURN, FASTER = 0.5, math.radians(20), 2.0  # mean m/s below it, radians in all, and m/s between first and last second


def by_source(sources: list[str]) -> dict[str, Tensor]:
    """Numbers of the clips, int64, of each group of sources: what is before the last slash, so "sumo/40" is of "sumo"."""
    return _grouped([source.rpartition("/")[0] or source for source in sources])


def by_trajectory(motion: Tensor, dt: float) -> dict[str, Tensor]:
    """Numbers of the clips, int64, of each type of trajectory, from motion (N, T, 3)."""
    return _grouped([trajectory_type(one, dt) for one in motion])


def trajectory_type(motion: Tensor, dt: float) -> str:
    """One of still, left, right, accelerate, brake and straight, of motion (T, 3), whose first row is none.

    Still is slower than 0.5 m/s on average; a turn is one of more than 20 degrees from first to last frame; accelerating and
    braking change the speed by more than 2 m/s between the first second and the last.
    """
    speed = motion[1:, :2].norm(dim=-1) / dt
    if not len(speed) or float(speed.mean()) < STILL:
        return "still"
    yaw = float(motion[1:, 2].sum())
    if abs(yaw) > TURN:
        return "left" if yaw > 0 else "right"
    second = max(round(1 / dt), 1)
    gain = float(speed[-second:].mean() - speed[:second].mean())
    if abs(gain) > FASTER:
        return "accelerate" if gain > 0 else "brake"
    return "straight"


def _grouped(names: list[str]) -> dict[str, Tensor]:
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(name, []).append(number)
    return {name: torch.tensor(groups[name]) for name in sorted(groups)}
