"""Episodes built by hand: an ego that drives along world x on a street 12 m wide, and boxes that move beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.evaluation.episode import Episode, StartState
from agents.evaluation.geometry import to_world
from occworld_env.footprint import NO_CLASS
from scenes.grid import CLASS_ID, DRIVABLE, FREE, MINI
from scenes.scene import Scene
from scenes.scene_file import SUFFIX, save_scene

Array = np.ndarray
FRAME_DT, EVERY, STEP_FRAMES = 0.25, 3, 2
BOX = np.array([4.6, 1.8, 1.4])  # the front is 3.7 m before the rear axle
Agent = tuple[str, float, float, float, float, float, float]
"""Class, x, y at time 0, velocity along x and y, length along x, width along y."""


def ground_of(x: Array, y: Array) -> Array:
    """Drivable between y = -6 m and 6 m, terrain beside it."""
    return np.where(np.abs(y) < 6.0, DRIVABLE, CLASS_ID["terrain"]).astype(np.uint8)


def make_episode(speed: float = 8.0, steps: int = 8, agents: tuple[Agent, ...] = (), y: float = 0.0, **changes: Any) -> Episode:
    """`steps` environment steps of 0.5 s at constant speed along y; `changes` are fields of the Episode to set."""
    dt, count = FRAME_DT / EVERY, steps * STEP_FRAMES * EVERY
    time = np.arange(count + 1) * dt
    poses = np.stack((speed * time, np.full_like(time, y), np.zeros_like(time)), axis=-1)
    frames = poses[::EVERY]
    local = MINI.column_centres().numpy()
    ground, obstacle = [], []
    for index, pose in enumerate(frames):
        x, side = np.moveaxis(to_world(pose, local), -1, 0)
        ground.append(ground_of(x, side))
        obstacle.append(np.full(x.shape, FREE, dtype=np.uint8))
        for kind, x0, y0, vx, vy, length, width in agents:
            middle = x0 + vx * index * FRAME_DT, y0 + vy * index * FRAME_DT
            inside = (np.abs(x - middle[0]) <= length / 2) & (np.abs(side - middle[1]) <= width / 2)
            obstacle[-1][inside] = CLASS_ID[kind]
    no = np.zeros(steps, dtype=bool)
    episode = Episode(
        world="dream",
        planner="cv",
        place=StartState(0, "street", "ego", 3.0, 40.0, 7),
        grid=MINI,
        box=BOX,
        route=np.stack((np.arange(-20.0, 400.0, 2.0), np.zeros(210)), axis=-1),
        route_left=380.0,
        target_speed=10.0,
        horizon=steps * 0.5,
        dt=dt,
        frame_dt=FRAME_DT,
        poses=poses,
        speed=np.full(count + 1, speed),
        acceleration=np.zeros(count + 1),
        frame_poses=frames,
        ground=np.stack(ground),
        obstacle=np.stack(obstacle),
        gained=speed * 0.5 * np.arange(steps + 1),
        reward=np.ones(steps),
        collision_class=np.full(steps, NO_CLASS),
        offroad=no,
        offroute=no,
        route_completed=no,
        expert=speed * FRAME_DT * np.arange(steps * STEP_FRAMES + 1),
    )
    return replace(episode, **changes)


def crash(kind: str, steps: int) -> Array:
    """`collision_class` of an episode whose last step hits something of a class."""
    classes = np.full(steps, NO_CLASS)
    classes[-1] = CLASS_ID[kind]
    return classes


@pytest.fixture(scope="session")
def drive_straight() -> Callable[..., Episode]:
    """Maker of episodes, see `make_episode`."""
    return make_episode


@pytest.fixture(scope="session")
def last_step_hits() -> Callable[[str, int], Array]:
    """See `crash`."""
    return crash


@pytest.fixture(scope="session")
def open_folder(street: Callable[[float | None], Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one scene file, of a street that is open: see `bent_street`."""
    folder = tmp_path_factory.mktemp("open")
    save_scene(street(None), folder / f"open{SUFFIX}")
    return folder


@pytest.fixture(scope="session")
def walled_folder(street: Callable[[float | None], Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one scene file, of a street that is closed by a barrier at x = 40 m."""
    folder = tmp_path_factory.mktemp("walled")
    save_scene(street(40.0), folder / f"walled{SUFFIX}")
    return folder
