"""Scenes of a folder: found by their names, and read only when they are driven."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.warp import WarpWorldModel
from occworld_env import loading
from occworld_env.loading import SceneFolder, load_scene_list, scene_numbers
from occworld_env.simulator import Simulator
from scenes import scene_file
from scenes.grid import MINI
from scenes.scene import Scene
from scenes.scene_file import SUFFIX, save_scene


@pytest.fixture
def folder(scene: Scene, tmp_path: Path) -> Path:
    """Four scenes whose files are in another order than their names."""
    for number, name in enumerate(("north", "east", "south", "west")):
        save_scene(replace(scene, name=name), tmp_path / f"{number}{SUFFIX}")
    return tmp_path


def test_a_reset_by_name_reads_the_scene_of_that_name_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more scenes than are kept in memory: going through all of them in turn would read every file at every reset."""
    read: list[str] = []
    load = scene_file.load_scene
    monkeypatch.setattr(scene_file, "load_scene", lambda path: read.append(path.name) or load(path))
    monkeypatch.setattr(loading, "KEPT_SCENES", 2)
    simulator = Simulator(WarpWorldModel(MINI), folder)
    for name in ("west", "east") * 2:
        simulator.reset(options={"scene": name, "ego": "track0", "start": 5.0})
        assert simulator.names[0][0] == name
    assert read == [f"3{SUFFIX}", f"1{SUFFIX}"]


def test_a_name_that_two_scenes_share_is_refused(scene: Scene, folder: Path) -> None:
    assert list(scene_numbers(load_scene_list(folder))) == ["north", "east", "south", "west"]
    assert scene_numbers([replace(scene, name="a"), scene]) == {"a": 0, scene.name: 1}
    save_scene(replace(scene, name="east"), folder / f"again{SUFFIX}")
    with pytest.raises(ValueError, match=rf"different names, found 'east' in .*1\{SUFFIX} and .*again\{SUFFIX}"):
        scene_numbers(SceneFolder(folder))
    with pytest.raises(ValueError, match="different names, found 'straight' in scene 0 and scene 1"):
        Simulator(WarpWorldModel(MINI), [scene, scene]).reset(options={"scene": "straight"})
