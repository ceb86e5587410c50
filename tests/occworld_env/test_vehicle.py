"""The car's bounds, and what each kind of action makes of it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occworld_env import actions
from occworld_env.config import EnvConfig
from occworld_env.vehicle import Path, Vehicle, drive, frame_motion, substeps
from scenes.motion import accumulate, relative

CONFIG = EnvConfig()
DT, FRAMES = 0.25, 2
NONE = torch.zeros(1, dtype=torch.float64)


def car(speed: float, steering: float = 0.0) -> Vehicle:
    return Vehicle(torch.zeros(1, 3, dtype=torch.float64), NONE + speed, NONE, NONE + steering, NONE)


def control(vehicle: Vehicle, pedal: float, wheel: float) -> Path:
    action = torch.tensor([[pedal, wheel]], dtype=torch.float64)
    return drive(vehicle, actions.control_command(action, CONFIG), FRAMES, DT, CONFIG)


def test_integration_is_ten_hertz_or_finer() -> None:
    assert [substeps(dt) for dt in (0.05, 0.1, 0.25, 0.5)] == [1, 1, 3, 5]


def test_straight_on_at_constant_speed() -> None:
    path = control(car(10.0), 0.0, 0.0)
    assert path.frames(2).flatten().tolist() == pytest.approx([2.5, 0, 0, 5.0, 0, 0])
    assert frame_motion(car(10.0), path.frames(2)).flatten().tolist() == pytest.approx([2.5, 0, 0, 2.5, 0, 0])


def test_braking_stops_and_stays() -> None:
    path = control(car(1.0), -1.0, 0.0)
    assert float(path.speed[0, -1]) == 0.0
    assert float(path.acceleration.min()) == pytest.approx(-6.0)
    assert float(path.acceleration[0, -1]) == 0.0
    assert 1 / 12 <= float(path.poses[0, -1, 0]) <= 1 / 12 + 0.01  # v^2 / 2a, and a little for the last integration step


def test_steering_turns_no_faster_than_its_rate() -> None:
    path = control(car(3.0), 0.0, 1.0)
    steps = torch.diff(path.steering, prepend=torch.zeros(1, 1))
    assert float(steps.max()) == pytest.approx(CONFIG.max_steering_rate * path.dt)
    assert float(path.steering[0, -1]) == pytest.approx(min(0.5, CONFIG.max_steering_rate * 0.5))


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 20), st.floats(-0.5, 0.5), st.floats(-1, 1), st.floats(-1, 1))
def test_bounds_hold_for_every_control(speed: float, steering: float, pedal: float, wheel: float) -> None:
    path = control(car(speed, steering), pedal, wheel)
    bicycle = CONFIG.bicycle
    assert float(path.speed.min()) >= 0
    assert float(path.speed.max()) <= bicycle.max_speed
    assert float(path.steering.abs().max()) <= bicycle.max_steering
    assert -bicycle.max_braking - 1e-9 <= float(path.acceleration.min())
    assert float(path.acceleration.max()) <= bicycle.max_acceleration + 1e-9
    # the bound on grip is taken at the start of each integration step, in which the speed can grow a little
    assert float((path.speed * path.yaw_rate).abs().max()) <= CONFIG.max_lateral_acceleration * 1.2


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 18), st.floats(-4, 2), st.floats(-0.8, 0.8))
def test_a_drivable_trajectory_is_driven(speed: float, acceleration: float, sideways: float) -> None:
    """Poses that a car with the same steering all along would reach are reached, to centimetres where it stops."""
    steering = math.atan(2.7 * sideways * 5.0 / max(speed, 4.0) ** 2)
    start = car(speed, steering)
    wanted = drive(start, lambda index, vehicle: (NONE + acceleration, NONE + steering), FRAMES, DT, CONFIG)
    action = actions.trajectory_action(relative(start.pose.unsqueeze(1), wanted.frames(FRAMES)), DT, CONFIG)
    command = actions.trajectory_command(action.double(), start, DT, CONFIG)
    driven = drive(start, command, FRAMES, DT, CONFIG)
    error = (driven.frames(FRAMES) - wanted.frames(FRAMES)).abs()
    assert float(error[..., :2].max()) < 0.05
    assert float(error[..., 2].max()) < 0.01


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 19), st.floats(2, 19), st.integers(1, 8), st.sampled_from([0.1, 0.25, 0.5]))
def test_a_steady_plan_becomes_a_steady_drive(speed: float, wanted: float, frames: int, dt: float) -> None:
    """A plan of one speed that is given again each step ends at that speed, from any other, and does not swing about it."""
    vehicle, ahead = car(speed), torch.arange(1, frames + 1, dtype=torch.float64) * dt * wanted
    poses = torch.nn.functional.pad(ahead[None, :, None], (0, 2))
    for _ in range(max(math.ceil(8 / (frames * dt)), 4)):
        action = actions.trajectory_action(poses, dt, CONFIG).double()
        path = drive(vehicle, actions.trajectory_command(action, vehicle, dt, CONFIG), frames, dt, CONFIG)
        vehicle = path.end()
    assert float(vehicle.speed) == pytest.approx(wanted, abs=0.05)
    assert float(path.acceleration.abs().max()) < 0.3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.floats(0, 20))
def test_any_trajectory_stays_within_the_bounds(values: list[float], speed: float) -> None:
    start, action = car(speed), torch.tensor(values, dtype=torch.float64).reshape(1, 2, 3)
    path = drive(start, actions.trajectory_command(action, start, DT, CONFIG), FRAMES, DT, CONFIG)
    assert bool(torch.isfinite(path.poses).all())
    assert float(path.acceleration.abs().max()) <= CONFIG.bicycle.max_braking + 1e-9
    assert float((path.speed * path.yaw_rate).abs().max()) <= CONFIG.max_lateral_acceleration * 1.2


def test_standing_still_is_a_trajectory() -> None:
    start = car(0.0)
    path = drive(start, actions.trajectory_command(torch.zeros(1, 2, 3).double(), start, DT, CONFIG), FRAMES, DT, CONFIG)
    assert float(path.poses.abs().max()) == 0.0


def routes(side: float = 0.0) -> Tensor:
    line = torch.stack((torch.arange(0, 400, 2.0), torch.full((200,), side)), dim=-1)
    return line.double().unsqueeze(0)


def follow(meta: list[str], steps: int, speed: float) -> Vehicle:
    vehicle = car(speed)
    task = actions.Task(routes(), NONE, torch.zeros(1, dtype=torch.int64), NONE + speed)
    for index in range(steps):
        name = meta[index] if index < len(meta) else "IDLE"
        task = actions.change_task(task, torch.tensor([actions.META_ACTIONS.index(name)]), CONFIG)
        task = actions.Task(task.routes, vehicle.pose[:, 0], task.lane, task.target_speed)
        vehicle = drive(vehicle, actions.follow_command(task, vehicle, CONFIG), FRAMES, DT, CONFIG).end()
    return vehicle


@pytest.mark.parametrize(
    ("meta", "side", "speed"),
    [
        ([], 0.0, 10.0),
        (["LANE_LEFT"], 3.5, 10.0),
        (["LANE_RIGHT", "LANE_RIGHT"], -3.5, 10.0),
        (["LANE_LEFT", "LANE_RIGHT"], 0.0, 10.0),
        (["FASTER"], 0.0, 12.5),
        (["SLOWER", "SLOWER"], 0.0, 5.0),
        (["SLOWER"] * 6, 0.0, 0.0),
    ],
)
def test_meta_actions_end_in_their_lane_at_their_speed(meta: list[str], side: float, speed: float) -> None:
    vehicle = follow(meta, 16, 10.0)
    assert float(vehicle.pose[0, 1]) == pytest.approx(side, abs=0.15)
    assert float(vehicle.speed) == pytest.approx(speed, abs=0.3)
    assert float(vehicle.pose[0, 2]) == pytest.approx(0.0, abs=0.03)


def test_motion_composes_to_the_path() -> None:
    start = car(8.0, 0.2)
    path = control(start, 0.5, 0.4)
    end = accumulate(frame_motion(start, path.frames(2)), start.pose)
    assert torch.allclose(end[:, -1], path.end().pose, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        ("control", torch.zeros(3, 2), "shape"),
        ("control", torch.tensor([[0.0, math.nan]]), "NaN"),
        ("trajectory", torch.zeros(1, 3, 3), "shape"),
        ("discrete", torch.zeros(1), "integers"),
        ("discrete", torch.tensor([5]), "integers"),
    ],
)
def test_bad_actions_are_named(kind: str, bad: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"action: .*{message}"):
        actions.check_action(bad, kind, 1, 2)
