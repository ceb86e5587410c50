"""Confidence intervals by bootstrap over clips, which are the independent samples: frames of a clip are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 200
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its confidence interval of LEVEL; NaN where there is none."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[..., float], sizes: tuple[int, ...], *, centred: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Value and interval of statistic(index, ...), which takes clip numbers int64 (N,), one tensor for each set of clips.

    sizes: number of clips of each set; all sets are drawn again. The interval holds LEVEL of the resampled values. centred, for
    distances between sets: it is their spread about their own mean, laid about the value, since a set in which clips occur
    twice is farther from everything than one in which they do not.
    """
    value = statistic(*(torch.arange(size) for size in sizes))
    generator = torch.Generator().manual_seed(seed)
    drawn = [statistic(*(torch.randint(size, (size,), generator=generator) for size in sizes)) for _ in range(resamples)]
    found = torch.tensor([sample for sample in drawn if not math.isnan(sample)], dtype=torch.float64).sort().values
    if len(found) < 2 or not math.isfinite(value):
        return Estimate(value, math.nan, math.nan)
    shift = float(value - found.mean()) if centred else 0.0
    low, high = (_quantile(found, share) + shift for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value, low, high)


def _quantile(sorted_values: Tensor, share: float) -> float:
    """Quantile between neighbours of sorted values (N,), which may be infinite."""
    place = share * (len(sorted_values) - 1)
    below, above = (float(sorted_values[index]) for index in (math.floor(place), math.ceil(place)))
    return below if below == above else below + (above - below) * (place - math.floor(place))


def halves(sources: list[str], count: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """`count` random divisions of clips into two halves of one size, int64 (N,) each; by source where there are enough of them.

    With four sources or more, none of them half of all clips, no source has clips in both halves: clips of one town are alike,
    and a floor from halves that share towns would be too low. The larger half is cut to the size of the smaller.
    """
    generator = torch.Generator().manual_seed(seed)
    clips_of: dict[str, list[int]] = {}
    for number, source in enumerate(sources):
        clips_of.setdefault(source, []).append(number)
    if len(clips_of) < 4 or max(map(len, clips_of.values())) > len(sources) / 2:
        clips_of = {str(number): [number] for number in range(len(sources))}
    units = [clips_of[name] for name in sorted(clips_of)]
    out = []
    for _ in range(count):
        sides: tuple[list[int], list[int]] = ([], [])
        for index in torch.randperm(len(units), generator=generator).tolist():
            min(sides, key=len).extend(units[index])
        size = min(map(len, sides))
        mixed = [torch.tensor(side)[torch.randperm(len(side), generator=generator)[:size]] for side in sides]
        out.append((mixed[0], mixed[1]))
    return out
