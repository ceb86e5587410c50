"""Scene files: what is saved comes back, in little room, and damage is named."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scenes.grid import CLASS_ID, DRIVABLE, FREE
from scenes.grow import grow
from scenes.motion import wrap_angle
from scenes.scene import Lights, Scene, StaticWorld, Tracks
from scenes.scene_file import load_scene, load_scenes, save_scene, scene_name, scene_paths


def _world(side: float = 400.0, cell: float = 0.4) -> StaticWorld:
    cells = int(side / cell)
    ground = torch.full((cells, cells), FREE, dtype=torch.uint8)
    for place in range(int(60 / cell), cells, int(110 / cell)):
        ground[place : place + int(9 / cell)] = DRIVABLE
        ground[:, place : place + int(9 / cell)] = DRIVABLE
    return grow(ground, (-123.4, 56.0), cell, seed=5)


def _drives(agents: int, frames: int, dt: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Drives with noisy acceleration and turning, some of which begin late or end early."""
    rng = np.random.default_rng(seed)
    speed = np.clip(rng.uniform(0, 12, (agents, 1)) + (rng.normal(0, 1.5, (agents, frames)) * dt).cumsum(1), 0, 15)
    yaw = rng.uniform(-np.pi, np.pi, (agents, 1)) + (rng.normal(0, 0.15, (agents, frames)) * dt).cumsum(1)
    step = speed * dt
    x, y = ((step * turn(yaw)).cumsum(1) + rng.uniform(0, 300, (agents, 1)) for turn in (np.cos, np.sin))
    first, last = rng.integers(0, frames // 3, agents), rng.integers(frames // 2, frames, agents)
    valid = (np.arange(frames) >= first[:, None]) & (np.arange(frames) <= last[:, None])
    poses = np.stack((x, y, np.remainder(yaw + np.pi, 2 * np.pi) - np.pi), axis=-1)
    poses[~valid] = 1e6
    return torch.from_numpy(poses), torch.from_numpy(valid)


def _scene(static: StaticWorld, agents: int = 6, frames: int = 40, dt: float = 0.25) -> Scene:
    poses, valid = _drives(agents, frames, dt)
    tracks = Tracks(
        ids=tuple(f"agent {number}" for number in range(agents)),
        classes=torch.full((agents,), CLASS_ID["car"], dtype=torch.uint8),
        sizes=torch.tensor([[4.61, 1.82, 1.5]]).repeat(agents, 1),
        rear_axle=torch.full((agents,), 1.35),
        poses=poses,
        valid=valid,
    )
    along = torch.arange(0, 600, 2.0, dtype=torch.float64)
    routes = {
        ego: torch.stack((along * 0.8, 300 - along * 0.6 + 10 * torch.sin(along / 40)), dim=-1) for ego in range(0, agents, 2)
    }
    states = torch.randint(0, 4, (3, frames), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lights = Lights(torch.tensor([[1.0, 2.0, 0.5]] * 3, dtype=torch.float64), states)
    return Scene("town/1", "town", dt, static, tracks, routes, lights)


@pytest.fixture(scope="module")
def small() -> Scene:
    return _scene(_world(60.0))


def test_what_is_saved_comes_back(small: Scene, tmp_path: Path) -> None:
    save_scene(small, tmp_path / "one.scene")
    loaded = load_scene(tmp_path / "one.scene")
    assert (loaded.name, loaded.source, loaded.dt, loaded.egos) == (small.name, small.source, small.dt, small.egos)
    for name in ("ground", "standing", "bottom", "top"):
        assert torch.equal(getattr(loaded.static, name), getattr(small.static, name))
    assert loaded.static.recorded == small.static.recorded
    assert loaded.static.grown == small.static.grown
    assert (loaded.static.origin, loaded.static.cell) == (small.static.origin, small.static.cell)
    assert loaded.tracks.ids == small.tracks.ids
    assert torch.equal(loaded.tracks.classes, small.tracks.classes)
    assert torch.equal(loaded.tracks.valid, small.tracks.valid)
    there = small.tracks.valid
    apart = loaded.tracks.poses[there] - small.tracks.poses[there]
    assert apart[:, :2].abs().max() <= 0.005 + 1e-9
    assert wrap_angle(apart[:, 2]).abs().max() <= 0.0005 + 1e-9
    assert loaded.tracks.poses.abs().max() < 1e4, "where a track is not there, its pose is held"
    assert torch.allclose(loaded.tracks.sizes, small.tracks.sizes, atol=0.0051)
    assert torch.allclose(loaded.tracks.rear_axle, small.tracks.rear_axle, atol=0.0051)
    for ego in small.egos:
        assert (loaded.routes[ego] - small.routes[ego]).abs().max() <= 0.005 + 1e-9
    assert torch.equal(loaded.lights.states, small.lights.states)
    assert torch.equal(loaded.lights.poses, small.lights.poses)


def test_a_second_round_changes_nothing(small: Scene, tmp_path: Path) -> None:
    first, second = tmp_path / "a.scene", tmp_path / "b.scene"
    save_scene(small, first)
    save_scene(load_scene(first), second)
    assert first.read_bytes() == second.read_bytes()


def test_a_minute_of_a_hundred_agents_in_half_a_mebibyte(tmp_path: Path) -> None:
    save_scene(_scene(_world(), agents=100, frames=600, dt=0.1), tmp_path / "minute.scene")
    assert (tmp_path / "minute.scene").stat().st_size <= 512 * 1024


@pytest.mark.parametrize(("agents", "frames"), [(0, 5), (3, 1), (3, 2)])
def test_few_agents_and_few_frames(small: Scene, tmp_path: Path, agents: int, frames: int) -> None:
    tracks = Tracks(
        ids=small.tracks.ids[:agents],
        classes=small.tracks.classes[:agents],
        sizes=small.tracks.sizes[:agents],
        rear_axle=small.tracks.rear_axle[:agents],
        poses=small.tracks.poses[:agents, 20 : 20 + frames],
        valid=small.tracks.valid[:agents, 20 : 20 + frames],
    )
    save_scene(Scene("s", "s", 0.25, small.static, tracks, {}), tmp_path / "s.scene")
    loaded = load_scene(tmp_path / "s.scene")
    assert loaded.frames == frames
    assert torch.equal(loaded.tracks.valid, tracks.valid)
    assert torch.allclose(loaded.tracks.poses[tracks.valid], tracks.poses[tracks.valid], atol=0.0051)


def test_folders(small: Scene, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder with scene files"):
        scene_paths(tmp_path)
    for name in ("b", "a"):
        save_scene(small, tmp_path / "deep" / f"{name}.scene")
    assert [path.name for path in scene_paths(tmp_path / "deep")] == ["a.scene", "b.scene"]
    assert len(load_scenes(tmp_path / "deep")) == 2
    assert not list((tmp_path / "deep").glob(".*")), "nothing half written is left behind"


def test_a_write_that_fails_leaves_no_file(small: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("scenes.scene_file.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_scene(small, tmp_path / "one.scene")
    assert not list(tmp_path.iterdir())


def _rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of the archive, each of whose members went through change (None drops it)."""
    with zipfile.ZipFile(path) as archive:
        members = {name: change(name, archive.read(name)) for name in archive.namelist()}
    other = path.with_name("changed.scene")
    with zipfile.ZipFile(other, "w") as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)
    return other


def _array(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("member", "make", "message"),
    [
        ("world.npy", lambda _: None, "world"),
        ("pose_rest.npy", lambda _: _array(np.zeros((3, 6, 9), dtype=np.int16)), "pose_rest: expected shape"),
        ("classes.npy", lambda _: _array(np.full(6, 200, dtype=np.uint8)), "classes: expected class ids below 17, found 200"),
        ("world_palette.npy", lambda _: _array(np.full((9999, 7), 200, dtype=np.uint8)), "world: expected class ids below"),
        ("sizes.npy", lambda _: _array(np.zeros((2, 3), dtype=np.uint16)), "sizes: expected shape"),
        ("sizes.npy", lambda _: _array(np.array([{}], dtype=object), allow_pickle=True), "allow_pickle=False"),
        ("egos.npy", lambda _: _array(np.array([0, 2, 77], dtype=np.int32)), "egos: expected track numbers below 6"),
        ("header.json", lambda _: None, "expected a scene file with a header"),
        ("header.json", lambda data: data.replace(b'"version": 1', b'"version": 99'), "format version 1, found 99"),
        ("header.json", lambda _: b"{}", "another kind of archive"),
        ("header.json", lambda data: data.replace(b'"dt"', b'"tick"'), "'dt'"),
        ("header.json", lambda data: data.replace(b'"recipe": null', b'"recipe": [1]'), "recipe: expected names and values"),
    ],
)
def test_damage_is_named(
    small: Scene, tmp_path: Path, member: str, make: Callable[[bytes], bytes | None], message: str
) -> None:
    save_scene(small, tmp_path / "one.scene")
    changed = _rewritten(tmp_path / "one.scene", lambda name, data: make(data) if name == member else data)
    with pytest.raises(ValueError, match=message) as caught:
        load_scene(changed)
    assert str(changed) in str(caught.value)


def test_the_name_is_read_from_the_header_alone(small: Scene, tmp_path: Path) -> None:
    save_scene(small, tmp_path / "one.scene")
    bare = _rewritten(tmp_path / "one.scene", lambda name, data: data if name == "header.json" else None)
    assert scene_name(bare) == small.name
    nameless = _rewritten(tmp_path / "one.scene", lambda name, data: data.replace(b'"name"', b'"title"'))
    with pytest.raises(ValueError, match=r"changed\.scene: expected a field 'name'"):
        scene_name(nameless)


def test_truncated_and_foreign_files_are_named(small: Scene, tmp_path: Path) -> None:
    path = tmp_path / "one.scene"
    save_scene(small, path)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"one\.scene"):
            load_scene(path)
    spoiled = bytearray(whole)
    spoiled[len(whole) // 3] ^= 0xFF
    path.write_bytes(bytes(spoiled))
    with pytest.raises(ValueError, match="truncated or damaged"):
        load_scene(path)
    path.write_text(json.dumps({"format": "occsora-scene"}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"one\.scene"):
        load_scene(path)
    with pytest.raises(FileNotFoundError, match=r"none\.scene"):
        load_scene(tmp_path / "none.scene")
