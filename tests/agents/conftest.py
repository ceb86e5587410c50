"""A street built by hand for the planners and the learning agents to drive on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scenes.grid import CLASS_ID, DRIVABLE, FREE
from scenes.scene import Scene, StaticWorld, Tracks

torch.set_num_threads(1)

CELL, DT, FRAMES = 0.4, 0.25, 41


def bent_street(wall_at: float | None) -> Scene:
    """A road 12 m wide from (-60, 0) to (60, 0) and then north to (60, 120); the ego drives along it at 6 m/s from x = 0.

    wall_at: metre along the road, counted from the origin and at most 50, at which a barrier closes it.
    """
    xy = -60 + (torch.arange(500, dtype=torch.float64) + 0.5) * CELL
    x, y = torch.meshgrid(xy, xy, indexing="ij")
    middle = torch.where((x > 54) & (y > -6), (x - 60).abs(), torch.where(x < 66, y.abs(), torch.inf))
    ground = torch.full(x.shape, CLASS_ID["terrain"], dtype=torch.uint8)
    ground[middle < 6] = DRIVABLE
    standing = torch.full((1, *x.shape), FREE, dtype=torch.uint8)
    if wall_at is not None:
        standing[0, ((x - wall_at).abs() < 0.8) & (y.abs() < 6)] = CLASS_ID["barrier"]
    there = (standing != FREE).to(torch.uint8)
    static = StaticWorld((-60.0, -60.0), CELL, ground, standing, 0 * there, 15 * there)
    poses = torch.zeros(1, FRAMES, 3, dtype=torch.float64)
    poses[0, :, 0] = 1.4 + 6.0 * DT * torch.arange(FRAMES)
    tracks = Tracks(
        ("ego",),
        torch.tensor([CLASS_ID["car"]], dtype=torch.uint8),
        torch.tensor([[4.6, 1.85, 1.6]]),
        torch.tensor([1.4]),
        poses,
        torch.ones(1, FRAMES, dtype=torch.bool),
    )
    bend = [(60 - 12 * (1 - torch.sin(a).item()), 12 * (1 - torch.cos(a).item())) for a in torch.linspace(0, torch.pi / 2, 12)]
    route = torch.tensor([(float(x), 0.0) for x in range(-40, 48, 2)] + bend + [(60.0, float(y)) for y in range(14, 120, 2)])
    return Scene("bent", "test/bent", DT, static, tracks, {0: route.to(torch.float64)})


@pytest.fixture(scope="session")
def street() -> Callable[[float | None], Scene]:
    """Maker of streets, see `bent_street`."""
    return bent_street
