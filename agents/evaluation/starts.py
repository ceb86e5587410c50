"""The list of start states: fixed before anyone drives, so that all planners and worlds begin the same episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.evaluation.episode import StartState
from occworld_env.starts import StartKey, UnusableStartError

_TRIES = 200  # draws for one start before the scenes count as used up


def draw_starts(envs: Sequence[Any], count: int, seed: int, max_seconds: float) -> list[StartState]:
    """`count` distinct moments that the first of some worlds draws as it draws its own, and that all of them can begin at.

    envs: OccSoraEnvs on the same scenes. An episode lasts `max_seconds`, or for as long as all the worlds can go on. The first
    starts of a longer list are those of a shorter one. Raises ValueError where the scenes have too few usable moments.
    """
    seen: set[StartKey] = set()
    starts = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        key = _draw(envs, rng, seen)
        if key is None:
            raise ValueError(f"--episodes: the scenes have {number} distinct usable starts, expected {count}")
        seen.add(key)
        scene = envs[0].simulator.scenes[key.scene]
        seconds = min(max_seconds, *(_seconds_left(env.simulator, key) for env in envs))
        drawn = int(rng.integers(2**62))
        starts.append(StartState(number, scene.name, scene.tracks.ids[key.ego], float(key.start), seconds, drawn))
    return starts


def _draw(envs: Sequence[Any], rng: np.random.Generator, seen: set[StartKey]) -> StartKey | None:
    """A start that was not seen before and that all worlds can use, None where there is none in _TRIES draws."""
    config = envs[0].simulator.config
    for _ in range(_TRIES):
        key = envs[0].simulator.bank.search(rng, {}).key
        if key in seen:
            continue
        try:
            for env in envs[1:]:
                env.simulator.bank.get(key, config.min_route, config.min_speed)
        except UnusableStartError:
            continue
        return key
    return None


def _seconds_left(simulator: Any, key: StartKey) -> float:
    """How long a world can go on from a start: a recording that is played again ends, all others are endless."""
    scene = simulator.scenes[key.scene]
    if not hasattr(simulator, "dynamics_of") or simulator.dynamics_of(scene) != "replay":
        return math.inf
    step = simulator.step_seconds
    return max(step, step * math.floor((scene.duration - key.start) / step + 1e-6))
