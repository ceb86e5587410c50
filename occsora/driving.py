"""What `demo`, `play` and `train-agent` share: scenes from whatever a user points at, and the environment on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium

import occworld_env
from models.warp import WarpWorldModel
from occworld_env.env import OccSoraEnv
from occworld_env.loading import ModelSource
from scenes.grid import MINI
from scenes.scenarionet import load_scenario, recordings
from scenes.scene import Scene
from scenes.scene_file import SUFFIX, load_scene, scene_paths

gymnasium.register_envs(occworld_env)


def find_scenes(path: Path | None) -> Sequence[Scene] | None:
    """Scenes of a folder or file: scene files, or ScenarioNet's `.pkl` recordings; None stands for the bundled scenes.

    Raises FileNotFoundError where nothing is at `path`, ValueError where it holds neither kind.
    """
    if path is None:
        return None
    if not path.exists():
        raise FileNotFoundError(f"--scenes: {path} does not exist")
    if is_recorded(path):
        return [load_scenario(item) for item in recordings(path)]
    files = scene_paths(path) if path.is_dir() and any(path.glob(f"*{SUFFIX}")) else [path] * path.name.endswith(SUFFIX)
    if not files:
        raise ValueError(f"--scenes: {path}: expected scene files (*{SUFFIX}) or ScenarioNet recordings (*.pkl), found none")
    return [load_scene(item) for item in files]


def is_recorded(path: Path | None) -> bool:
    """Whether `find_scenes` reads ScenarioNet recordings there."""
    return path is not None and bool(recordings(path))


def find_model(name: str | None) -> ModelSource:
    """What `--model` names: as in `gymnasium.make`, and "warp", the baseline that carries the first frame along rigidly."""
    return WarpWorldModel(MINI) if name == "warp" else name


def make_env(scenes: Path | None, model: str | None, **settings: Any) -> OccSoraEnv:
    """One OccSora-v0 without Gymnasium's wrappers, and without a time limit; `settings` are those of `gymnasium.make`."""
    env = gymnasium.make("OccSora-v0", scenes=find_scenes(scenes), world_model=find_model(model), **settings).unwrapped
    if not isinstance(env, OccSoraEnv):
        raise TypeError(f"expected an OccSoraEnv, found {type(env).__name__}")
    return env


def what_happened(info: dict[str, Any]) -> str:
    """In one word why an episode ended, from the info of its last step; "time limit" where nothing happened."""
    events = ("collision", "offroad", "offroute", "route_completed")
    return next((name.replace("_", " ") for name in events if info[name]), "time limit")
