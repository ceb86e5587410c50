"""Brake to a stand and stay there: the planner that hits nothing by itself and gets nowhere."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from agents.driver import Driver
from agents.planner import Array, Situation

_BRAKING = 3.0  # m/s^2, within nuPlan's bound of comfort


class Stop(Driver):
    """Brakes comfortably and keeps the wheels as they are."""

    name: ClassVar[str] = "stop"
    needs_image: ClassVar[bool] = False

    def drive(self, now: Situation, images: Array, begins: Array) -> tuple[Array, Array]:
        """See `Driver.drive`."""
        return np.full_like(now.speed, -_BRAKING), now.steering
