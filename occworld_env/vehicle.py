"""The ego as a vehicle: commands are integrated through the kinematic bicycle at 10 Hz or finer inside each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from occworld_env.config import EnvConfig
from scenes.motion import relative, wrap_angle

INTEGRATION_STEP = 0.1  # seconds, at most


@dataclass(frozen=True)
class Vehicle:
    """State of B cars, all float64.

    Attributes:
        pose: rear axle in world coordinates (B, 3).
        speed: m/s (B,).
        acceleration: along the car, m/s^2 (B,).
        steering: front wheel angle, radians (B,).
        yaw_rate: rad/s (B,).
    """

    pose: Tensor
    speed: Tensor
    acceleration: Tensor
    steering: Tensor
    yaw_rate: Tensor


@dataclass(frozen=True)
class Path:
    """What B cars do in one step, S integration steps of `dt` seconds: all (B, S), poses (B, S, 3), world coordinates."""

    dt: float
    poses: Tensor
    speed: Tensor
    acceleration: Tensor
    steering: Tensor
    yaw_rate: Tensor

    def frames(self, count: int) -> Tensor:
        """World poses (B, count, 3) at the ends of `count` equal parts of the step."""
        every = self.poses.shape[1] // count
        return self.poses[:, every - 1 :: every]

    def end(self) -> Vehicle:
        """The cars at the end of the step."""
        return Vehicle(
            self.poses[:, -1], self.speed[:, -1], self.acceleration[:, -1], self.steering[:, -1], self.yaw_rate[:, -1]
        )


Command = Callable[[int, Vehicle], tuple[Tensor, Tensor]]
"""What an action becomes: integration step number and state -> wanted acceleration m/s^2 and front wheel angle radians (B,)."""


def substeps(frame_dt: float) -> int:
    """Integration steps for each frame of `frame_dt` seconds."""
    return max(1, math.ceil(frame_dt / INTEGRATION_STEP - 1e-9))


def drive(vehicle: Vehicle, command: Command, frames: int, frame_dt: float, config: EnvConfig) -> Path:
    """Integrate `command` over `frames` frames of `frame_dt` seconds within the bounds of the car."""
    count = substeps(frame_dt)
    dt = frame_dt / count
    states: list[Vehicle] = []
    for index in range(frames * count):
        acceleration, steering = command(index, vehicle)
        vehicle = _advance(vehicle, acceleration, steering, dt, config)
        states.append(vehicle)
    names = ("pose", "speed", "acceleration", "steering", "yaw_rate")
    return Path(dt, *(torch.stack([getattr(state, name) for state in states], dim=1) for name in names))


def steering_bound(speed: Tensor, config: EnvConfig) -> Tensor:
    """Largest front wheel angle in radians (B,) at speed (B,) m/s: the stop of the wheel, or the grip of the tyres."""
    bicycle = config.bicycle
    grip = torch.atan(config.max_lateral_acceleration * bicycle.wheelbase / speed.square().clamp(min=1e-3))
    return grip.clamp(max=bicycle.max_steering)


def _advance(vehicle: Vehicle, acceleration: Tensor, steering: Tensor, dt: float, config: EnvConfig) -> Vehicle:
    change = config.max_steering_rate * dt
    steering = vehicle.steering + (steering - vehicle.steering).clamp(-change, change)
    bound = steering_bound(vehicle.speed, config)
    steering = steering.maximum(-bound).minimum(bound)
    pose, speed = config.bicycle.step(vehicle.pose, vehicle.speed, acceleration, steering, dt)
    yaw_rate = (pose[:, 2] - vehicle.pose[:, 2]) / dt
    pose = torch.cat((pose[:, :2], wrap_angle(pose[:, 2:])), dim=-1)
    return Vehicle(pose, speed, (speed - vehicle.speed) / dt, steering, yaw_rate)


def frame_motion(vehicle: Vehicle, frames: Tensor) -> Tensor:
    """Motion float32 (B, F, 3) that leads from the vehicle's pose through the world poses frames (B, F, 3)."""
    before = torch.cat((vehicle.pose.unsqueeze(1), frames[:, :-1]), dim=1)
    return relative(before, frames).to(torch.float32)
