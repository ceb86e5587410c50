"""Gymnasium spaces of the environment, and what goes over the border between them and the simulator's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from occworld_env.actions import META_ACTIONS, action_shape
from occworld_env.observation import BEV_CHANNELS, VECTOR_FIELDS
from occworld_env.simulator import Simulator


def action_space(simulator: Simulator) -> spaces.Space[Any]:
    """Action space of one world: Box [-1, 1] float32, or Discrete for meta actions."""
    kind = simulator.config.action
    if kind == "discrete":
        return spaces.Discrete(len(META_ACTIONS))
    return spaces.Box(-1.0, 1.0, action_shape(kind, simulator.frames), np.float32)


def observation_space(simulator: Simulator) -> spaces.Dict:
    """Observation space of one world: a Dict of `vector` and of what `EnvConfig.observation` names.

    `tokens` are flat, h * w * G in this order, since stable-baselines3 takes every box of three axes for an image.
    `occupancy` has the bounds 0 and 255 of an image for the same reason; its values are class ids.
    """
    vector = spaces.Box(-1.0, 1.0, (len(VECTOR_FIELDS),), np.float32)
    kind, grid = simulator.config.observation, simulator.grid
    if kind == "tokens" and simulator.model.token_shape is not None:
        count = int(np.prod(simulator.model.token_shape))
        return spaces.Dict({"tokens": spaces.Box(0, simulator.model.num_codes - 1, (count,), np.int16), "vector": vector})
    if kind == "occupancy":
        return spaces.Dict({"occupancy": spaces.Box(0, 255, grid.shape, np.uint8), "vector": vector})
    image = spaces.Box(0, 255, (len(BEV_CHANNELS), *grid.shape[:2]), np.uint8)
    return spaces.Dict({"image": image, "vector": vector})


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A copy of the tensor as an array."""
    return tensor.detach().cpu().numpy().copy()


def from_action(action: Any, simulator: Simulator, num_worlds: int | None) -> Tensor:
    """The action as a tensor with worlds first; raises ValueError naming the argument on wrong shape or NaN.

    num_worlds: None for the action of a single environment.
    """
    try:
        array = np.asarray(action)
        if array.dtype == object or array.dtype.kind not in "fiu":
            raise TypeError(f"found {array.dtype}")
    except (TypeError, ValueError) as error:
        raise ValueError(f"action: expected an array of numbers, {error}") from None
    shape = action_shape(simulator.config.action, simulator.frames)
    expected = shape if num_worlds is None else (num_worlds, *shape)
    if array.shape != expected:
        raise ValueError(f"action: expected shape {expected} for {simulator.config.action!r} actions, found {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("action: expected finite numbers in [-1, 1], found NaN or infinity")
    tensor = torch.from_numpy(np.array(array, dtype=np.int64 if array.dtype.kind in "iu" else np.float64))
    return tensor.unsqueeze(0) if num_worlds is None else tensor
