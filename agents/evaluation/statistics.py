"""Means with confidence intervals, by bootstrap over start states, and what of the planners' order they leave certain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

Array = np.ndarray
RESAMPLES = 2000
LEVEL = 0.95
ENOUGH_SCENES = 10  # from which on whole scenes are drawn and not single starts


@dataclass(frozen=True)
class Estimate:
    """A figure and its confidence interval of LEVEL; NaN where there is nothing to say."""

    value: float
    low: float
    high: float

    def overlaps(self, other: Estimate) -> bool:
        """Whether the two intervals have a value in common."""
        return self.low <= other.high and other.low <= self.high


def bootstrap_unit(scenes: list[str]) -> str:
    """What is drawn again: "scenes" where there are enough different ones, else "starts"."""
    return "scenes" if len(set(scenes)) >= ENOUGH_SCENES else "starts"


def bootstrap_weights(scenes: list[str], seed: int = 0, resamples: int = RESAMPLES) -> Array:
    """How often each of N starts is drawn in each resample, float64 (resamples, N).

    scenes: name of the scene of each start. Planners and worlds share the weights, so that their comparisons are paired.
    """
    names, member = np.unique(scenes, return_inverse=True)
    if bootstrap_unit(scenes) == "starts":
        names, member = np.arange(len(scenes)), np.arange(len(scenes))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return drawn[:, member].astype(np.float64)


def resampled_means(values: Array, weights: Array) -> Array:
    """Weighted means (R, ...) of values (N, ...) for weights (R, N)."""
    return np.tensordot(weights, values, axes=1) / weights.sum(axis=1).reshape(-1, *[1] * (values.ndim - 1))


def interval(samples: Array) -> tuple[float, float]:
    """The percentiles of samples (R,), NaN left out, that hold LEVEL of them."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return np.nan, np.nan
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def estimate(values: Array, weights: Array) -> Estimate:
    """The mean of values (N,) with its bootstrap interval."""
    return Estimate(float(values.mean()), *interval(resampled_means(values, weights)))


def proportion(count: int, total: int) -> Estimate:
    """count of total, with Wilson's interval, which takes them for independent: too narrow where a few scenes hold them all."""
    if not total:
        return Estimate(np.nan, np.nan, np.nan)
    found = binomtest(count, total).proportion_ci(LEVEL, method="wilson")
    return Estimate(count / total, float(found.low), float(found.high))


def tau(first: Array, second: Array) -> Array:
    """Kendall's tau-b (...) of two scores of the same planners (..., P); NaN where one tells none of them apart.

    As `scipy.stats.kendalltau`, for many resamples at once.
    """
    a, b = np.triu_indices(first.shape[-1], 1)
    here, there = np.sign(first[..., a] - first[..., b]), np.sign(second[..., a] - second[..., b])
    told = np.sqrt(np.abs(here).sum(-1) * np.abs(there).sum(-1))
    with np.errstate(invalid="ignore"):
        return (here * there).sum(-1) / told
