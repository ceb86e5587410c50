"""Driving all episodes of an evaluation, here or spread by ray, and keeping each as soon as it is driven.

An episode is decided by its job alone: it has a world and a planner of its own and seeds that come from its start, so how many
workers there are and who drives what changes nothing. A recorded episode is not driven again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agents.evaluation.episode import SUFFIX, Episode, StartState, load_episode, save_episode
from agents.evaluation.record import record
from agents.evaluation.worlds import WorldSettings, open_world
from agents.load import files_of, make_planner
from agents.planner import interface_of


@dataclass(frozen=True)
class Job:
    """One episode to drive.

    Attributes:
        world: name of the world. planner: what `agents.load.make_planner` takes. place: where it begins.
        settings: what the world is made of.
        threads: of torch; the last bits of what a network says depend on them, so they are the same wherever it is driven.
    """

    world: str
    planner: str
    place: StartState
    settings: WorldSettings
    threads: int = 1


def drive(job: Job) -> Episode:
    """Drive one episode in this process."""
    with threads(job.threads):
        try:
            planner = make_planner(job.planner, seed=job.place.seed % 2**31)
            env = open_world(job.world, job.settings, interface_of(planner))
            return record(env, planner, job.place, job.world, job.planner)
        except ValueError as error:
            where = f"{job.planner} in {job.world}, episode {job.place.number} ({job.place.scene}, {job.place.ego})"
            raise ValueError(f"{where}: {error}") from error


def drive_here(jobs: Iterable[Job]) -> Iterator[Episode]:
    """Drive one episode after the other in this process."""
    return map(drive, jobs)


def drive_all(
    jobs: list[Job], folder: Path, driven_by: Callable[[list[Job]], Iterator[Episode]], done: Callable[[int], None]
) -> list[Path]:
    """The files of the episodes of `jobs`, in their order; what `folder` does not hold is driven.

    driven_by: gives the episodes of jobs in any order, for example `drive_here`. done: told how many more are finished.
    """
    missing = [job for job in jobs if not _recorded(job, folder)]
    done(len(jobs) - len(missing))
    for episode in driven_by(missing):
        save_episode(episode, episode_path(folder, episode.world, episode.planner, episode.place.number))
        done(1)
    return [episode_path(folder, job.world, job.planner, job.place.number) for job in jobs]


def _recorded(job: Job, folder: Path) -> bool:
    """Whether an episode is there and is that of the job; a broken file is none."""
    path = episode_path(folder, job.world, job.planner, job.place.number)
    if not path.exists():
        return False
    try:
        return load_episode(path).place == job.place
    except ValueError:
        return False


def episode_path(folder: Path, world: str, planner: str, number: int) -> Path:
    """File of an episode. The folder of a planner bears a digest of its name and of the file that it is in, if it is in one."""
    digest = hashlib.sha256(planner.encode())
    for path in files_of(planner):
        digest.update(path.read_bytes())
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", planner)[-40:]
    return folder / "episodes" / world / f"{name}-{digest.hexdigest()[:8]}" / f"{number:05d}{SUFFIX}"


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Note in `folder` what its episodes were driven with; raises ValueError where it holds those of other settings."""
    path = folder / "settings.json"
    told = json.loads(json.dumps(settings))
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        differ = sorted(name for name in told.keys() | found.keys() if told.get(name) != found.get(name))
        if differ:
            raise ValueError(
                f"--out: {folder} holds episodes of another evaluation, other in {', '.join(differ)}; name another folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(".settings.partial.json")
    partial.write_text(json.dumps(told, indent=1), encoding="utf-8")
    os.replace(partial, path)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch computes with `count` threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
