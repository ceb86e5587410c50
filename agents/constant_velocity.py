"""The simplest planner: straight on, at the speed it has."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from agents.driver import Driver
from agents.planner import Array, Situation


class ConstantVelocity(Driver):
    """Neither accelerates nor steers."""

    name: ClassVar[str] = "cv"
    needs_image: ClassVar[bool] = False

    def drive(self, now: Situation, images: Array, begins: Array) -> tuple[Array, Array]:
        """See `Driver.drive`."""
        return np.zeros_like(now.speed), np.zeros_like(now.speed)
