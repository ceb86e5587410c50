"""The `info` of the environments: the same flat keys at reset and at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from occworld_env.simulator import Simulator
from occworld_env.spaces import to_numpy

_NAMED = ("scene", "ego")  # told by name, not by number


def info_arrays(info: dict[str, Tensor], simulator: Simulator) -> dict[str, np.ndarray]:
    """Info of all worlds as arrays (N, ...); `scene` and `ego` become names."""
    arrays = {name: to_numpy(tensor) for name, tensor in info.items()}
    scenes, egos = zip(*simulator.names, strict=True)
    return arrays | {"scene": np.array(scenes, dtype=object), "ego": np.array(egos, dtype=object)}


def single_info(rewards: dict[str, Tensor], info: dict[str, Tensor], simulator: Simulator) -> dict[str, Any]:
    """Info of the only world: Python numbers, strings and flags, `pose` as an array, `rewards` as a dict."""
    arrays = info_arrays(info, simulator)
    plain = {name: array[0] if array.ndim > 1 or name in _NAMED else array[0].item() for name, array in arrays.items()}
    return {"rewards": {name: float(term[0]) for name, term in rewards.items()}} | plain


def vector_info(
    rewards: dict[str, Tensor], info: dict[str, Tensor], simulator: Simulator, mask: np.ndarray | None = None
) -> dict[str, Any]:
    """Info of N worlds in the form of Gymnasium's vector environments: arrays, each with a mask `_key` of where it counts."""
    there = np.ones(simulator.num_worlds, dtype=bool) if mask is None else mask
    terms = {name: to_numpy(term) for name, term in rewards.items()}
    packed: dict[str, Any] = {"rewards": _masked(terms, there), "_rewards": there.copy()}
    return packed | _masked(info_arrays(info, simulator), there)


def _masked(arrays: dict[str, np.ndarray], there: np.ndarray) -> dict[str, np.ndarray]:
    masks = {name: there.reshape(-1, *[1] * (array.ndim - 1)) for name, array in arrays.items()}
    blank = {name: np.where(masks[name], array, _nothing(array)) for name, array in arrays.items()}
    return blank | {f"_{name}": there.copy() for name in arrays}


def _nothing(array: np.ndarray) -> Any:
    return None if array.dtype == object else np.zeros((), dtype=array.dtype)
