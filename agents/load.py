"""Planners by name, policies by their file, and anybody's own code, ready to drive an environment."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agents.cem import Cem
from agents.constant_velocity import ConstantVelocity
from agents.idm import Idm, IdmParameters
from agents.imagining_planner import Budget
from agents.lattice import Lattice, LatticeParameters
from agents.log_replay import LogReplay
from agents.mppi import Mppi
from agents.parameters import read_parameters
from agents.planner import Array, Environment, Observation, Planner, attach
from agents.policy import ALGORITHMS, PolicyPlanner
from agents.pure_pursuit import PurePursuit, PursuitParameters
from agents.random_actions import RandomActions
from agents.stop import Stop

BUNDLED = Path(__file__).parent / "policies"
"""Policies that come with the package; policies/README.md says how they were made."""

PLANNERS: dict[str, Callable[[int], Planner]] = {
    "cv": lambda seed: ConstantVelocity(),
    "stop": lambda seed: Stop(),
    "random": lambda seed: RandomActions(seed),
    "log": lambda seed: LogReplay(),
    "idm": lambda seed: Idm(),
    "pure-pursuit": lambda seed: PurePursuit(),
    "lattice": lambda seed: Lattice(),
    "cem": lambda seed: Cem(seed=seed),
    "mppi": lambda seed: Mppi(seed=seed),
    "ppo": lambda seed: PolicyPlanner("ppo", BUNDLED / "ppo.zip"),
}
"""Planners by name, made with a seed that decides their own randomness."""

PARAMETERS: dict[str, tuple[type, Callable[[Any, int], Planner]]] = {
    "idm": (IdmParameters, lambda parameters, seed: Idm(parameters)),
    "pure-pursuit": (PursuitParameters, lambda parameters, seed: PurePursuit(parameters)),
    "lattice": (LatticeParameters, lambda parameters, seed: Lattice(parameters)),
    "cem": (Budget, lambda budget, seed: Cem(budget, seed=seed)),
    "mppi": (Budget, lambda budget, seed: Mppi(budget, seed=seed)),
}
"""What `NAME:name=value,name=value` sets, and the planner made with it and a seed."""


class FunctionPlanner:
    """A plain function (observation, info) -> action as a planner."""

    def __init__(self, function: Callable[[Observation, Mapping[str, Any]], Array]) -> None:
        self._function = function

    def reset(self) -> None:
        """See `Planner.reset`; a function remembers nothing."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> Array:
        """See `Planner.act`."""
        return self._function(observation, info)


def make_planner(spec: str, seed: int = 0) -> Planner:
    """The planner that `spec` names, not attached yet; `interface_of` tells the environment that it is made for.

    spec: a name of `PLANNERS`, or of `PARAMETERS` with some of them, as in `cem:candidates=16,horizon=6`; `ppo:FILE` or
    `sac:FILE`, a policy saved by stable-baselines3; or `module:object`, importable from here or from the working directory: a
    planner, a class that is made without arguments, or a function (observation, info) -> action. seed: of the planner's own
    randomness. Raises ValueError on what is none of these.
    """
    kind, colon, rest = spec.partition(":")
    if spec in PLANNERS:
        return PLANNERS[spec](seed)
    if kind in PARAMETERS and rest:
        return _with_parameters(kind, rest, seed)
    if kind in ALGORITHMS and rest:
        return PolicyPlanner(kind, rest)
    if kind and colon and rest:
        return _imported(kind, rest)
    known = ", ".join([*PLANNERS, *(f"{name}:FILE" for name in ALGORITHMS), "module:object"])
    raise ValueError(f"planner: expected one of {known}, found {spec!r}")


def files_of(spec: str) -> list[Path]:
    """The files that decide what the planner of `spec` does: a policy, or the module of one's own planner."""
    kind, _, rest = spec.partition(":")
    if spec in PLANNERS:
        return [BUNDLED / "ppo.zip"] if spec == "ppo" else []
    if kind in ALGORITHMS:
        return [Path(rest)] if os.path.isfile(rest) else []
    if kind in PARAMETERS or not rest:
        return []
    _look_here()
    found = importlib.util.find_spec(kind)
    return [Path(found.origin)] if found and found.origin and os.path.isfile(found.origin) else []


def load_planner(spec: str, env: Environment, seed: int = 0) -> Planner:
    """The planner of `make_planner`, attached to the single or vector environment that it is to drive.

    Raises ValueError where it cannot drive this environment.
    """
    return attach(make_planner(spec, seed), env)


def _with_parameters(name: str, text: str, seed: int) -> Planner:
    parameters, make = PARAMETERS[name]
    try:
        return make(read_parameters(parameters, text), seed)
    except ValueError as error:
        raise ValueError(f"planner: {name}: {error}") from error


def _look_here() -> None:
    """Find modules in the working directory too, last, so that nothing that lies there hides a library."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _imported(module: str, name: str) -> Planner:
    """The planner that `name` in `module` is or makes; raises ValueError, or the error of an import that fails."""
    _look_here()
    found: Any = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise ValueError(f"planner: module {module!r} has no {name!r}")
    if inspect.isroutine(found):
        return FunctionPlanner(found)
    if not all(callable(getattr(found, method, None)) for method in ("reset", "act")):
        raise ValueError(f"planner: {module}:{name}: expected `reset()` and `act(observation, info)`, or a function")
    if inspect.isclass(found):
        found = found()
    return found
