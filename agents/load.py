"""Planners by name: `cv`, `idm`, or `module:object` for anybody's own."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any

from agents.constant_velocity import ConstantVelocity
from agents.idm import Idm
from agents.planner import Planner


def load_planner(spec: str, env: Any, seed: int = 0) -> Planner:
    """The planner that `spec` names, ready to drive `env`; raises ValueError on a name that is none.

    env: a single or vector environment of this project, already reset, so that the size of the car is known. `module:object`
    may be a planner, or a class or function that makes one; it is given `env` and `seed` where it takes arguments so named.
    """
    if spec == "cv":
        return ConstantVelocity()
    if spec == "idm":
        simulator = env.unwrapped.simulator
        length, width, centre = simulator.state["box"][0].tolist()
        return Idm(simulator.grid, simulator.config, simulator.model.dt, width=width, front=centre + length / 2)
    module, colon, name = spec.partition(":")
    if not colon or not module or not name:
        raise ValueError(f"planner: expected cv, idm or module:object, found {spec!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    made = getattr(importlib.import_module(module), name)
    if hasattr(made, "act") and not inspect.isclass(made):
        return made
    taken = inspect.signature(made).parameters
    return made(**{key: value for key, value in {"env": env, "seed": seed}.items() if key in taken})
