"""What is kept of an episode: where the ego drove, what it was shown, and what happened; enough to score and to draw it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from occworld_env.footprint import NO_CLASS
from scenes.grid import Grid

Array = np.ndarray
SUFFIX = ".npz"
_EVENTS = ("offroad", "offroute", "route_completed")


@dataclass(frozen=True)
class StartState:
    """Where an episode begins, the same for every planner and world.

    Attributes:
        number: position in the list of starts.
        scene: name of the scene. ego: id of the ego's track in it.
        start: seconds in the scene. seconds: how long the episode lasts at most.
        seed: of the imagined or simulated future, and of the planner's own randomness.
    """

    number: int
    scene: str
    ego: str
    start: float
    seconds: float
    seed: int


@dataclass(frozen=True)
class Episode:
    """One planner in one world from one start: K environment steps, S integration steps, F frames.

    All poses are world poses of the rear axle: metres, metres, radians.

    Attributes:
        world: name of the world. planner: how it was asked for. place: where it began.
        grid: voxel grid of the frames.
        box: length, width and how far the box's centre lies ahead of the rear axle, metres, float64 (3,).
        route: world points (M, 2) of the task. route_left: metres of it ahead at the start.
        target_speed: m/s. horizon: seconds that the episode could last at most.
        dt: seconds between integration steps. frame_dt: seconds between frames.
        poses: at each integration step, the start first, float64 (S + 1, 3).
        speed: m/s (S + 1,). acceleration: along the car, m/s^2 (S + 1,).
        frame_poses: float64 (F + 1, 3), the start first.
        ground, obstacle: what each frame shows from above, uint8 (F + 1, X, Y), see `occworld_env.footprint.Surface`.
        gained: metres along the route since the start after each environment step, 0 first, (K + 1,).
        reward: of each step (K,).
        collision_class: class id that was hit in each step, NO_CLASS for none, int64 (K,).
        offroad, offroute, route_completed: what else happened in each step, bool (K,).
        expert: metres along the route since the start of the recorded driver, frame_dt apart, 0 first, (E,).
    """

    world: str
    planner: str
    place: StartState
    grid: Grid
    box: Array
    route: Array
    route_left: float
    target_speed: float
    horizon: float
    dt: float
    frame_dt: float
    poses: Array
    speed: Array
    acceleration: Array
    frame_poses: Array
    ground: Array
    obstacle: Array
    gained: Array
    reward: Array
    collision_class: Array
    offroad: Array
    offroute: Array
    route_completed: Array
    expert: Array

    @property
    def seconds(self) -> float:
        """How long the episode lasted."""
        return (len(self.poses) - 1) * self.dt

    @property
    def step_seconds(self) -> float:
        """Seconds of an environment step."""
        return self.seconds / max(len(self.reward), 1)

    @cached_property
    def ending(self) -> str:
        """Why it ended, in one or two words: "collision", "offroad", "offroute", "route completed" or "time limit"."""
        if (self.collision_class != NO_CLASS).any():
            return "collision"
        return next((name.replace("_", " ") for name in _EVENTS if getattr(self, name).any()), "time limit")


def _arrays() -> list[str]:
    return [item.name for item in fields(Episode) if item.type == "Array"]


def save_episode(episode: Episode, path: Path) -> None:
    """Write an episode to an `.npz` file, beside it first and then renamed; its folder is made where it is missing."""
    numbers = ("world", "planner", "route_left", "target_speed", "horizon", "dt", "frame_dt")
    told = {name: getattr(episode, name) for name in numbers} | {"place": vars(episode.place)}
    told["grid"] = {"shape": episode.grid.shape, "voxel": episode.grid.voxel, "origin": episode.grid.origin}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{SUFFIX}")
    arrays = {name: getattr(episode, name) for name in _arrays()}
    np.savez_compressed(partial, told=np.array(json.dumps(told)), **arrays)
    os.replace(partial, path)


def load_episode(path: Path) -> Episode:
    """Read what `save_episode` wrote; raises ValueError that names the file where it is no such thing."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            told = json.loads(str(data["told"]))
            arrays = {name: data[name] for name in _arrays()}
        place, grid = StartState(**told.pop("place")), told.pop("grid")
        grid = Grid(tuple(grid["shape"]), grid["voxel"], tuple(grid["origin"]))
        return Episode(place=place, grid=grid, **told, **arrays)
    except (ValueError, KeyError, TypeError, EOFError, OSError, BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: expected a recorded episode ({SUFFIX}), found something else: {error}") from error
