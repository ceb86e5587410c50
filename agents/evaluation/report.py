"""The evaluation as one HTML page that needs nothing but itself: ranking, terms, worlds compared, failures to replay."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation.episode import load_episode
from agents.evaluation.figures import ranking_figure, scatter_figure, shade
from agents.evaluation.film import film
from agents.evaluation.optimism import EVENTS, Detection
from agents.evaluation.results import Result, Results
from agents.evaluation.scores import TERMS
from agents.evaluation.statistics import Estimate

EVENTS_OF_EPISODES = ("collision", "at_fault", "offroad", "offroute")
_FAILED = ("collision", "offroad", "offroute")


@dataclass(frozen=True)
class Settings:
    """What the page says of how it was made.

    Attributes:
        command: the command line. told: further settings by name.
        films: failures that are filmed for each planner in each world, at most.
    """

    command: str
    told: dict[str, str]
    films: int = 3


@dataclass(frozen=True)
class Failure:
    """One row of the table of failures; film and still are data URIs."""

    result: Result
    what: str
    film: str
    still: str


def write_report(
    path: Path,
    results: Results,
    optimism: dict[str, dict[str, Detection]],
    settings: Settings,
    filmed: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the page beside its place first and then rename it; filmed is told of each film that is finished."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"estimate": _estimate, "percent": _percent, "shade": shade}
    page = environment.get_template("report.html").render(**context(results, optimism, settings, filmed))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)


def context(
    results: Results, optimism: dict[str, dict[str, Detection]], settings: Settings, filmed: Callable[[int], None]
) -> dict[str, Any]:
    """What the template is filled with."""
    worlds = results.worlds
    means = {
        world: {planner: {term: results.mean(world, planner, term) for term in TERMS} for planner in results.planners}
        for world in worlds
    }
    pairs = [(worlds[0], other) for other in worlds[1:]]
    return {
        "settings": settings,
        "results": results,
        "means": means,
        "terms": [term for term in TERMS if term not in EVENTS_OF_EPISODES],
        "events": EVENTS_OF_EPISODES,
        "ranking_figure": ranking_figure(results),
        "comparisons": [
            {
                "dream": dream,
                "reference": reference,
                "figure": scatter_figure(results, dream, reference),
                "rows": results.agreements(dream, reference),
            }
            for dream, reference in pairs
        ],
        "collisions": _collisions(results),
        "optimism": optimism,
        "optimism_events": EVENTS,
        "failures": {world: _failures(results, world, settings.films, filmed) for world in worlds},
        "counts": {world: sum(_failed(item) for p in results.planners for item in results.table[world, p]) for world in worlds},
    }


def films_wanted(results: Results, films: int) -> int:
    """How many films `write_report` makes."""
    return sum(min(sum(map(_failed, items)), films) for items in results.table.values())


def _failed(result: Result) -> bool:
    return result.scores.ending in _FAILED


def _failures(results: Results, world: str, films: int, filmed: Callable[[int], None]) -> list[Failure]:
    """The first failures of each planner, collisions before the rest, in the order of the ranking."""
    rows = []
    for planner in results.ranking(world):
        failed = [item for item in results.table[world, planner] if _failed(item)]
        failed.sort(key=lambda item: (-item.scores.at_fault, -item.scores.collision, item.place.number))
        for item in failed[:films]:
            rows.append(Failure(item, what_failed(item), *film(load_episode(item.path), what_failed(item))))
            filmed(1)
    return rows


def what_failed(result: Result) -> str:
    """A few words on how an episode failed."""
    if result.scores.hit:
        return f"hit: {result.scores.hit.replace('_', ' ')}"
    return {"offroad": "left the road", "offroute": "left its route"}[result.scores.ending]


def _collisions(results: Results) -> dict[str, tuple[list[str], dict[str, dict[str, tuple[int, int]]]]]:
    """For each world, the classes that were hit, and for each planner how often and how often by its fault."""
    found = {}
    for world in results.worlds:
        rows = {planner: results.collisions(world, planner) for planner in results.ranking(world)}
        found[world] = sorted({name for row in rows.values() for name in row}), rows
    return found


def _estimate(item: Estimate, digits: int = 2) -> str:
    if not np.isfinite(item.value):
        return "-"
    return f"{item.value:.{digits}f} [{item.low:.{digits}f}, {item.high:.{digits}f}]"


def _percent(item: Estimate) -> str:
    if not np.isfinite(item.value):
        return "-"
    return f"{100 * item.value:.0f} % [{100 * item.low:.0f}, {100 * item.high:.0f}]"
