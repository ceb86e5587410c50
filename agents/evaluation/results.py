"""All scores of an evaluation in one table, planner by planner and world by world, and what is read off it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.episode import StartState, load_episode
from agents.evaluation.scores import TERMS, Scores, score_episode
from agents.evaluation.statistics import Estimate, bootstrap_unit, bootstrap_weights, estimate
from agents.evaluation.trust import RankAgreement, rank_agreement, without_trivial

Array = np.ndarray


@dataclass(frozen=True)
class Result:
    """Scores of one episode, and the file that holds all of it."""

    world: str
    planner: str
    place: StartState
    scores: Scores
    path: Path


@dataclass(frozen=True)
class Results:
    """Results of P planners in W worlds from N starts.

    Attributes:
        worlds, planners: names, in the order asked for.
        table: for (world, planner), the results of all starts in their order.
    """

    worlds: tuple[str, ...]
    planners: tuple[str, ...]
    table: dict[tuple[str, str], list[Result]]

    @cached_property
    def scenes(self) -> list[str]:
        """Name of the scene of each start."""
        return [result.place.scene for result in next(iter(self.table.values()))]

    @cached_property
    def weights(self) -> Array:
        """Bootstrap weights of the starts, see `statistics.bootstrap_weights`."""
        return bootstrap_weights(self.scenes)

    @property
    def unit(self) -> str:
        """What the bootstrap draws again: "starts" or "scenes"."""
        return bootstrap_unit(self.scenes)

    def values(self, world: str, planner: str, term: str) -> Array:
        """A term of all episodes (N,)."""
        return np.array([getattr(result.scores, term) for result in self.table[world, planner]], dtype=np.float64)

    def mean(self, world: str, planner: str, term: str) -> Estimate:
        """A term's mean and interval."""
        return estimate(self.values(world, planner, term), self.weights)

    def ranking(self, world: str) -> list[str]:
        """Planners by their mean score, the best first."""
        return sorted(self.planners, key=lambda planner: -self.mean(world, planner, "score").value)

    def collisions(self, world: str, planner: str) -> dict[str, tuple[int, int]]:
        """How many episodes ended by hitting each class, and how many of those by the ego's fault."""
        every, fault = Counter[str](), Counter[str]()
        for result in self.table[world, planner]:
            if result.scores.hit:
                every[result.scores.hit] += 1
                fault[result.scores.hit] += int(result.scores.at_fault)
        return {name: (every[name], fault[name]) for name in sorted(every)}

    def agreements(self, dream: str, reference: str) -> dict[str, RankAgreement]:
        """How two worlds agree on all planners, and on those that are not trivial where some are; none for fewer than two."""
        kept = {"all planners": list(self.planners)}
        if len(others := without_trivial(self.planners)) < len(self.planners):
            kept["without stop and random"] = others
        return {name: self._agreement(dream, reference, group) for name, group in kept.items() if len(group) > 1}

    def _agreement(self, dream: str, reference: str, planners: list[str]) -> RankAgreement:
        here, there = (np.stack([self.values(world, name, "score") for name in planners]) for world in (dream, reference))
        return rank_agreement(here, there, self.weights)


def score_all(
    worlds: tuple[str, ...], names: Mapping[str, str], paths: list[Path], done: Callable[[int], None] = lambda _: None
) -> Results:
    """Score the episodes of an evaluation, file by file.

    names: what each planner, as it was driven, is called in the results. done: told of each episode.
    """
    planners = tuple(names.values())
    table: dict[tuple[str, str], list[Result]] = {(world, planner): [] for world in worlds for planner in planners}
    for path in paths:
        episode = load_episode(path)
        result = Result(episode.world, names[episode.planner], episode.place, score_episode(episode), path)
        table[result.world, result.planner].append(result)
        done(1)
    for row in table.values():
        row.sort(key=lambda result: result.place.number)
    return Results(worlds, planners, table)


def as_json(results: Results) -> dict[str, Any]:
    """Everything as JSON knows it: means with intervals, collisions, agreement of worlds, and each episode."""
    told: dict[str, Any] = {"starts": len(results.scenes), "bootstrap": results.unit, "worlds": {}, "agreement": {}}
    for world in results.worlds:
        told["worlds"][world] = {planner: _told(results, world, planner) for planner in results.ranking(world)}
    for other in results.worlds[1:]:
        found = results.agreements(results.worlds[0], other)
        told["agreement"][f"{results.worlds[0]} against {other}"] = {
            name: _finite(asdict(item)) for name, item in found.items()
        }
    return told


def _told(results: Results, world: str, planner: str) -> dict[str, Any]:
    return {
        "terms": {term: _finite(asdict(results.mean(world, planner, term))) for term in TERMS},
        "collisions": {name: {"any": n, "at fault": f} for name, (n, f) in results.collisions(world, planner).items()},
        "episodes": [vars(item.place) | item.scores.plain() for item in results.table[world, planner]],
    }


def _finite(told: Any) -> Any:
    """The same with None for NaN, which JSON does not know."""
    if isinstance(told, dict):
        return {name: _finite(value) for name, value in told.items()}
    return None if isinstance(told, float) and not np.isfinite(told) else told
