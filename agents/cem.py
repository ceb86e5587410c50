"""Planning in imagination by the cross-entropy method.

Rubinstein's method (1999) with what Pinneri et al., Sample-efficient Cross-Entropy Method for Real-time Planning (2020), add to
it: noise that is correlated over time, a warm start from the last plan, elites that are kept, and the best candidate of all is
driven, not the mean.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from agents.imagining_planner import Budget, Evaluate, ImaginingPlanner
from agents.planner import Array
from occworld_env.loading import ModelSource

_LEAST_SPREAD = 0.05  # of the first spread: a distribution that has collapsed finds nothing more


class Cem(ImaginingPlanner):
    """Draws candidates about the mean of the best ones, again and again, and drives the best."""

    name: ClassVar[str] = "cem"

    def __init__(self, budget: Budget | None = None, elites: int = 3, seed: int = 0, model: ModelSource = None) -> None:
        """elites: candidates that the next round is drawn about. Others: see `ImaginingPlanner`."""
        super().__init__(budget, seed, model)
        if not 1 <= elites <= self.budget.candidates:
            raise ValueError(f"elites: expected 1 to {self.budget.candidates}, the candidates, found {elites}")
        self._elites = elites

    def search(self, evaluate: Evaluate, plan: Array, random: list[np.random.Generator]) -> Array:
        """See `ImaginingPlanner.search`."""
        mean, spread = plan, np.broadcast_to(self.budget.spread, plan.shape)
        least = _LEAST_SPREAD * spread
        kept, value = np.empty((len(plan), 0, *plan.shape[1:])), np.empty((len(plan), 0))
        for _ in range(self.budget.iterations):
            drawn = self.candidates(mean, spread, random)
            kept = np.concatenate((kept, drawn), axis=1)
            value = np.concatenate((value, evaluate(drawn)), axis=1)
            order = np.argsort(-value, axis=1, kind="stable")[:, : self._elites]
            value = np.take_along_axis(value, order, axis=1)
            kept = np.take_along_axis(kept, order[..., None, None], axis=1)
            mean, spread = kept.mean(axis=1), np.maximum(kept.std(axis=1), least)
        return kept[:, 0]
