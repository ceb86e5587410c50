"""Kinematic bicycle: how a car with a steered front axle moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bicycle:
    """Kinematic bicycle about the rear axle, x' = v cos(yaw), y' = v sin(yaw), yaw' = v tan(steering) / wheelbase.

    Attributes:
        wheelbase: distance between the axles, metres.
        max_steering: bound on the front wheel angle, radians.
        max_speed: bound on the speed, m/s; the car does not reverse.
        max_acceleration: bound on acceleration, m/s^2.
        max_braking: bound on deceleration, m/s^2, positive.
    """

    wheelbase: float = 2.7
    max_steering: float = 0.5
    max_speed: float = 20.0
    max_acceleration: float = 3.0
    max_braking: float = 6.0

    def step(self, pose: Tensor, speed: Tensor, acceleration: Tensor, steering: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """Advance by dt seconds with constant acceleration (m/s^2) and front wheel angle (radians), exactly along the arc.

        pose (..., 3) is the rear axle, speed (...) in m/s. Returns the new pose and speed; inputs are clamped to the bounds.
        """
        acceleration = acceleration.clamp(-self.max_braking, self.max_acceleration)
        steering = steering.clamp(-self.max_steering, self.max_steering)
        new_speed = (speed + acceleration * dt).clamp(0.0, self.max_speed)
        distance = 0.5 * (speed + new_speed) * dt
        turn = distance * torch.tan(steering) / self.wheelbase
        chord = distance * torch.sinc(turn / (2 * torch.pi))
        heading = pose[..., 2] + turn / 2
        new = torch.stack(
            (pose[..., 0] + chord * torch.cos(heading), pose[..., 1] + chord * torch.sin(heading), pose[..., 2] + turn), dim=-1
        )
        return new, new_speed
