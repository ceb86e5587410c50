"""The simplest planner: straight on, at the speed it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agents.planner import Observation


class ConstantVelocity:
    """Neither accelerates nor steers."""

    def reset(self) -> None:
        """See `Planner.reset`; there is nothing to forget."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> np.ndarray:
        """See `Planner.act`."""
        return np.zeros((*np.shape(observation["vector"])[:-1], 2), dtype=np.float32)
