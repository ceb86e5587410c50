"""The worlds that planners are judged in, by name."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import gymnasium
import torch

import occworld_env
from agents.planner import USUAL, Interface
from models.warp import WarpWorldModel
from occworld_env.loading import DEFAULT_MODEL, load_world_model
from scenes.grid import MINI

gymnasium.register_envs(occworld_env)

WORLDS = {
    "dream": "OccSora-v0",
    "reference": "OccSoraReference-v0",
    "warp": "OccSora-v0",
}
"""Environment of each world. `warp` is OccSora-v0 with the rigid baseline: the first frame as a photograph to drive through."""


@dataclass(frozen=True)
class WorldSettings:
    """What a world is made of, the same on every machine.

    Attributes:
        scenes: folder or file that starts come from, None for the bundled scenes.
        model: world model of `dream`: a name, a folder or a hub id, "warp" for the rigid baseline, None for the bundled one. Of
            `reference` it decides grid and clock, and for those who see tokens the codes.
        device: where world model and simulator live.
    """

    scenes: str | None = None
    model: str | None = None
    device: str = "cpu"


def check_worlds(names: tuple[str, ...]) -> None:
    """Raise ValueError on a name that is no world, or whose environment is not there."""
    for name in names:
        if name not in WORLDS:
            raise ValueError(f"--worlds: expected some of {', '.join(WORLDS)}, found {name!r}")
        if WORLDS[name] not in gymnasium.registry:
            raise ValueError(f"--worlds: {name!r} needs the environment {WORLDS[name]}, which is not installed")


@lru_cache(maxsize=8)
def open_world(name: str, settings: WorldSettings, interface: Interface = USUAL) -> Any:
    """The environment of a world without Gymnasium's wrappers; one and the same in a process for the same arguments."""
    arguments: dict[str, Any] = {"scenes": settings.scenes, "device": settings.device, **vars(interface)}
    arguments["world_model"] = _rigid(settings) if "warp" in (name, settings.model) else settings.model
    if name == "reference" and interface.observation == "tokens" and settings.model is None:
        arguments["world_model"] = DEFAULT_MODEL  # true worlds have no codes of their own: those of the dream beside them
    return gymnasium.make(WORLDS[name], **arguments).unwrapped


def _rigid(settings: WorldSettings) -> WarpWorldModel:
    """The rigid baseline on the grid and clock of the world model, those of `mini` where none is named."""
    if settings.model in (None, "warp"):
        return WarpWorldModel(MINI)
    model = load_world_model(settings.model, torch.device(settings.device))
    return WarpWorldModel(model.grid, model.dt, model.chunk_frames)


def fingerprint(settings: WorldSettings) -> dict[str, Any]:
    """The settings, with size and time of change of the files that they name: other files are another evaluation."""
    return asdict(settings) | {f"{name} files": _listing(getattr(settings, name)) for name in ("scenes", "model")}


def _listing(path: str | None) -> list[list[Any]]:
    """Name, size and time of change of the files in a folder, or of one file; empty for what is neither."""
    if path is None or not os.path.exists(path):
        return []
    files = [path] if os.path.isfile(path) else sorted(item.path for item in os.scandir(path) if item.is_file())
    return [[os.path.basename(item), os.stat(item).st_size, os.stat(item).st_mtime_ns] for item in files]
