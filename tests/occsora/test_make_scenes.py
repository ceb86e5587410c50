"""`occsora make-scenes`: seeds as ranges, one file a seed, nothing made twice, failures named."""

from __future__ import annotations

from pathlib import Path

import pytest
import tyro

from occsora.make_scenes import COMMAND, MakeScenesOsm, MakeScenesScenarioNet, MakeScenesSumo, make_scenes, parse_seeds
from scenes.scenarionet import load_scenario
from scenes.scene_file import load_scene


def test_seeds() -> None:
    assert list(parse_seeds("3:6")) == [3, 4, 5]
    assert list(parse_seeds("7")) == [7]
    for text in ("6:3", "a:b", "1:2:3", "", "-1:4"):
        with pytest.raises(ValueError, match="seeds: expected"):
            parse_seeds(text)


def test_command_line() -> None:
    config = tyro.cli(COMMAND, args=["sumo", "--seeds", "0:40", "--seconds", "30", "--out", "there"])
    assert config == MakeScenesSumo(out=Path("there"), seeds="0:40", seconds=30.0)
    config = tyro.cli(COMMAND, args=["osm", "town.osm", "--out", "there"])
    assert config == MakeScenesOsm(file=Path("town.osm"), out=Path("there"))


def test_scenes_are_made_once(tmp_path: Path) -> None:
    pytest.importorskip("libsumo")
    config = MakeScenesSumo(out=tmp_path, seeds="3", seconds=12.0, layout="spider")
    (path,) = make_scenes(config)
    assert path == tmp_path / "sumo-0003.scene"
    scene = load_scene(path)
    assert scene.source == "sumo/3"
    assert scene.egos
    written = path.stat().st_mtime_ns
    assert make_scenes(config) == [path]
    assert path.stat().st_mtime_ns == written


def test_failures_are_named(tmp_path: Path) -> None:
    pytest.importorskip("libsumo")
    with pytest.raises(FileNotFoundError, match="expected an OpenStreetMap extract"):
        make_scenes(MakeScenesOsm(file=tmp_path / "none.osm", out=tmp_path))
    (tmp_path / "bad.osm").write_text("not a map", encoding="utf-8")
    with pytest.raises(ValueError, match=r"1 of 1 scenes failed.*bad.osm"):
        make_scenes(MakeScenesOsm(file=tmp_path / "bad.osm", out=tmp_path / "out"))


def test_recordings_become_scene_files(shared_data: Path, tmp_path: Path) -> None:
    """A real recording is read once and is the same scene afterwards; its index files and foreign files are left alone."""
    recording = sorted((shared_data / "nuscenes_mini").glob("*.pkl"))[0]
    folder = tmp_path / "recorded"
    folder.mkdir()
    (folder / recording.name).write_bytes(recording.read_bytes())
    (folder / "dataset_summary.pkl").write_bytes(b"an index")
    config = MakeScenesScenarioNet(folder=folder, out=tmp_path / "scenes")
    (path,) = make_scenes(config)
    assert path.name == f"{recording.stem}.scene"
    made, read = load_scene(path), load_scenario(recording)
    assert made.source == read.source
    assert made.tracks.ids == read.tracks.ids
    with pytest.raises(FileNotFoundError, match="expected ScenarioNet recordings"):
        make_scenes(MakeScenesScenarioNet(folder=tmp_path, out=tmp_path / "scenes"))
