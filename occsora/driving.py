"""What `demo`, `play` and `train-agent` share: the environment on whatever a user points at, and how an episode ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium

import occworld_env
from models.warp import WarpWorldModel
from occworld_env.env import OccSoraEnv
from occworld_env.loading import ModelSource
from scenes.grid import MINI
from scenes.scenarionet import recordings
from scenes.scene_file import SUFFIX

gymnasium.register_envs(occworld_env)


def is_recorded(path: Path | None) -> bool:
    """Whether the scenes there are ScenarioNet recordings; where scene files lie beside those, the scene files are read."""
    return path is not None and bool(recordings(path)) and not any(path.glob(f"*{SUFFIX}"))


def find_model(name: str | None) -> ModelSource:
    """What `--model` names: as in `gymnasium.make`, and "warp", the baseline that carries the first frame along rigidly."""
    return WarpWorldModel(MINI) if name == "warp" else name


def make_env(scenes: Path | None, model: str | None, **settings: Any) -> OccSoraEnv:
    """One OccSora-v0 without Gymnasium's wrappers, and without a time limit; `settings` are those of `gymnasium.make`."""
    env = gymnasium.make("OccSora-v0", scenes=scenes, world_model=find_model(model), **settings).unwrapped
    if not isinstance(env, OccSoraEnv):
        raise TypeError(f"expected an OccSoraEnv, found {type(env).__name__}")
    return env


def what_happened(info: dict[str, Any]) -> str:
    """In one word why an episode ended, from the info of its last step; "time limit" where nothing happened."""
    events = ("collision", "offroad", "offroute", "route_completed")
    return next((name.replace("_", " ") for name in events if info[name]), "time limit")
