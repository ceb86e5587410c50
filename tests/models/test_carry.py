"""Carrying frames along: rigid where nothing drives, agents keep their shape, and what they leave is free."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import metrics
from models.agent_flow import AgentFlow, AgentFlowConfig, align
from models.agents import seen_from_above
from models.carry import carry_chunk
from models.warp import UNKNOWN, warp_chunk
from scenes.agent_motion import agent_displacement
from scenes.grid import CLASS_ID, DRIVABLE, FREE, MINI
from scenes.motion import motion_from_poses
from scenes.render import render
from scenes.scene import Scene
from tests.models.small import GRID, make_street

CAR = CLASS_ID["car"]


def street_with_car(x: int, y: int) -> Tensor:
    """One frame (1, X, Y, Z) on GRID: road everywhere, and a car of 6 x 3 columns, two voxels high."""
    frame = torch.full((1, *GRID.shape), FREE, dtype=torch.uint8)
    frame[..., 0] = DRIVABLE
    frame[:, x : x + 6, y : y + 3, 1:3] = CAR
    return frame


def still(velocity: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    return torch.tensor(velocity).expand(1, 2, *GRID.shape[:2], 2)


@settings(max_examples=20, deadline=None)
@given(ahead=st.floats(-2, 2), left=st.floats(-2, 2), yaw=st.floats(-0.4, 0.4))
def test_standing_agents_are_warped_rigidly(ahead: float, left: float, yaw: float) -> None:
    motion = torch.tensor([[[ahead, left, yaw]] * 2])
    frame = street_with_car(12, 14)
    carried, warped = carry_chunk(frame, still(), motion, GRID, 0.25), warp_chunk(frame, motion, GRID)
    # Poses are float32 here and float64 there: a column may fall on the other side of a border.
    assert float((carried != warped).float().mean()) < 0.002
    assert torch.equal(carried == UNKNOWN, warped == UNKNOWN)


@settings(max_examples=20, deadline=None)
@given(columns=st.integers(-4, 4), sideways=st.integers(-4, 4))
def test_an_agent_drives_on_by_whole_columns(columns: int, sideways: int) -> None:
    """At so many columns a frame the car is found, whole, just there, and what it leaves is free road."""
    speed = (columns * GRID.voxel / 0.25, sideways * GRID.voxel / 0.25)
    carried = carry_chunk(street_with_car(12, 14), still(speed), torch.zeros(1, 2, 3), GRID, 0.25)
    for frame in (0, 1):
        expected = street_with_car(12 + columns * (frame + 1), 14 + sideways * (frame + 1))
        assert torch.equal(carried[:, frame], expected)


@settings(max_examples=20, deadline=None)
@given(yaw=st.floats(-math.pi, math.pi), speed=st.floats(0, 8))
def test_an_agent_keeps_its_size_when_the_ego_turns(yaw: float, speed: float) -> None:
    carried = carry_chunk(
        street_with_car(13, 14), still((speed, 0.0)), torch.tensor([[[0.0, 0.0, yaw], [0.0] * 3]]), GRID, 0.25
    )
    count = (carried == CAR).flatten(2).sum(-1)
    assert bool(((count >= 0.7 * 36) & (count <= 1.3 * 36)).all())
    middle = (carried[0, 0] == CAR).any(-1)
    filled = torch.nn.functional.max_pool2d(-middle.float()[None], 3, 1, 1)  # columns with all neighbours in the car
    assert bool(middle[filled[0] == -1].all())


def test_an_agent_may_leave_the_grid() -> None:
    carried = carry_chunk(street_with_car(26, 14), still((40.0, 0.0)), torch.zeros(1, 2, 3), GRID, 0.25)
    assert not bool((carried == CAR).any())
    assert bool((carried[..., 0] == DRIVABLE).all())


def displaced(scene: Scene, time: float) -> tuple[Tensor, Tensor, Tensor]:
    """Occupancy (3, X, Y, Z) at a moment and half a second on, motion (1, 2, 3), and true velocity (1, 2, X, Y, 2)."""
    times = time + 0.25 * torch.arange(3, dtype=torch.float64)
    poses = scene.ego_poses(0, times)
    ahead = torch.tensor([0.25, 0.5], dtype=torch.float64)
    moved, _ = agent_displacement(scene, poses[:1], times[:1], ahead, MINI, 0)
    velocity = moved / ahead.float()[None, :, None, None, None]
    return render(scene, poses, times, MINI, 0), motion_from_poses(poses)[None, 1:], velocity


def test_true_displacement_carries_agents_to_where_they_are() -> None:
    """Rendered later, the cars are where the tracks' displacement carries them; standing ones have none."""
    occupancy, motion, velocity = displaced(make_street(), 3.0)
    carried = carry_chunk(occupancy[:1], velocity, motion, MINI, 0.25)[0]
    rigid = warp_chunk(occupancy[:1], motion, MINI)[0]

    def overlap(frames: Tensor) -> float:
        matrix = metrics.confusion(occupancy[1:], torch.where(frames == UNKNOWN, FREE, frames), MINI.num_classes)
        return float(metrics.class_iou(matrix)[CAR])

    assert overlap(carried) > 0.5  # half a voxel of rounding at each end of a car of six by three columns
    assert overlap(carried) > overlap(rigid) + 0.1
    speeds = velocity[0, 1].norm(dim=-1)
    moving = speeds[speeds > 0.1]
    torch.testing.assert_close(moving, torch.full_like(moving, 7.0), atol=1e-3, rtol=0)


def test_seen_from_above_is_the_highest_agent() -> None:
    frame = torch.full((1, *GRID.shape), FREE, dtype=torch.uint8)
    frame[0, 3, 4, 0] = DRIVABLE
    frame[0, 3, 4, 1] = CAR
    frame[0, 3, 4, 2] = CLASS_ID["pedestrian"]
    frame[0, 5, 5, 1] = CLASS_ID["manmade"]
    above = seen_from_above(frame, GRID.free)
    assert int(above[0, 3, 4]) == CLASS_ID["pedestrian"]
    assert int((above != FREE).sum()) == 1


@pytest.mark.parametrize("known", [1, 2, 4])
def test_flow_takes_a_short_past(known: int) -> None:
    """Frames that are missing are unknown; the result is finite and starts at zero, untrained."""
    flow = AgentFlow(GRID, 2, AgentFlowConfig())
    above = torch.full((1, 4, *GRID.shape[:2]), UNKNOWN, dtype=torch.uint8)
    frames = street_with_car(12, 14)
    above[:, 4 - known :] = seen_from_above(frames, GRID.free)
    velocity = flow.velocity(above, torch.zeros(1, 4, 3, dtype=torch.float64), frames)
    assert velocity.shape == (1, 2, *GRID.shape[:2], 2)
    assert not bool(velocity.any())


def test_aligned_maps_show_standing_agents_in_one_place() -> None:
    """Maps seen from a moving ego, brought into the last ego frame: what stands covers the same columns."""
    scene = make_street()
    times = 4.0 + 0.25 * torch.arange(4, dtype=torch.float64)
    poses = scene.ego_poses(0, times)
    above = align(seen_from_above(render(scene, poses, times, MINI, 0), FREE)[None], poses[None], MINI)[0]
    right = MINI.shape[1] // 2 - 3  # the parked car is right of the ego's lane, the moving one left of it
    parked = above[:, :, :right] == CAR
    for frame in parked[:-1]:
        both, either = (frame & parked[-1]).sum(), (frame | parked[-1]).sum()
        assert float(both / either) > 0.5
