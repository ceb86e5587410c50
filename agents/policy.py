"""A policy that stable-baselines3 saved, as a planner; nothing in the file is unpickled, since a pickle can run code.

The file is a zip: `data` is JSON that tells spaces and settings in words beside their pickles, `policy.pth` the weights.
"""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from torch import nn

from agents.planner import Array, Environment, Interface, Observation

ALGORITHMS = {"ppo": "stable_baselines3.common.policies", "sac": "stable_baselines3.sac.policies"}
"""Algorithms whose policies can be read, and the module of their `MultiInputPolicy`."""

_SHOWN = {"image": "bev", "tokens": "tokens", "occupancy": "occupancy"}  # what stands beside `vector`, by `observation=`
_GIVEN = {"Discrete(5)": "discrete", "Box((2,))": "control"}


class PolicyPlanner:
    """Drives the action that the policy thinks best; it has to be attached."""

    def __init__(self, algorithm: str, file: str | Path) -> None:
        """Raises FileNotFoundError, and ValueError where `file` is no model of this algorithm of stable-baselines3."""
        self._path, self._algorithm = Path(file), algorithm
        if not self._path.is_file():
            raise FileNotFoundError(f"{algorithm}:{file}: there is no such file")
        try:
            with zipfile.ZipFile(self._path) as archive:
                self._data = json.loads(archive.read("data"))
                with archive.open("policy.pth") as weights:
                    self._weights = torch.load(weights, map_location="cpu", weights_only=True)
        except (zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{file}: expected a model saved by stable-baselines3, {error}") from None
        found = self._data.get("policy_class", {}).get("__module__")
        if found != ALGORITHMS[algorithm]:
            raise ValueError(f"{file}: expected a policy of {ALGORITHMS[algorithm]}, found one of {found}")
        self._policy: Any = None

    @property
    def interface(self) -> Interface:
        """What the policy was trained to see and to do."""
        shown = _observations(self._data["observation_space"])
        seen = next((kind for name, kind in _SHOWN.items() if name in shown), "bev")
        return Interface(seen, _GIVEN.get(_action(self._data["action_space"]), "trajectory"))

    def attach(self, env: Environment) -> None:
        """See `Attachable`; raises ValueError that says in what the spaces of policy and environment differ."""
        if isinstance(env, VectorEnv):
            seen, done = env.single_observation_space, env.single_action_space
        else:
            seen, done = env.observation_space, env.action_space
        learned, here = _observations(self._data["observation_space"]), _observations({"spaces": str(seen)})
        differ = [name for name in sorted(learned.keys() | here.keys()) if learned.get(name) != here.get(name)]
        wrong = [f"{name!r} is {here.get(name, 'absent')}, learned {learned.get(name, 'absent')}" for name in differ]
        known, asked = _action(self._data["action_space"]), _action(vars(done) | {":type:": str(type(done))})
        wrong += [f"action is {asked}, learned {known}"] * (known != asked)
        if wrong:
            raise ValueError(f"{self._path}: the policy fits another environment: {'; '.join(wrong)}")
        self._policy = self._build(seen, done)

    def reset(self) -> None:
        """See `Planner.reset`; there is nothing to forget."""

    def act(self, observation: Observation, info: Mapping[str, Any]) -> Array:
        """See `Planner.act`."""
        if self._policy is None:
            raise ValueError(f"{self._algorithm}: attach the policy to its environment first")
        action, _ = self._policy.predict(dict(observation), deterministic=True)
        return action

    def _build(self, seen: spaces.Space[Any], done: spaces.Space[Any]) -> Any:
        """The policy for these observations and actions, with the weights of the file."""
        base = importlib.import_module(ALGORITHMS[self._algorithm])
        policy_class = base.MultiInputActorCriticPolicy if self._algorithm == "ppo" else base.MultiInputPolicy
        settings = {"use_sde": self._data["use_sde"]} | self._settings()
        policy = policy_class(seen, done, lambda _: 0.0, **settings)
        try:
            policy.load_state_dict(self._weights)
        except RuntimeError as error:
            raise ValueError(f"{self._path}: the weights do not fit the policy that `data` describes: {error}") from None
        policy.set_training_mode(False)
        return policy

    def _settings(self) -> dict[str, Any]:
        """Keyword arguments of the policy, with the classes that `data` names looked up among those known here."""
        from stable_baselines3.common.torch_layers import CombinedExtractor

        from agents.features import OccSoraFeatures

        layers = (nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.GELU, nn.LeakyReLU)
        classes = {str(item): item for item in (OccSoraFeatures, CombinedExtractor, *layers)}
        settings = {}
        for name, value in self._data.get("policy_kwargs", {}).items():
            if name.startswith((":", "optimizer_")):
                continue
            if isinstance(value, str) and value not in classes:
                raise ValueError(f"{self._path}: policy_kwargs: expected for {name} one of {', '.join(classes)}, found {value}")
            settings[name] = classes[value] if isinstance(value, str) else value
        return settings


def _observations(told: Mapping[str, Any]) -> dict[str, str]:
    """Each space of a Dict space in words, by name, from what `data` tells of it."""
    return dict(re.findall(r"'(\w+)'[:,] (\w+\((?:[^()]|\([^()]*\))*\))", str(told.get("spaces", ""))))


def _action(told: Mapping[str, Any]) -> str:
    """An action space in words, from what `data` tells of it or from the space's own attributes."""
    kind = re.sub(r"^.*\.|'>$", "", told[":type:"])
    size = told["n"] if "n" in told else tuple(told.get("_shape") or ())
    return f"{kind}({size})"
