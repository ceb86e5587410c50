"""Planning in imagination: search the corrections to pure pursuit that the world model itself rewards most.

A plan is a sequence of corrections (pedal, wheel) to the `control` actions of pure pursuit along the route, one a step. A plan
of zeros follows the route blindly, so that a few candidates are enough to find what is better, and a plan that is moved on by
one step stays a plan: its new last step is a zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from agents.imagination import Imagination
from agents.planner import Array, Environment, Observation, begins, episode_random, require_control, simulator_of
from agents.pure_pursuit import PurePursuit
from occworld_env.loading import ModelSource

Evaluate = Callable[[Array], Array]
"""Return of each candidate (N, n) from candidates (N, n, H, 2)."""


@dataclass(frozen=True)
class Budget:
    """How much is imagined for one action: candidates * horizon * iterations steps of each world.

    Attributes:
        candidates: sequences n that are rolled out side by side, at least 4.
        horizon: steps H that each is long.
        iterations: rounds of candidates, each drawn about the best of the round before.
        spread: standard deviation of the corrections, (pedal, wheel).
        smoothness: correlation of successive steps of a candidate, 0 to 1.
    """

    candidates: int = 8
    horizon: int = 4
    iterations: int = 1
    spread: tuple[float, float] = (0.4, 0.12)
    smoothness: float = 0.7

    def __post_init__(self) -> None:
        if self.candidates < 4 or self.horizon < 1 or self.iterations < 1:
            found = f"{self.candidates}, {self.horizon} and {self.iterations}"
            raise ValueError(f"budget: expected candidates >= 4, horizon >= 1 and iterations >= 1, found {found}")
        if min(self.spread) < 0 or not 0 <= self.smoothness <= 1:
            found = f"{self.spread} and {self.smoothness}"
            raise ValueError(f"budget: expected spread >= 0 and smoothness from 0 to 1, found {found}")


class ImaginingPlanner(ABC):
    """Base of the planners that roll the world model; `search` is what they differ in. They have to be attached."""

    name: ClassVar[str]

    def __init__(self, budget: Budget | None = None, seed: int = 0, model: ModelSource = None) -> None:
        """seed: of the candidates and of the imagined futures. model: to imagine with, see `Imagination`."""
        self.budget, self._seed, self._model = budget or Budget(), seed, model
        self._pursuit = PurePursuit()
        self._imagination: Imagination | None = None
        self._plan = np.empty(0)

    def attach(self, env: Environment) -> None:
        """See `Attachable`."""
        simulator = simulator_of(env)
        require_control(simulator, self.name)
        self._pursuit.attach(env)
        self._imagination = Imagination(simulator, self._pursuit, self.budget.candidates, self._model)
        self.reset()

    def reset(self) -> None:
        """See `Planner.reset`."""
        if self._imagination is not None:
            self._plan = np.zeros((self._imagination.real.num_worlds, self.budget.horizon, 2))

    def act(self, observation: Observation, info: Mapping[str, Any]) -> Array:
        """See `Planner.act`; info: `seed` and `time` of the environment's."""
        if self._imagination is None:
            raise ValueError(f"{self.name}: attach the planner to its environment first, whose world model it rolls")
        imagination, worlds = self._imagination, len(self._plan)
        imagination.update()
        self._plan[begins(info, worlds)] = 0.0
        random = episode_random(info, self._seed, worlds)
        seeds = np.array([generator.integers(2**63 - 1) for generator in random])
        plan = self.search(lambda candidates: imagination.returns(candidates, seeds), self._plan, random)
        self._plan = np.concatenate((plan[:, 1:], np.zeros((worlds, 1, 2))), axis=1)
        steered = np.atleast_2d(self._pursuit.act(observation, info))
        action = np.clip(steered + plan[:, 0], -1, 1).astype(np.float32)
        return action if np.ndim(observation["vector"]) == 2 else action[0]

    @abstractmethod
    def search(self, evaluate: Evaluate, plan: Array, random: list[np.random.Generator]) -> Array:
        """A better plan (N, H, 2) than plan, with one generator a world."""

    def candidates(self, mean: Array, spread: Array, random: list[np.random.Generator]) -> Array:
        """Candidates (N, n, H, 2) about mean (N, H, 2) with standard deviations spread (N, H, 2).

        The first three are always the mean itself, pure pursuit as it is, and full braking.
        """
        horizon, rho = self.budget.horizon, self.budget.smoothness
        noise = np.stack([generator.standard_normal((self.budget.candidates - 3, horizon, 2)) for generator in random])
        for step in range(1, horizon):
            noise[:, :, step] = rho * noise[:, :, step - 1] + np.sqrt(1 - rho**2) * noise[:, :, step]
        braking = np.zeros_like(mean)
        braking[..., 0] = -2.0  # full braking even where pure pursuit would accelerate fully
        fixed = np.stack((mean, np.zeros_like(mean), braking), axis=1)
        return np.concatenate((fixed, mean[:, None] + spread[:, None] * noise), axis=1)
