"""The bicycle against fine Euler integration of its equations, and within its bounds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes.bicycle import Bicycle


def euler(yaw: float, speed: float, acceleration: float, steering: float, dt: float, steps: int = 1000) -> list[float]:
    x, y, h = 3.0, -2.0, dt / steps
    for _ in range(steps):  # the speed at the middle of a step is exact under constant acceleration
        middle = speed + acceleration * h / 2
        turn = middle * math.tan(steering) / 2.7 * h
        x += middle * math.cos(yaw + turn / 2) * h
        y += middle * math.sin(yaw + turn / 2) * h
        yaw += turn
        speed += acceleration * h
    return [x, y, yaw, speed]


@settings(max_examples=25, deadline=None)
@given(
    yaw=st.floats(-3, 3),
    speed=st.floats(3, 15),
    acceleration=st.floats(-5, 3),
    steering=st.floats(-0.5, 0.5),
    dt=st.sampled_from([0.05, 0.1, 0.5]),
)
def test_a_step_solves_the_equations(yaw: float, speed: float, acceleration: float, steering: float, dt: float) -> None:
    start = torch.tensor([3.0, -2.0, yaw], dtype=torch.float64)
    values = torch.tensor([speed, acceleration, steering], dtype=torch.float64)
    pose, after = Bicycle().step(start, values[0], values[1], values[2], dt)
    fine = euler(yaw, speed, acceleration, steering, dt)
    assert [*pose.tolist(), float(after)] == pytest.approx(fine, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(speed=st.floats(0, 20), acceleration=st.floats(-50, 50), steering=st.floats(-5, 5))
def test_commands_beyond_the_bounds_are_clamped(speed: float, acceleration: float, steering: float) -> None:
    car, dt = Bicycle(), 0.1
    start = torch.zeros(3, dtype=torch.float64)
    values = torch.tensor([speed, acceleration, steering], dtype=torch.float64)
    pose, after = car.step(start, values[0], values[1], values[2], dt)
    assert 0 <= float(after) <= car.max_speed
    assert float(after) - speed <= car.max_acceleration * dt + 1e-9
    assert speed - float(after) <= car.max_braking * dt + 1e-9
    distance = (speed + float(after)) / 2 * dt
    assert float(pose[:2].norm()) <= distance + 1e-9
    assert abs(float(pose[2])) <= distance * math.tan(car.max_steering) / car.wheelbase + 1e-9


def test_a_batch_steps_like_its_members() -> None:
    generator = torch.Generator().manual_seed(0)
    pose = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    speed, acceleration, steering = (torch.rand(7, dtype=torch.float64, generator=generator) for _ in range(3))
    together = Bicycle().step(pose, speed, acceleration, steering, 0.1)
    for one in range(7):
        alone = Bicycle().step(pose[one], speed[one], acceleration[one], steering[one], 0.1)
        torch.testing.assert_close(together[0][one], alone[0])
        torch.testing.assert_close(together[1][one], alone[1])


def test_a_full_circle_closes() -> None:
    car = Bicycle()
    steering = torch.tensor(0.3, dtype=torch.float64)
    circumference = 2 * math.pi * car.wheelbase / math.tan(0.3)
    pose, speed = torch.zeros(3, dtype=torch.float64), torch.tensor(5.0, dtype=torch.float64)
    for _ in range(200):
        pose, speed = car.step(pose, speed, torch.tensor(0.0), steering, circumference / 5.0 / 200)
    assert float(pose[:2].norm()) < 1e-9
