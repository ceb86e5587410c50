"""Drive with the keyboard: arrows or WASD to accelerate, brake and steer, R for another start, Esc to leave."""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from occsora.driving import make_env, what_happened
from occworld_env.env import OccSoraEnv
from occworld_env.window import Window


@dataclass(frozen=True)
class Play:
    """Settings of play."""

    scenes: Path | None = None
    """Folder or file to start from: scene files, or ScenarioNet recordings (.pkl). The bundled scenes by default."""
    model: str | None = None
    """World model: a name, a folder, a hub id, or "warp", the rigid baseline. The bundled one by default."""
    seed: int = 0
    """Decides starts and futures."""
    headless: int | None = None
    """Drive this many steps without a window and without keys, then stop."""


COMMAND = Play

_PEDALS = {"up": 1.0, "w": 1.0, "down": -1.0, "s": -1.0, "space": -1.0}
_WHEEL = {"left": 1.0, "a": 1.0, "right": -1.0, "d": -1.0}
_LEAVE, _AGAIN = {"escape", "q"}, {"r"}
_FULL_LOCK_BELOW = 4.0  # m/s up to which a key turns the wheel fully; faster, it turns less


def keys_to_action(pressed: Set[str], speed: float) -> np.ndarray:
    """`control` action, float32 (2,), of the keys that are held down at a speed in m/s; without a pedal the car rolls out."""
    pedal = sum(value for key, value in _PEDALS.items() if key in pressed)
    wheel = sum(value for key, value in _WHEEL.items() if key in pressed)
    reach = min(1.0, (_FULL_LOCK_BELOW / max(speed, 0.1)) ** 1.5)
    coasting = -0.05 if pedal == 0 else 0.0
    return np.clip([pedal + coasting, wheel * reach], -1, 1).astype(np.float32)


def run(config: Play) -> None:
    """Drive until the window is closed; raises ValueError where `headless` is not positive."""
    if config.headless is not None:
        if config.headless < 1:
            raise ValueError(f"--headless: expected a positive number of steps, found {config.headless}")
        os.environ["SDL_VIDEODRIVER"] = "dummy"
    env = make_env(config.scenes, config.model)
    try:
        steps, total = drive(env, config)
    finally:
        env.close()
    Console().print(f"{steps} steps, {steps * env.simulator.step_seconds:.1f} s, return {total:+.2f}")


def drive(env: OccSoraEnv, config: Play) -> tuple[int, float]:
    """Step by the keys that are down, one picture a frame in real time; returns the number of steps and the sum of rewards."""
    console, steps, total = Console(), 0, 0.0
    _, info = env.reset(seed=config.seed)
    window = Window("OccSora play", 1e3 if config.headless else 1 / env.world_model.dt)
    window.show(env.picture.draw())
    try:
        while not window.closed and steps != config.headless and not window.typed & _LEAVE:
            if window.typed & _AGAIN:
                _, info = env.reset()
            _, reward, terminated, truncated, info = env.step(keys_to_action(window.pressed, info["speed"]))
            steps, total = steps + 1, total + reward
            _show_chunk(env, window)
            if terminated or truncated:
                console.print(f"episode ended: {what_happened(info)}")
                _, info = env.reset()
    finally:
        window.close()
    return steps, total


def _show_chunk(env: OccSoraEnv, window: Window) -> None:
    """Show the frames of the last step; keys that go down meanwhile all count."""
    typed: set[str] = set()
    for frame in range(env.simulator.frames):
        window.show(env.picture.draw(frame))
        typed |= window.typed
    window.typed = typed
