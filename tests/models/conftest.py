"""A small made-up town for tests of models: roads at odd angles, sidewalks, houses, trees, agents."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scenes.grid import CLASS_ID, DRIVABLE, FREE
from scenes.scene import Scene, StaticWorld, Tracks

DT = 0.25
SIDE, CELL = 400, 0.5


def make_town(seed: int = 0, frames: int = 60, agents: int = 24) -> Scene:
    """A town of 200 m by 200 m about the origin; track 0 is a car with a route that drives along a straight road at 6 m/s."""
    generator = torch.Generator().manual_seed(seed)
    heading = float(torch.rand((), generator=generator)) * math.pi
    return Scene(
        name=f"town{seed}",
        source=f"town/{seed}",
        dt=DT,
        static=_static(heading, generator),
        tracks=_tracks(heading, frames, agents, generator),
        routes={0: _along(heading, torch.arange(-60.0, 90.0, 2.0), -1.75).double()},
    )


def _along(heading: float, distance: Tensor, left: float) -> Tensor:
    axis = torch.tensor([math.cos(heading), math.sin(heading)])
    return distance[:, None] * axis + left * torch.tensor([-axis[1], axis[0]])


def _static(heading: float, generator: torch.Generator) -> StaticWorld:
    origin = -SIDE * CELL / 2
    centre = origin + (torch.arange(SIDE) + 0.5) * CELL
    xy = torch.stack(torch.meshgrid(centre, centre, indexing="ij"), dim=-1)
    ground = torch.full((SIDE, SIDE), CLASS_ID["terrain"], dtype=torch.uint8)
    off = []
    for yaw, shift in ((heading, 0.0), (heading + 1.3, 20.0), (heading + 1.7, -40.0)):
        off.append((xy @ torch.tensor([-math.sin(yaw), math.cos(yaw)]) - shift).abs())
    nearest = torch.stack(off).amin(0)
    ground[nearest < 8.5] = CLASS_ID["sidewalk"]
    ground[nearest < 6.0] = DRIVABLE
    standing = torch.full((1, SIDE, SIDE), FREE, dtype=torch.uint8)
    top = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
    for size, name, height, count in ((7.0, "manmade", 60, 90), (1.0, "vegetation", 40, 220)):
        spots = (torch.rand(count, 2, generator=generator) - 0.5) * SIDE * CELL
        turn = float(torch.rand((), generator=generator)) * math.pi
        turned = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        for spot in spots:
            here = (((xy - spot) @ turned).abs().amax(-1) < size / 2 + 0.5) & (nearest > 8.5)
            standing[0][here], top[0][here] = CLASS_ID[name], height
    return StaticWorld((origin, origin), CELL, ground, standing, torch.zeros_like(top), top)


def _tracks(heading: float, frames: int, agents: int, generator: torch.Generator) -> Tracks:
    time = torch.arange(frames) * DT
    kind, row = torch.arange(agents) % 6, torch.arange(agents) // 6  # driving, parked and walking, on the right and on the left
    small = kind % 3 == 2
    speed = torch.tensor([6.0, 0.0, 1.4, 9.0, 0.0, 1.2])[kind]
    side = torch.where(kind < 3, -1.0, 1.0)
    lane = torch.tensor([1.75, 4.9, 7.0])[kind % 3] * side
    start = -40.0 + 23.0 * row + 8.0 * torch.rand(agents, generator=generator)
    start[0] = -30.0
    poses = torch.zeros(agents, frames, 3, dtype=torch.float64)
    for agent in range(agents):
        poses[agent, :, :2] = _along(heading, start[agent] - side[agent] * speed[agent] * time, float(lane[agent])).double()
        poses[agent, :, 2] = heading + (math.pi if side[agent] > 0 else 0.0)
    classes = torch.where(small, CLASS_ID["pedestrian"], CLASS_ID["car"]).to(torch.uint8)
    sizes = torch.where(small[:, None], torch.tensor([0.6, 0.6, 1.7]), torch.tensor([4.6, 1.9, 1.6]))
    rear = torch.where(small, 0.0, 1.3)
    valid = torch.ones(agents, frames, dtype=torch.bool)
    return Tracks(tuple(f"agent{i}" for i in range(agents)), classes, sizes, rear, poses, valid)


@pytest.fixture(scope="session")
def town() -> Callable[..., Scene]:
    """Maker of made-up towns: town(seed, frames=60, agents=24) at 4 Hz."""
    return make_town
