"""Whether the dream ranks planners as the reference world does: Kendall's tau, with its interval and without the easy pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from agents.evaluation.statistics import Estimate, estimate, interval, resampled_means, tau

Array = np.ndarray
TRIVIAL = ("stop", "random")  # planners that anything tells from the others


@dataclass(frozen=True)
class RankAgreement:
    """How well two worlds agree on the order of planners.

    Attributes:
        planners: how many are compared.
        tau: Kendall's tau-b of their mean scores, with its bootstrap interval.
        clear_tau: concordant less discordant pairs by all pairs, of those whose intervals in the reference do not overlap.
        clear_pairs, pairs: how many those are, of how many.
    """

    planners: int
    tau: Estimate
    clear_tau: Estimate
    clear_pairs: int
    pairs: int


def rank_agreement(dream: Array, reference: Array, weights: Array) -> RankAgreement:
    """Agreement of scores (P, N) of P planners from the same N starts; weights (R, N) as `statistics.bootstrap_weights`."""
    pairs = list(combinations(range(len(dream)), 2))
    truth = [estimate(row, weights) for row in reference]
    clear = [(a, b) for a, b in pairs if not truth[a].overlaps(truth[b])]
    there, here = resampled_means(reference.T, weights), resampled_means(dream.T, weights)
    means = dream.mean(axis=1), reference.mean(axis=1)
    return RankAgreement(
        planners=len(dream),
        tau=Estimate(float(tau(*means)), *interval(tau(here, there))),
        clear_tau=Estimate(float(_concordance(*means, clear)), *interval(_concordance(here, there, clear))),
        clear_pairs=len(clear),
        pairs=len(pairs),
    )


def _concordance(first: Array, second: Array, pairs: list[tuple[int, int]]) -> Array:
    """Mean (...) over pairs of planners, of scores (..., P): 1 where both worlds order them alike, -1 where not, 0 for a tie.

    NaN where there is no pair.
    """
    if not pairs:
        return np.full(first.shape[:-1], np.nan)
    a, b = np.array(pairs).T
    return (np.sign(first[..., a] - first[..., b]) * np.sign(second[..., a] - second[..., b])).mean(-1)


def without_trivial(planners: Sequence[str]) -> list[str]:
    """The planners that are none of TRIVIAL."""
    return [name for name in planners if name not in TRIVIAL]
