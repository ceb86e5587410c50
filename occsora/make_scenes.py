"""Make scene files from SUMO traffic or recorded driving, or stores of clips from voxel data sets or scene files."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from occsora import make_scenes_clips
from scenes.scene import Scene
from scenes.scene_file import SUFFIX, save_scene


@dataclass(frozen=True)
class MakeScenesSumo:
    """Generated towns with SUMO's traffic, one a seed."""

    out: Path
    """Folder for the scene files; seeds whose file is there already are skipped."""
    seeds: str = "0:40"
    """Range of seeds, first:end (end excluded), or a single seed."""
    seconds: float = 60.0
    """Length of each scene."""
    dt: float = 0.25
    """Seconds between track frames."""
    layout: Literal["any", "grid", "random", "spider"] = "any"
    """Layout of the streets; "any" draws one a seed."""
    jobs: int = 1
    """Processes that work side by side."""


@dataclass(frozen=True)
class MakeScenesOsm:
    """SUMO's traffic on the streets of an OpenStreetMap extract, one scene a seed."""

    file: tyro.conf.Positional[Path]
    """The extract: .osm or .osm.xml."""
    out: Path
    """Folder for the scene files; seeds whose file is there already are skipped."""
    seeds: str = "0:1"
    """Range of seeds of the traffic, first:end (end excluded), or a single seed."""
    seconds: float = 60.0
    """Length of each scene."""
    dt: float = 0.25
    """Seconds between track frames."""
    jobs: int = 1
    """Processes that work side by side."""


@dataclass(frozen=True)
class MakeScenesScenarioNet:
    """Recorded driving (nuScenes, Waymo, nuPlan, Argoverse 2) in ScenarioNet's format, one scene a recording."""

    folder: tyro.conf.Positional[Path]
    """The recordings: a folder with .pkl files, or one of them; they are read without running any code in them."""
    out: Path
    """Folder for the scene files; recordings whose file is there already are skipped."""
    jobs: int = 1
    """Processes that work side by side."""


MakeScenes = MakeScenesSumo | MakeScenesOsm | MakeScenesScenarioNet
COMMAND = (
    Annotated[MakeScenesSumo, tyro.conf.subcommand("sumo", prefix_name=False)]
    | Annotated[MakeScenesOsm, tyro.conf.subcommand("osm", prefix_name=False)]
    | Annotated[MakeScenesScenarioNet, tyro.conf.subcommand("scenarionet", prefix_name=False)]
    | make_scenes_clips.COMMAND
)


def make_scenes(config: MakeScenes) -> list[Path]:
    """Make all scenes that are not there yet; returns the paths of all of them, in the order of their seeds or names.

    ValueError that names what failed, after the others are done.
    """
    wanted = _wanted(config)
    config.out.mkdir(parents=True, exist_ok=True)
    tasks = {path: (config, origin, path) for path, origin in wanted.items() if not path.is_file()}
    run_tasks(make_one, tasks, config.jobs, title="scenes")
    return list(wanted)


def _wanted(config: MakeScenes) -> dict[Path, int | Path]:
    """The scene files that are asked for, and the seed or recording each is made from."""
    if isinstance(config, MakeScenesScenarioNet):
        from scenes.scenarionet import recordings

        found = recordings(config.folder)
        if not found:
            raise FileNotFoundError(f"{config.folder}: expected ScenarioNet recordings (*.pkl), found none")
        return {config.out / f"{path.stem}{SUFFIX}": path for path in found}
    if isinstance(config, MakeScenesOsm) and not config.file.is_file():
        raise FileNotFoundError(f"{config.file}: expected an OpenStreetMap extract (.osm or .osm.xml), found no such file")
    stem = "sumo" if isinstance(config, MakeScenesSumo) else config.file.name.split(".")[0]
    return {config.out / f"{stem}-{seed:04d}{SUFFIX}": seed for seed in parse_seeds(config.seeds)}


def make_one(config: MakeScenes, origin: int | Path, path: Path) -> float:
    """Make and save the scene of one seed or recording; returns the seconds of driving of all its egos together."""
    import torch

    torch.set_num_threads(1)
    scene = _scene(config, origin)
    save_scene(scene, path)
    return sum(end - start for start, end in map(scene.ego_span, scene.egos))


def _scene(config: MakeScenes, origin: int | Path) -> Scene:
    if isinstance(origin, Path):
        from scenes.scenarionet import load_scenario

        return load_scenario(origin)
    from scenes import sumo

    if isinstance(config, MakeScenesSumo):
        return sumo.make_scene(origin, config.seconds, config.dt, None if config.layout == "any" else config.layout)
    assert isinstance(config, MakeScenesOsm)
    return sumo.scene_from_osm(config.file, origin, config.seconds, config.dt)


def parse_seeds(text: str) -> range:
    """Read "first:end" or a single number; ValueError otherwise."""
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
    if not match:
        raise ValueError(f"seeds: expected first:end or one number, for example 0:40, found {text!r}")
    first, end = int(match[1]), int(match[2]) if match[2] else int(match[1]) + 1
    if end <= first:
        raise ValueError(f"seeds: expected an end above the first seed, found {text!r}")
    return range(first, end)


def run_tasks(work: Callable[..., float], tasks: Mapping[Path, tuple[object, ...]], jobs: int, title: str) -> None:
    """Call work(*arguments) for each task in `jobs` processes under a progress bar; work returns seconds of ego driving."""
    console = Console(stderr=True)
    failed: dict[Path, str] = {}
    seconds = 0.0
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    context = multiprocessing.get_context("spawn")
    with (
        Progress(TextColumn("{task.description}"), *columns, console=console) as progress,
        ProcessPoolExecutor(max(jobs, 1), mp_context=context) as pool,
    ):
        bar = progress.add_task(title, total=len(tasks), note="")
        waiting = {pool.submit(work, *arguments): path for path, arguments in tasks.items()}
        for done in as_completed(waiting):
            try:
                seconds += done.result()
            except Exception as error:  # one bad scene must not lose the others
                failed[waiting[done]] = f"{type(error).__name__}: {error}"
            progress.update(bar, advance=1, note=f"{seconds / 3600:.1f} h of ego driving")
    if failed:
        listed = "; ".join(f"{path}: {message}" for path, message in failed.items())
        raise ValueError(f"{len(failed)} of {len(tasks)} scenes failed: {listed}")


def run(config: MakeScenes | make_scenes_clips.MakeClips) -> None:
    """Make the scenes or clips and say where they are."""
    if isinstance(config, make_scenes_clips.MakeClips):
        store = make_scenes_clips.make_clips(config)
        frames = sum(store.frames(number) for number in range(len(store)))
        Console(stderr=True).print(f"{len(store)} clips of {frames} frames in {store.address}")
        return
    paths = make_scenes(config)
    Console(stderr=True).print(f"{len(paths)} scenes in {config.out}")
