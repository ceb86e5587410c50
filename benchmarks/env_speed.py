"""Steps a second of `OccSora-v0` or `OccSoraReference-v0` by default settings, and where the time goes: prints JSON.

    python benchmarks/env_speed.py --device cpu --num-envs 1 --json -
    python benchmarks/env_speed.py --device cpu --num-envs 8 --json -
    python benchmarks/env_speed.py --env OccSoraReference-v0 --warm-up 400 --json -     (until the towns are open)

Wall time of the loop that a user writes: actions, steps, and resets where an episode ends. The parts are measured in a
second run, so that measuring them costs the first one nothing.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import machine
import numpy as np
import torch
import tyro
from step_parts import finish, timed

import occworld_env  # noqa: F401  (registers the environment)
from models.presets import preset
from models.world_model import LearnedWorldModel


@dataclass(frozen=True)
class Config:
    """What to measure and for how long."""

    env: Literal["OccSora-v0", "OccSoraReference-v0"] = "OccSora-v0"
    """The environment."""
    device: str = "cpu"
    """Torch device of the environment."""
    num_envs: int = 1
    """Worlds; 1 measures gymnasium.make, more measure gymnasium.make_vec."""
    seconds: float = 20.0
    """Time measured."""
    warm_up: int = 5
    """Steps taken before anything is measured."""
    actions: Literal["random", "zero"] = "random"
    """What the cars do."""
    model: str = ""
    """World model: by default the bundled one, or a folder, or "untrained", which has the same speed."""
    scenes: Path | None = None
    """Folder of scene files; by default the bundled scenes."""
    threads: int = 0
    """Torch threads; 0 leaves torch's choice."""
    parts: bool = True
    """Whether to measure the parts of a step as well."""
    seed: int = 0
    """Seed of starts and actions."""
    json: str = "-"
    """Where to write JSON: a file, or - for standard output."""


def make(config: Config) -> Any:
    """The environment that is measured."""
    settings: dict[str, Any] = {"device": config.device, "scenes": config.scenes}
    if config.model == "untrained":
        torch.manual_seed(0)
        settings["world_model"] = LearnedWorldModel(preset("mini")).eval().requires_grad_(False).to(config.device)
    elif config.model:
        settings["world_model"] = config.model
    if config.num_envs == 1:
        return gym.make(config.env, **settings)
    return gym.make_vec(config.env, num_envs=config.num_envs, **settings)


class Driver:
    """Steps the environment and resets it where an episode ends."""

    def __init__(self, env: Any, config: Config) -> None:
        self.env, self.config, self.episodes = env, config, 0
        env.action_space.seed(config.seed)
        env.reset(seed=config.seed)

    def step(self) -> None:
        """One step of all worlds; a vector environment resets by itself."""
        action = self.env.action_space.sample()
        if self.config.actions == "zero":
            action = np.zeros_like(action)
        _, _, terminated, truncated, _ = self.env.step(action)
        self.episodes += int(np.sum(np.logical_or(terminated, truncated)))
        if self.config.num_envs == 1 and (terminated or truncated):
            self.env.reset()

    def run(self, seconds: float) -> list[float]:
        """Seconds of each step, for about `seconds` in all, at least three steps."""
        took: list[float] = []
        while len(took) < 3 or sum(took) < seconds:
            begin = time.perf_counter()
            self.step()
            finish(self.config.device)
            took.append(time.perf_counter() - begin)
        return took


def main(config: Config) -> None:
    """Measure and print."""
    if config.threads:
        torch.set_num_threads(config.threads)
    begin = time.perf_counter()
    env = make(config)
    driver = Driver(env, config)
    ready = time.perf_counter() - begin
    machine.say(f"environment ready after {ready:.1f} s")
    for _ in range(config.warm_up):
        driver.step()
    driver.episodes = 0
    busy = time.process_time()
    took = driver.run(config.seconds)
    busy = time.process_time() - busy
    rate = len(took) / sum(took)
    result: dict[str, Any] = {
        "benchmark": "env_speed",
        "config": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()},
        "steps_per_s": round(rate, 3),
        "world_steps_per_s": round(rate * config.num_envs, 3),
        "ms_per_step": {name: round(1e3 * float(np.quantile(took, q)), 2) for name, q in (("median", 0.5), ("p90", 0.9))},
        "cpu_ms_per_step": round(1e3 * busy / len(took), 2),
        "steps": len(took),
        "episodes_ended": driver.episodes,
        "seconds_to_make_and_reset": round(ready, 2),
    }
    simulator = env.unwrapped.simulator
    result["times_real_time"] = round(rate * simulator.step_seconds, 3)
    result["nfe"] = getattr(simulator.model, "denoising_steps", None)
    if config.parts:
        with timed(simulator, config.device) as spent:
            steps = len(driver.run(config.seconds / 2))
        result["parts_ms_per_step"] = {name: round(1e3 * value / steps, 2) for name, value in spent.items()}
    env.close()
    machine.say(f"{rate:.2f} steps/s, {rate * config.num_envs:.2f} world steps/s: {result.get('parts_ms_per_step', '')}")
    machine.write(result | machine.describe(config.device), config.json)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
