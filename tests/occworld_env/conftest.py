"""A street built by hand, and simulators on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.warp import WarpWorldModel
from occworld_env.config import make_config
from occworld_env.simulator import Simulator
from scenes.grid import CLASS_ID, FREE, MINI
from scenes.scene import Lights, Scene, StaticWorld, Tracks

torch.set_num_threads(1)

DT = 0.25
FRAMES = 81  # 20 s
LENGTH = 400.0
CAR, PEDESTRIAN = CLASS_ID["car"], CLASS_ID["pedestrian"]


def straight_scene(
    name: str = "straight",
    speed: float = 8.0,
    obstacle_at: float | None = None,
    agents: tuple[tuple[str, float, float, float], ...] = (),
) -> Scene:
    """A street 12 m wide along world x from -60 m to 340 m, pavement and walls beside it; the ego drives along y = 0.

    obstacle_at: x of a wall across the street. agents: class, x at time 0, y, and speed along x of other road users.
    """
    cell = 0.4
    size = (int(LENGTH / cell), int(60 / cell))
    y = -30 + (torch.arange(size[1]) + 0.5) * cell
    ground = torch.full(size, CLASS_ID["terrain"], dtype=torch.uint8)
    ground[:, y.abs() < 9] = CLASS_ID["sidewalk"]
    ground[:, y.abs() < 6] = CLASS_ID["driveable_surface"]
    standing = torch.full((1, *size), FREE, dtype=torch.uint8)
    standing[0, :, y.abs() > 14] = CLASS_ID["manmade"]
    if obstacle_at is not None:
        first = int((obstacle_at + 60) / cell)
        standing[0, first : first + 3, y.abs() < 6] = CLASS_ID["barrier"]
    filled = (standing != FREE).to(torch.uint8)
    static = StaticWorld((-60.0, -30.0), cell, ground, standing, 0 * filled, 20 * filled)
    time = torch.arange(FRAMES, dtype=torch.float64) * DT
    users = [("car", 0.0, 0.0, speed), *agents]
    poses = torch.zeros(len(users), FRAMES, 3, dtype=torch.float64)
    for index, (_, x, side, pace) in enumerate(users):
        poses[index, :, 0], poses[index, :, 1] = x + pace * time, side
    small = torch.tensor([0.8, 0.8, 1.7])
    sizes = torch.stack([small if kind == "pedestrian" else torch.tensor([4.5, 1.8, 1.6]) for kind, *_ in users])
    tracks = Tracks(
        ids=tuple(f"track{index}" for index in range(len(users))),
        classes=torch.tensor([CLASS_ID[kind] for kind, *_ in users], dtype=torch.uint8),
        sizes=sizes,
        rear_axle=torch.full((len(users),), 1.4),
        poses=poses,
        valid=torch.ones(len(users), FRAMES, dtype=torch.bool),
    )
    route = torch.stack((torch.arange(-10, 320, 2.0, dtype=torch.float64), torch.zeros(165, dtype=torch.float64)), dim=-1)
    lights = Lights(torch.tensor([[90.0, 0.0, 0.0]], dtype=torch.float64), torch.ones(1, FRAMES, dtype=torch.uint8))
    return Scene(name, f"test/{name}", DT, static, tracks, {0: route}, lights)


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Scene]:
    """See `straight_scene`."""
    return straight_scene


@pytest.fixture(scope="session")
def scene() -> Scene:
    """An empty street with a few other road users beside the ego's lane."""
    return straight_scene(agents=(("car", 15.0, 3.6, 8.0), ("pedestrian", 30.0, -7.0, 1.0)))


@pytest.fixture(scope="session")
def other_scene() -> Scene:
    """The same street with a wall across it 60 m ahead."""
    return straight_scene("walled", obstacle_at=60.0)


@pytest.fixture
def make_simulator(scene: Scene) -> Callable[..., Simulator]:
    """Simulator over the baseline world model; keywords are EnvConfig's, and those of Simulator."""

    def make(scenes: list[Scene] | None = None, num_worlds: int = 1, max_steps: int | None = None, **more: Any) -> Simulator:
        config = make_config(None, {"bank_size": 4, **more})
        return Simulator(WarpWorldModel(MINI), scenes or [scene], config, num_worlds=num_worlds, max_steps=max_steps)

    return make
