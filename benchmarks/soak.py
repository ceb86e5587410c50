"""An hour of `OccSora-v0` with random actions: steps a second, memory and NaN minute by minute; prints JSON.

    python benchmarks/soak.py --minutes 60 --threads 1 --json -

CPU seconds a step are given beside steps a second: another program on the machine changes the second, not the first.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import machine
import numpy as np
import psutil
import torch
import tyro

import occworld_env  # noqa: F401  (registers the environment)


@dataclass(frozen=True)
class Config:
    """What to drive and for how long."""

    env: Literal["OccSora-v0", "OccSoraReference-v0"] = "OccSora-v0"
    """The environment."""
    minutes: float = 60.0
    """Time driven."""
    device: str = "cpu"
    """Torch device of the environment."""
    threads: int = 0
    """Torch threads; 0 leaves torch's choice."""
    scenes: Path | None = None
    """Folder of scene files; by default the bundled scenes."""
    seed: int = 0
    """Seed of starts and actions."""
    json: str = "-"
    """Where to write JSON: a file, or - for standard output."""


def drive_minute(env: Any, until: float) -> dict[str, float]:
    """Drive until `time.perf_counter` shows `until`; raises ValueError at the first number that is not finite."""
    begin, busy, steps, episodes = time.perf_counter(), time.process_time(), 0, 0
    while time.perf_counter() < until:
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        finite = np.isfinite(observation["vector"]).all() and np.isfinite(info["pose"]).all()
        if not (finite and np.isfinite(reward)):
            raise ValueError(f"step {steps} of this minute, {info['scene']}, seed {info['seed']}: not finite: {reward}, {info}")
        steps += 1
        if terminated or truncated:
            env.reset()
            episodes += 1
    return {
        "steps": steps,
        "episodes": episodes,
        "steps_per_s": round(steps / (time.perf_counter() - begin), 3),
        "cpu_ms_per_step": round(1e3 * (time.process_time() - busy) / max(steps, 1), 1),
        "rss_mib": round(psutil.Process().memory_info().rss / 2**20, 1),
    }


def main(config: Config) -> None:
    """Drive and print."""
    if config.threads:
        torch.set_num_threads(config.threads)
    env = gym.make(config.env, device=config.device, scenes=config.scenes)
    env.action_space.seed(config.seed)
    env.reset(seed=config.seed)
    begin, minutes = time.perf_counter(), []
    while time.perf_counter() < begin + 60 * config.minutes:
        minutes.append(drive_minute(env, min(begin + 60 * (len(minutes) + 1), begin + 60 * config.minutes)))
        machine.say(f"minute {len(minutes)}: {minutes[-1]}")
    env.close()
    told = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}
    machine.write({"benchmark": "soak", "config": told, "minutes": minutes} | machine.describe(config.device), config.json)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
