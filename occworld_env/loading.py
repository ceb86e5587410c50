"""What the arguments `world_model` and `scenes` may be, and loading it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import overload

import torch

from models.interface import WorldModel
from models.translated import TranslatedWorldModel
from scenes.grid import CLASSES
from scenes.scene import Scene

DATA = Path(__file__).parent / "data"
DEFAULT_MODEL = "mini"
KEPT_SCENES = 16  # of a folder, in memory

ModelSource = str | Path | WorldModel | None
SceneSource = str | Path | Sequence[Scene] | None


def load_world_model(source: ModelSource, device: torch.device) -> WorldModel:
    """The world model that `source` names: None for the bundled one, a bundled name, a folder, a hub id, or a model itself.

    A named model is loaded once a process and shared by all environments in it; nobody may change its weights. One of other
    classes than Occ3D-nuScenes' is translated. Raises ValueError where nobody knows what its classes are.
    """
    if isinstance(source, WorldModel):
        return _in_our_classes(source.to(device).eval())
    if source is not None and not isinstance(source, str | Path):
        raise TypeError(f"world_model: expected a name, a folder or a WorldModel, found {type(source).__name__}")
    return _named_model(DEFAULT_MODEL if source is None else str(source), str(device))


@lru_cache(maxsize=4)
def _named_model(name: str, device: str) -> WorldModel:
    from models.pretrained import from_pretrained

    return _in_our_classes(from_pretrained(name, device))


def _in_our_classes(model: WorldModel) -> WorldModel:
    return model if model.grid.classes == CLASSES else TranslatedWorldModel(model)


class SceneFolder(Sequence[Scene]):
    """The scenes of a folder, each read when it is first needed; the last few that were used stay in memory.

    Takes our own scene files or recordings in ScenarioNet's format (`*.pkl`).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths, self._read, self._name = _files(folder)
        self._kept: OrderedDict[int, Scene] = OrderedDict()

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Position of each scene by its name, for which no scene is read; raises ValueError where two files share a name."""
        return _numbered((self._name(path), str(path)) for path in self.paths)

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scene]: ...
    def __getitem__(self, index: int | slice) -> Scene | list[Scene]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self.paths))[index]
        scene = self._kept.get(place) or self._read(self.paths[place])
        self._kept[place] = scene
        self._kept.move_to_end(place)
        while len(self._kept) > KEPT_SCENES:
            self._kept.popitem(last=False)
        return scene


def _files(folder: Path) -> tuple[list[Path], Callable[[Path], Scene], Callable[[Path], str]]:
    """Scene files that `folder` holds, or that it is, what reads them, and what reads their scenes' names."""
    from scenes.scenarionet import load_scenario, recordings, scenario_name
    from scenes.scene_file import SUFFIX, load_scene, scene_name

    files = [folder] if folder.is_file() else sorted(folder.glob("*")) if folder.is_dir() else []
    ours = [path for path in files if path.suffix == SUFFIX]
    if ours:
        return ours, load_scene, scene_name
    if recorded := recordings(folder):
        return recorded, load_scenario, scenario_name
    raise FileNotFoundError(f"{folder}: expected scene files (*{SUFFIX}) or recordings (*.pkl), found none")


def load_scene_list(source: SceneSource) -> Sequence[Scene]:
    """The scenes that `source` names: None for the bundled ones, a file, a folder (see `SceneFolder`), or scenes themselves."""
    if source is None or isinstance(source, str | Path):
        return _named_scenes(str(DATA if source is None else source))
    scenes = list(source)
    wrong = [type(scene).__name__ for scene in scenes if not isinstance(scene, Scene)]
    if wrong or not scenes:
        raise TypeError(f"scenes: expected a folder or a list of Scenes, found {wrong[0] if wrong else 'an empty list'}")
    return scenes


@lru_cache(maxsize=4)
def _named_scenes(folder: str) -> Sequence[Scene]:
    return SceneFolder(Path(folder))


def scene_numbers(scenes: Sequence[Scene]) -> dict[str, int]:
    """Position of each scene by its name; raises ValueError where two share a name, which then says too little."""
    if isinstance(scenes, SceneFolder):
        return scenes.numbers
    return _numbered((scene.name, f"scene {place}") for place, scene in enumerate(scenes))


def _numbered(names: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Positions of names, each given with where it is from."""
    numbers: dict[str, int] = {}
    origins: list[str] = []
    for name, origin in names:
        if name in numbers:
            raise ValueError(f"scenes: expected different names, found {name!r} in {origins[numbers[name]]} and {origin}")
        numbers[name] = len(origins)
        origins.append(origin)
    return numbers
