"""The list of start states: fixed before anyone drives, so that all planners and worlds begin the same episodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.evaluation.episode import StartState

_TRIES = 200  # draws for one start before the scenes count as used up


def draw_starts(env: Any, count: int, seed: int) -> list[StartState]:
    """`count` distinct moments of the scenes of an OccSoraEnv, drawn as it draws its own, and a seed for each.

    The first of a longer list are those of a shorter one. Raises ValueError where the scenes have too few usable moments.
    """
    bank, scenes = env.simulator.bank, env.simulator.scenes
    seen, starts = set(), []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        for _ in range(_TRIES):
            key = bank.search(rng, {}).key
            if key not in seen:
                break
        else:
            raise ValueError(f"--episodes: the scenes have {number} distinct usable starts, expected {count}")
        seen.add(key)
        scene = scenes[key.scene]
        drawn = int(rng.integers(2**62))
        starts.append(StartState(number, scene.name, scene.tracks.ids[key.ego], float(key.start), drawn))
    return starts
