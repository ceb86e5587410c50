"""The distances between two sets of features, each with its value and its confidence interval over clips."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from models.fidelity.bootstrap import Estimate, bootstrap
from models.fidelity.frechet import frechet_distance
from models.fidelity.kernel_distance import kernel_distance
from models.fidelity.precision_recall import NEIGHBOURS, TooFewClips, inside_ellipsoid, inside_neighbours
from models.metrics import share_distance


@dataclass(frozen=True)
class Measure:
    """A figure of generated against true clips, (N, ...) and (M, ...): its value, and the same with its interval.

    `estimate` takes the number of resamples and the seed besides.
    """

    value: Callable[[Tensor, Tensor], float]
    estimate: Callable[[Tensor, Tensor, int, int], Estimate]


def _of_sets(distance: Callable[[Tensor, Tensor], float]) -> Measure:
    """A distance between two sets, both of which are drawn again; it is never negative, and so is no interval of it."""

    def estimate(a: Tensor, b: Tensor, resamples: int, seed: int) -> Estimate:
        def drawn(i: Tensor, j: Tensor) -> float:
            return distance(a[i], b[j])

        found = bootstrap(drawn, (len(a), len(b)), centred=True, resamples=resamples, seed=seed)
        return replace(found, low=max(found.low, 0.0))

    return Measure(distance, estimate)


def _of_shares(shares: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    """A mean of one share a clip; NaN where `shares` says that there are too few clips."""

    def value(a: Tensor, b: Tensor) -> float:
        try:
            return float(shares(a, b).mean())
        except TooFewClips:
            return math.nan

    def estimate(a: Tensor, b: Tensor, resamples: int, seed: int) -> Estimate:
        try:
            found = shares(a, b)
        except TooFewClips:
            return Estimate(math.nan, math.nan, math.nan)
        return bootstrap(lambda i: float(found[i].mean()), (len(found),), resamples=resamples, seed=seed)

    return Measure(value, estimate)


def _frechet(a: Tensor, b: Tensor) -> float:
    return frechet_distance(a.flatten(0, 1), b.flatten(0, 1))


def _kernel(a: Tensor, b: Tensor) -> float:
    return kernel_distance(a, b)[0]


def _kernel_estimate(a: Tensor, b: Tensor, resamples: int, seed: int) -> Estimate:
    """The mean over many subsets, with the spread of one subset of each resample about it."""
    value = _kernel(a, b)

    def one_subset(i: Tensor, j: Tensor) -> float:
        return kernel_distance(a[i], b[j], subsets=1)[0]

    spread = bootstrap(one_subset, (len(a), len(b)), centred=True, resamples=resamples, seed=seed)
    return Estimate(value, value + spread.low - spread.value, value + spread.high - spread.value)


def _histograms(a: Tensor, b: Tensor) -> float:
    return share_distance(a.sum(0), b.sum(0))


FEATURE_MEASURES = {
    "frechet": _of_sets(_frechet),
    "kernel": Measure(_kernel, _kernel_estimate),
    "precision_ellipsoid": _of_shares(inside_ellipsoid),
    "recall_ellipsoid": _of_shares(lambda a, b: inside_ellipsoid(b, a)),
    f"precision_{NEIGHBOURS}nn": _of_shares(inside_neighbours),
    f"recall_{NEIGHBOURS}nn": _of_shares(lambda a, b: inside_neighbours(b, a)),
}  # of features (N, S, D)
HISTOGRAM_MEASURES = {"total_variation": _of_sets(_histograms)}  # of counts (N, bins)
