"""A scene made by hand, small and known in every cell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scenes.grid import CLASS_ID, DRIVABLE, FREE
from scenes.scene import Scene, StaticWorld, Tracks

CELL = 0.5


def make_scene(frames: int = 101, dt: float = 0.1, speeds: tuple[float, ...] = (8.0, 0.0, 5.0), name: str = "a") -> Scene:
    """A straight road along x, 12 m wide, a wall 10 m to its left, cars in a row 15 m apart, the first at x = -60."""
    size = 600
    ground = torch.full((size, size), CLASS_ID["terrain"], dtype=torch.uint8)
    middle = size // 2
    ground[:, middle - 12 : middle + 12] = DRIVABLE
    standing = torch.full((2, size, size), FREE, dtype=torch.uint8)
    standing[0, :, middle + 20 : middle + 26] = CLASS_ID["manmade"]
    standing[1, 100:104, middle - 12 : middle + 12] = CLASS_ID["vegetation"]
    bottom, top = torch.zeros_like(standing), torch.full_like(standing, 40)
    bottom[1], top[1] = 45, 60
    static = StaticWorld((-size / 2 * CELL, -size / 2 * CELL), CELL, ground, standing, bottom, top)
    agents = len(speeds)
    time = torch.arange(frames, dtype=torch.float64) * dt
    poses = torch.zeros(agents, frames, 3, dtype=torch.float64)
    for agent, speed in enumerate(speeds):
        poses[agent, :, 0] = -60.0 + 15.0 * agent + speed * time
    tracks = Tracks(
        ids=tuple(f"car{agent}" for agent in range(agents)),
        classes=torch.full((agents,), CLASS_ID["car"], dtype=torch.uint8),
        sizes=torch.tensor([[4.6, 1.9, 1.6]]).repeat(agents, 1),
        rear_axle=torch.full((agents,), 1.3),
        poses=poses,
        valid=torch.ones(agents, frames, dtype=torch.bool),
    )
    along = torch.arange(-70.0, 140.0, 2.0, dtype=torch.float64)
    route = torch.stack((along, torch.zeros_like(along)), dim=-1)
    return Scene(name, f"made/{name}", dt, static, tracks, dict.fromkeys(range(agents), route))


@pytest.fixture(scope="session")
def made_scene() -> Callable[..., Scene]:
    """Makes the scene above: `made_scene(frames=101, dt=0.1, speeds=(8, 0, 5), name="a")`."""
    return make_scene
