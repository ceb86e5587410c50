"""What the arguments `world_model` and `scenes` may be, and loading it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from models.interface import WorldModel
from scenes.scene import Scene

DATA = Path(__file__).parent / "data"
DEFAULT_MODEL = "mini"

ModelSource = str | Path | WorldModel | None
SceneSource = str | Path | Sequence[Scene] | None


def load_world_model(source: ModelSource, device: torch.device) -> WorldModel:
    """The world model that `source` names: None for the bundled one, a bundled name, a folder, a hub id, or a model itself.

    A named model is loaded once a process and shared by all environments in it; nobody may change its weights.
    """
    if isinstance(source, WorldModel):
        return source.to(device).eval()
    if source is not None and not isinstance(source, str | Path):
        raise TypeError(f"world_model: expected a name, a folder or a WorldModel, found {type(source).__name__}")
    return _named_model(DEFAULT_MODEL if source is None else str(source), str(device))


@lru_cache(maxsize=4)
def _named_model(name: str, device: str) -> WorldModel:
    from models.pretrained import from_pretrained

    return from_pretrained(name, device)


def load_scene_list(source: SceneSource) -> Sequence[Scene]:
    """The scenes that `source` names: None for the bundled ones, a scene file, a folder of them, or scenes themselves."""
    if source is None or isinstance(source, str | Path):
        return _named_scenes(str(DATA if source is None else source))
    scenes = list(source)
    wrong = [type(scene).__name__ for scene in scenes if not isinstance(scene, Scene)]
    if wrong or not scenes:
        raise TypeError(f"scenes: expected a folder or a list of Scenes, found {wrong[0] if wrong else 'an empty list'}")
    return scenes


@lru_cache(maxsize=4)
def _named_scenes(folder: str) -> Sequence[Scene]:
    from scenes.scene_file import load_scenes

    return load_scenes(Path(folder))
