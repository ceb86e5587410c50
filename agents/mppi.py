"""Planning in imagination by model predictive path integral control.

Williams et al., Information Theoretic MPC for Model-Based Reinforcement Learning (2017): the plan is the mean of all
candidates, each weighted by the exponential of its return.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from agents.imagining_planner import Budget, Evaluate, ImaginingPlanner
from agents.planner import Array
from occworld_env.loading import ModelSource


class Mppi(ImaginingPlanner):
    """Drives the mean of the candidates, the better ones weighing more."""

    name: ClassVar[str] = "mppi"

    def __init__(
        self, budget: Budget | None = None, temperature: float = 0.2, seed: int = 0, model: ModelSource = None
    ) -> None:
        """temperature: difference of returns by which a candidate weighs e times less. Others: see `ImaginingPlanner`."""
        super().__init__(budget, seed, model)
        if not temperature > 0:
            raise ValueError(f"temperature: expected a positive number, found {temperature}")
        self._temperature = temperature

    def search(self, evaluate: Evaluate, plan: Array, random: list[np.random.Generator]) -> Array:
        """See `ImaginingPlanner.search`."""
        spread = np.broadcast_to(self.budget.spread, plan.shape)
        for _ in range(self.budget.iterations):
            drawn = self.candidates(plan, spread, random)
            value = evaluate(drawn)
            weight = np.exp((value - value.max(axis=1, keepdims=True)) / self._temperature)
            weight /= weight.sum(axis=1, keepdims=True)
            plan = np.einsum("nk,nkhd->nhd", weight, drawn)
        return plan
