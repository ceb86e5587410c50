"""`occsora make-scenes` into stores of clips: whole data sets in, nothing twice, nothing lost by a kill or a bad scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from occsora.__main__ import main
from occsora.make_scenes import COMMAND
from occsora.make_scenes_clips import MakeScenesCarlaSC, MakeScenesClips, MakeScenesOcc3D, MakeScenesOcc3DWaymo, make_clips
from scenes.clip_store import ClipStore
from scenes.dataset import SceneClips
from scenes.grid import CARLASC, NEAR, OCC3D
from scenes.label_sets import from_occ3d
from scenes.scene_file import load_scenes
from scenes.store_clips import StoreClips
from tests.data_sets import (
    SCENES,
    Drive,
    carlasc_tags,
    drives,
    token,
    write_carlasc,
    write_nuscenes,
    write_occ3d,
    write_occ3d_waymo,
)

pytest.importorskip("zarr")
NAMES = ("scene-0003", "scene-0061")


@pytest.fixture(scope="module")
def made() -> dict[str, Drive]:
    return dict(zip(NAMES, drives(OCC3D, 0.5, 4), strict=True))


@pytest.fixture
def root(tmp_path: Path, made: dict[str, Drive]) -> Path:
    write_occ3d(tmp_path, made, val=NAMES[:1])
    return tmp_path


def sources(store: ClipStore) -> list[str]:
    return [store.source(number) for number in range(len(store))]


def test_command_line() -> None:
    config = tyro.cli(COMMAND, args=["occ3d", "here", "--out", "s3://there", "--split", "train", "--nuscenes", "tables"])
    assert config == MakeScenesOcc3D(Path("here"), "s3://there", Path("tables"), "train")
    config = tyro.cli(COMMAND, args=["carlasc", "here", "--out", "there", "--split", "test"])
    assert config == MakeScenesCarlaSC(Path("here"), "there", "test")
    config = tyro.cli(COMMAND, args=["occ3d-waymo", "here", "--out", "there", "--classes", "occ3d", "--mask", "camera"])
    assert config == MakeScenesOcc3DWaymo(Path("here"), "there", "all", "occ3d", "camera")
    config = tyro.cli(COMMAND, args=["clips", "--scenes", "here", "--out", "there", "--grid", "carlasc", "--count", "7"])
    assert config == MakeScenesClips(Path("here"), "there", "carlasc", count=7)


def test_occ3d_from_the_command_line_to_windows(root: Path, made: dict[str, Drive], capsys: pytest.CaptureFixture[str]) -> None:
    """Poses of the nuScenes tables, in processes of their own; a second call has nothing to do, and none mixes splits."""
    tables, out = write_nuscenes(root / "nuscenes", made), root / "clips.zarr"
    words = ["make-scenes", "occ3d", str(root), "--out", str(out), "--nuscenes", str(tables)]
    assert main([*words, "--jobs", "2"]) == 0
    assert main(words) == 0
    assert "2 clips of 8 frames" in capsys.readouterr().err
    assert main([*words, "--split", "train"]) == 2
    assert "'split': 'all'" in capsys.readouterr().err
    store = ClipStore.open(str(out))
    assert sources(store) == [f"occ3d-nuscenes/{name}" for name in NAMES]
    for number, name in enumerate(NAMES):
        assert torch.equal(store[number].occupancy, made[name].occupancy)
        torch.testing.assert_close(store[number].motion, made[name].motion, atol=1e-6, rtol=0)
    clips = StoreClips(store, frames=3)
    assert clips.dt == 0.5
    assert clips.windows == 4


def test_nothing_is_read_twice_and_a_bad_scene_loses_no_other(root: Path) -> None:
    config = MakeScenesOcc3D(root, str(root / "clips.zarr"))
    labels = root / "gts" / NAMES[0] / token(NAMES[0], 1) / "labels.npz"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"1 of 2 scenes failed; .* has 1 clips: occ3d-nuscenes/scene-0003: .*labels\.npz"):
        make_clips(config)
    labels.write_bytes(whole)
    (root / "gts" / NAMES[1] / token(NAMES[1], 0) / "labels.npz").unlink()  # is in the store, so nobody misses it
    assert sources(make_clips(config)) == ["occ3d-nuscenes/scene-0061", "occ3d-nuscenes/scene-0003"]


def test_a_kill_leaves_whole_clips_to_go_on_from(root: Path, made: dict[str, Drive], monkeypatch: pytest.MonkeyPatch) -> None:
    config = MakeScenesOcc3D(root, str(root / "clips.zarr"))
    monkeypatch.setattr("occsora.fill_store.APPEND_BYTES", 1)
    commit = ClipStore._commit

    def killed_at_the_second(store: ClipStore, entries: list) -> None:
        if len(store):
            raise KeyboardInterrupt
        commit(store, entries)

    with monkeypatch.context() as patch:
        patch.setattr(ClipStore, "_commit", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            make_clips(config)
    assert sources(ClipStore.open(config.out)) == ["occ3d-nuscenes/scene-0003"]
    store = make_clips(config)
    for number, name in enumerate(NAMES):
        assert torch.equal(store[number].occupancy, made[name].occupancy)


def test_a_store_of_another_making_is_left_alone(root: Path) -> None:
    out = str(root / "clips.zarr")
    store = make_clips(MakeScenesOcc3D(root, out, split="val"))
    with pytest.raises(ValueError, match=r"clips\.zarr: was made with .*'mask': 'none'.*choose another --out"):
        make_clips(MakeScenesOcc3D(root, out, mask="lidar"))
    with pytest.raises(ValueError, match=r"clips\.zarr: is a store on another grid"):
        make_clips(MakeScenesClips(SCENES, out, "mini", frames=2, count=1))
    assert len(ClipStore.open(store.address)) == 1
    half = root / "half.zarr"
    half.mkdir()
    (half / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(ValueError, match=r"half\.zarr: no store of clips"):
        make_clips(MakeScenesOcc3D(root, str(half)))


def test_carlasc_and_waymo_get_stores_of_their_own_classes(tmp_path: Path) -> None:
    drive = drives(CARLASC, 0.1, 3)[1]
    write_carlasc(tmp_path, {"Train/Town01": carlasc_tags(drive.occupancy)}, drive)
    store = make_clips(MakeScenesCarlaSC(tmp_path, str(tmp_path / "carlasc.zarr"), "train"))
    assert (ClipStore.open(store.address).grid, sources(store)) == (CARLASC, ["carlasc/train/Town01"])
    assert store.frames(0) == 3
    wide = drives(OCC3D, 0.5, 4)[0]
    labels = np.where(wide.occupancy.numpy() == OCC3D.free, 23, 13)[:2].astype(np.uint8)
    write_occ3d_waymo(tmp_path, {"training/000": labels}, wide)
    store = make_clips(MakeScenesOcc3DWaymo(tmp_path, str(tmp_path / "waymo.zarr")))
    assert store.grid.classes[int(store[0].occupancy.min())] == "road"
    assert store.grid.num_classes == 16


@pytest.mark.parametrize(("name", "grid"), [("near", NEAR), ("carlasc", CARLASC)])
def test_rendered_clips_are_those_of_the_scenes_whenever_they_were_made(tmp_path: Path, name: str, grid: object) -> None:
    def config(count: int, jobs: int = 1) -> MakeScenesClips:
        return MakeScenesClips(SCENES, str(tmp_path / "clips.zarr"), name, 4, 0.25, count, seed=5, jobs=jobs)  # type: ignore[arg-type]

    assert len(make_clips(config(2))) == 2
    store = make_clips(config(3))
    rendered = SceneClips(load_scenes(SCENES), store.grid, 0.25, 4, seed=5)
    assert (len(store), store.grid) == (3, grid)
    for number in range(3):
        item = rendered[number]
        expected = from_occ3d(item["occupancy"], grid)
        assert torch.equal(store[number].occupancy, expected)
        assert torch.equal(store[number].motion, item["motion"])
        assert store.source(number) == item["source"]
    with pytest.raises(ValueError, match="count: expected 1 or more"):
        make_clips(config(0))
    with pytest.raises(ValueError, match="jobs: expected 1 or more"):
        make_clips(config(4, jobs=0))
