"""Off-road: votes of several frames about the ground under the car."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from occworld_env.footprint import Reach
from occworld_env.offroad import footprint_points, offroad_share
from scenes.grid import CLASS_ID, FREE, MINI

ROAD, GRASS = CLASS_ID["driveable_surface"], CLASS_ID["terrain"]
BOX = torch.tensor([[4.5, 2.0, 1.4]], dtype=torch.float64)
REACH = Reach(MINI, 20.0, torch.device("cpu"))


def ground(kind: int) -> Tensor:
    return torch.full(MINI.shape[:2], kind, dtype=torch.uint8)


def share(*frames: Tensor) -> float:
    poses = torch.zeros(1, len(frames), 3, dtype=torch.float64)
    return float(offroad_share(torch.stack(frames).unsqueeze(0), poses, poses[:, -1:], BOX, REACH))


def test_points_fill_the_footprint() -> None:
    points = footprint_points(BOX)[0]
    assert points[:, 0].min() == pytest.approx(1.4 - 2.0)
    assert points[:, 0].max() == pytest.approx(1.4 + 2.0)
    assert points[:, 1].abs().max() == pytest.approx(0.8)
    assert points.mean(0).tolist() == pytest.approx([1.4, 0.0], abs=1e-6)


def test_half_on_the_grass() -> None:
    half = ground(ROAD)
    half[:, 48:] = GRASS  # everything left of the car's axis
    assert share(half, half, half) == pytest.approx(0.4)  # two of five rows of points; the middle one lies on the boundary
    assert share(ground(GRASS)) == 1.0
    assert share(ground(ROAD)) == 0.0


def test_one_bad_frame_does_not_leave_the_road() -> None:
    assert share(ground(ROAD), ground(ROAD), ground(GRASS)) == 0.0
    assert share(ground(ROAD), ground(GRASS), ground(GRASS)) == 1.0
    assert share(ground(ROAD), ground(FREE), ground(GRASS)) == 0.0


def test_holes_say_nothing() -> None:
    assert share(ground(FREE), ground(FREE)) == 0.0
    speck = ground(FREE)
    speck[48, 48] = GRASS  # too little of the footprint is known
    assert share(speck) == 0.0
    holes = ground(GRASS)
    holes[::2] = FREE
    assert share(holes) == 1.0


def test_each_frame_is_looked_up_where_it_was_seen() -> None:
    """The car drives 4 m forward off the end of the road: frames seen from behind agree with those seen from there."""
    before, after = ground(ROAD), ground(ROAD)
    before[48 + 5 :] = GRASS  # grass from 4 m ahead of the first pose on
    after[48:] = GRASS
    shown_at = torch.tensor([[[100.0, 50.0, 0.0], [104.0, 50.0, 0.0]]], dtype=torch.float64)
    rasters = torch.stack((before, after)).unsqueeze(0)
    on = float(offroad_share(rasters, shown_at, shown_at[:, :1] - torch.tensor([4.0, 0, 0]), BOX, REACH))
    off = float(offroad_share(rasters, shown_at, shown_at[:, 1:] + torch.tensor([1.0, 0, 0]), BOX, REACH))
    assert (on, off) == (0.0, 1.0)
