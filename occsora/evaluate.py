"""Judge planners in closed loop, in the dream and in the reference world: a table, JSON, and a report to look at."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from agents.evaluation import optimism, results
from agents.evaluation.cluster import cluster, drive_on_ray
from agents.evaluation.episode import Episode, StartState
from agents.evaluation.report import Settings, films_wanted, write_report
from agents.evaluation.results import Results, score_all
from agents.evaluation.runner import Job, claim, drive_all, drive_here, threads
from agents.evaluation.starts import draw_starts
from agents.evaluation.statistics import Estimate
from agents.evaluation.worlds import WorldSettings, check_worlds, fingerprint, open_world
from agents.load import make_planner
from agents.planner import attach, interface_of
from occworld_env.loading import load_scene_list, scene_numbers

_COUNTERFACTUALS = 100


@dataclass(frozen=True)
class Evaluate:
    """Settings of the evaluation."""

    planners: tuple[str, ...] = ("cv", "idm")
    """Who drives: cv, stop, random, log, idm, pure-pursuit, lattice, cem, mppi (from idm on also as NAME:name=value), ppo,
    ppo:FILE.zip, sac:FILE.zip, or module:object for your own; NAME=PLANNER calls it NAME in the tables."""
    worlds: tuple[str, ...] = ("dream",)
    """Where: dream, reference (true dynamics), warp (the rigid baseline). The first is compared with the others."""
    episodes: int = 20
    """Start states, the same for every planner and world."""
    seed: int = 0
    """Decides the start states, the futures and what planners draw."""
    max_seconds: float = 20.0
    """How long an episode lasts at most."""
    scenes: Path | None = None
    """Folder or file to start from: scene files, or ScenarioNet recordings (.pkl). The bundled scenes by default."""
    model: str | None = None
    """World model of the dream: a name, a folder or a hub id. The bundled one by default."""
    device: str = "cpu"
    """Where world model and simulator live."""
    out: Path = Path("runs/evaluate")
    """Folder for the episodes, evaluation.json and report.html. A stopped evaluation goes on where it was."""
    counterfactuals: int | None = None
    """Ego paths, half of which crash or leave the road, that are fed through the first world to see whether it shows it. By
    default 100, or none where a step of that world is longer than the 2 s for which a recording can say what would happen."""
    films: int = 3
    """Failures filmed in the report for each planner in each world."""
    workers: int = 0
    """Processes of ray that drive; 0 for this process alone."""
    address: str | None = None
    """Ray cluster to drive on, for example auto; without it ray is started on this machine."""
    threads: int = 1
    """Torch threads of each episode; results are the same bit for bit where these are."""


COMMAND = Evaluate


def run(config: Evaluate) -> None:
    """Drive what is not driven yet, write the files and print the table; raises ValueError on settings that make no sense."""
    _check(config)
    console = Console()
    config = replace(config, counterfactuals=_paths(config, console))
    jobs = plan(config)
    with _progress(console) as bar:
        paths = _drive(config, jobs, _counter(bar, "driving", len(jobs)))
        found = score_all(config.worlds, named(config.planners), paths, _counter(bar, "scoring", len(jobs)))
        told = {"settings": _plain(config)} | results.as_json(found)
        _write_json(config.out / "evaluation.json", told)  # so that what goes wrong from here on costs none of it
        cases = _counterfactuals(config, bar)
        _write_json(config.out / "evaluation.json", told | {"counterfactuals": optimism.as_json(cases)})
        report = config.out / "report.html"
        counter = _counter(bar, "filming failures", films_wanted(found, config.films))
        write_report(report, found, cases, _settings(config), counter)
    for world in config.worlds:
        console.print(table(found, world))
    for line in _trust(found, cases):
        console.print(line)
    console.print(f"report: {report}  {report.stat().st_size / 2**20:.1f} MiB", soft_wrap=True)


def plan(config: Evaluate) -> list[Job]:
    """All episodes to drive; claims the output folder for these settings."""
    settings = _world_settings(config)
    worlds = sorted(config.worlds, key=lambda name: name != "dream")
    same = {"seed": config.seed, "max_seconds": config.max_seconds, "threads": config.threads}
    claim(config.out, fingerprint(settings) | same)
    with threads(config.threads):
        envs = [open_world(name, settings) for name in worlds]
        starts = draw_starts(envs, config.episodes, config.seed, config.max_seconds)
        _check_sumo(envs, starts)
        _check_planners(config, settings, starts[0])
    return [
        Job(world, planner, place, settings, config.threads)
        for world in config.worlds
        for planner in named(config.planners)
        for place in starts
    ]


def named(planners: tuple[str, ...]) -> dict[str, str]:
    """By planner, as `agents.load.make_planner` takes it, what it is called: what stands before "=", or the planner itself.

    Raises ValueError where two are called the same, or one is there twice.
    """
    names: dict[str, str] = {}
    for given in planners:
        found = re.fullmatch(r"([\w. -]+)=(.+)", given)
        name, planner = found.groups() if found else (given, given)
        if planner in names or name in names.values():
            raise ValueError(f"--planners: expected different ones, found {name} = {planner} beside {' '.join(planners)}")
        names[planner] = name
    return names


def _world_settings(config: Evaluate) -> WorldSettings:
    """Paths are made absolute, since workers may run elsewhere."""
    model = config.model and (str(Path(config.model).resolve()) if Path(config.model).exists() else config.model)
    return WorldSettings(None if config.scenes is None else str(config.scenes.resolve()), model, config.device)


def _check(config: Evaluate) -> None:
    check_worlds(config.worlds)
    for name in ("planners", "worlds"):
        given = getattr(config, name)
        if not given or len(set(given)) < len(given):
            raise ValueError(f"--{name}: expected one or more different ones, found {' '.join(given) or 'none'}")
    named(config.planners)
    for name, least in (("episodes", 1), ("counterfactuals", 0), ("films", 0), ("workers", 0), ("threads", 1)):
        given = getattr(config, name)
        if given is not None and given < least:
            raise ValueError(f"--{name}: expected {least} or more, found {given}")
    if not config.max_seconds > 0:
        raise ValueError(f"--max-seconds: expected a positive number, found {config.max_seconds}")
    if config.scenes is not None and not config.scenes.exists():
        raise FileNotFoundError(f"--scenes: {config.scenes} does not exist")
    scene_numbers(load_scene_list(_world_settings(config).scenes))  # starts are told by names, which have to differ
    for library in ("jinja2", "matplotlib", *["ray"] * _apart(config)):  # missing ones show before hours are driven
        importlib.import_module(library)


def _check_sumo(envs: list[Any], starts: list[StartState]) -> None:
    """Raise ImportError where the true world of a start is live SUMO and SUMO is not here, before the dream is driven."""
    begun = {place.scene for place in starts}
    for simulator in (env.simulator for env in envs if hasattr(env.simulator, "dynamics_of")):
        scenes, numbers = simulator.scenes, scene_numbers(simulator.scenes)
        live = any(simulator.dynamics_of(scenes[numbers[name]]) == "sumo" for name in begun)
        if live and not (importlib.util.find_spec("libsumo") and importlib.util.find_spec("sumo")):
            raise ImportError("--worlds: reference is live SUMO in these scenes: pip install -c constraints.txt -e '.[sumo]'")


def _apart(config: Evaluate) -> bool:
    """Whether ray drives."""
    return config.workers > 0 or config.address is not None


def _check_planners(config: Evaluate, settings: WorldSettings, place: StartState) -> None:
    """Make each planner once for each world, so that what cannot drive in one shows before hours are driven."""
    options = {"scene": place.scene, "ego": place.ego, "start": place.start}
    for name in named(config.planners):
        for world in config.worlds:
            try:
                planner = make_planner(name)
                env = open_world(world, settings, interface_of(planner))
                env.reset(seed=0, options=options)
                attach(planner, env)
            except ValueError as error:
                raise ValueError(f"--planners: {name} in {world}: {error}") from error


def _drive(config: Evaluate, jobs: list[Job], done: Callable[[int], None]) -> list[Path]:
    def spread(missing: list[Job]) -> Iterator[Episode]:
        return drive_on_ray(missing, config.workers)

    place = cluster(max(config.workers, 1), config.address, config.threads) if _apart(config) else nullcontext()
    with place:
        return drive_all(jobs, config.out, spread if _apart(config) else drive_here, done)


def _paths(config: Evaluate, console: Console) -> int:
    """How many counterfactual paths the first world is asked about: none in the reference, or where its steps are too long.

    Prints why where that was not asked for; raises ValueError where a number of paths was.
    """
    if config.counterfactuals == 0 or config.worlds[0] == "reference":
        return 0
    try:
        optimism.check_step(open_world(config.worlds[0], _world_settings(config)).simulator)
    except ValueError as error:
        if config.counterfactuals is not None:
            raise ValueError(f"--counterfactuals: {error}") from error
        console.print(f"no counterfactuals: {error}")
        return 0
    return _COUNTERFACTUALS if config.counterfactuals is None else config.counterfactuals


def _counterfactuals(config: Evaluate, bar: Progress) -> dict[str, dict[str, optimism.Detection]]:
    """How the first world shows what goes wrong; empty where nothing is asked for."""
    if not config.counterfactuals:
        return {}
    simulator = open_world(config.worlds[0], _world_settings(config)).simulator
    with threads(config.threads):
        counter = _counter(bar, "counterfactuals", config.counterfactuals)
        return optimism.detections(optimism.run_cases(simulator, config.counterfactuals, config.seed, counter), simulator)


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console)


def _counter(bar: Progress, name: str, total: int) -> Callable[[int], None]:
    """What advances a new line of the progress bar."""
    task = bar.add_task(name, total=total)
    return lambda count: bar.advance(task, count)


def table(found: Results, world: str) -> Table:
    """The ranking in one world: means with intervals, events in percent of episodes."""
    title = f"{world}: {len(found.scenes)} episodes a planner"
    rows = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    rows.add_column("planner", style="cyan", overflow="fold", min_width=7)
    for name in ("score", "interval", "progress", "hits", "at fault", "off-road", "off-route"):
        rows.add_column(name, justify="right", no_wrap=True)
    for planner in found.ranking(world):
        score, progress = (found.mean(world, planner, term) for term in ("score", "route_progress"))
        events = [found.mean(world, planner, term).value for term in ("collision", "at_fault", "offroad", "offroute")]
        cells = [f"{score.value:.2f}", f"{score.low:.2f}-{score.high:.2f}", f"{progress.value:.2f}"]
        rows.add_row(planner, *cells, *[f"{100 * share:.0f} %" for share in events])
    rows.caption = (
        f"score: progress times safety; interval: 95 %, bootstrap over {found.unit}; hits: collisions, at fault or not"
    )
    return rows


def _trust(found: Results, cases: dict[str, dict[str, optimism.Detection]]) -> Iterator[str]:
    """Lines on whether the first world can be believed."""
    dream = found.worlds[0]
    for other in found.worlds[1:]:
        for name, agreement in found.agreements(dream, other).items():
            told, clear = f"{dream} against {other}, {name}", agreement.clear_tau
            yield f"{told}: Kendall tau {_told(agreement.tau)}"
            if agreement.clear_pairs:
                pairs = f"{agreement.clear_pairs} of {agreement.pairs} pairs that {other} tells apart"
                yield f"{told}, the {pairs}: {_told(clear)}"
    for event, item in cases.get("all", {}).items():
        if item.true:
            yield f"{dream} shows {item.shown} of {item.true} true events, {event}: recall {_told(item.recall)}"


def _told(item: Estimate) -> str:
    return f"{item.value:.2f} ({item.low:.2f} to {item.high:.2f})"


def _settings(config: Evaluate) -> Settings:
    told = {name: str(value) for name, value in _plain(config).items() if name not in ("planners", "worlds")}
    return Settings(shlex.join(["occsora", *sys.argv[1:]]), told, config.films)


def _plain(config: Evaluate) -> dict[str, Any]:
    """The settings as JSON knows them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(config).items()}


def _write_json(path: Path, told: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(partial, path)
