"""Occ3D-nuScenes in its layout: what comes out is what went in, from either source of poses; what is missing is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from scenes import nuscenes_tables
from scenes.grid import OCC3D
from scenes.nuscenes_tables import key_frames
from scenes.occ3d import find_frames, load_frame
from scenes.occ3d_nuscenes import Occ3DRecording, recordings
from tests.data_sets import Drive, drives, token, write_labels, write_nuscenes, write_occ3d

NAMES = ("scene-0003", "scene-0061")


@pytest.fixture(scope="module")
def made() -> dict[str, Drive]:
    return dict(zip(NAMES, drives(OCC3D, 0.5, 4), strict=True))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, made: dict[str, Drive]) -> Path:
    root = tmp_path_factory.mktemp("occ3d")
    write_occ3d(root, made, val=NAMES[:1])
    return root


@pytest.fixture
def root(tmp_path: Path, written: Path) -> Path:
    """A copy that a test may break."""
    return shutil.copytree(written, tmp_path / "occ3d")


@pytest.mark.parametrize("poses_from", ["annotations", "tables"])
def test_a_scene_comes_back_as_it_was(root: Path, made: dict[str, Drive], poses_from: str) -> None:
    nuscenes = write_nuscenes(root / "nuscenes", made) if poses_from == "tables" else None
    found = recordings(root, nuscenes)
    assert [recording.scene for recording in found] == list(NAMES)
    for recording in found:
        clip, drive = recording.load(), made[recording.scene]
        assert torch.equal(clip.occupancy, drive.occupancy)
        torch.testing.assert_close(clip.motion, drive.motion, atol=1e-6, rtol=0)
        assert (clip.dt, clip.source) == (0.5, f"occ3d-nuscenes/{recording.scene}")
    assert max(float(drive.motion[1:, 0].max()) for drive in made.values()) > 1.0


def test_splits_are_those_of_the_annotations(root: Path) -> None:
    assert [recording.scene for recording in recordings(root, split="val")] == ["scene-0003"]
    assert [recording.scene for recording in recordings(root, split="train")] == ["scene-0061"]


@pytest.mark.parametrize(("mask", "first_seen"), [("lidar", 100), ("camera", 150)])
def test_what_a_sensor_did_not_see_is_free(root: Path, made: dict[str, Drive], mask: str, first_seen: int) -> None:
    occupancy = recordings(root, mask=mask)[0].load().occupancy  # type: ignore[arg-type]
    assert bool((occupancy[:, :first_seen] == OCC3D.free).all())
    assert torch.equal(occupancy[:, first_seen:], made[NAMES[0]].occupancy[:, first_seen:])


def test_a_table_is_read_across_its_pieces(root: Path, made: dict[str, Drive], monkeypatch: pytest.MonkeyPatch) -> None:
    tables = write_nuscenes(root / "nuscenes", made)
    whole = key_frames(tables)
    monkeypatch.setattr(nuscenes_tables, "_READ", 37)
    in_pieces = key_frames(tables / "v1.0-trainval")
    assert whole.keys() == in_pieces.keys() == set(NAMES)
    for name, frames in whole.items():
        assert frames.tokens == in_pieces[name].tokens == tuple(token(name, frame) for frame in range(4))
        assert torch.equal(frames.poses, in_pieces[name].poses)


def test_missing_frames_and_scenes_are_named(root: Path, made: dict[str, Drive]) -> None:
    gone = root / "gts" / NAMES[0] / token(NAMES[0], 2) / "labels.npz"
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=r"scene-0003: 1 of 4 frames are missing") as caught:
        recordings(root)[0].load()
    assert str(gone) in str(caught.value)
    write_nuscenes(root / "nuscenes", {NAMES[0]: made[NAMES[0]]})
    with pytest.raises(ValueError, match=r"scene-0061: neither annotations\.json nor the nuScenes tables"):
        recordings(root, root / "nuscenes")[1].load()
    shutil.rmtree(root / "gts")
    with pytest.raises(ValueError, match="expected the folder gts"):
        recordings(root)


def test_splits_and_poses_need_the_annotations(root: Path, made: dict[str, Drive]) -> None:
    (root / "annotations.json").unlink()
    with pytest.raises(ValueError, match=r"annotations\.json: no such file.*which scenes are for training.*--split all"):
        recordings(root, root, split="train")
    with pytest.raises(ValueError, match=r"annotations\.json: no such file.*where the ego was.*--nuscenes"):
        recordings(root)
    assert len(recordings(root, write_nuscenes(root / "nuscenes", made))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("scene_infos"), "expected an object with 'scene_infos'"),
        (lambda content: content.pop("train_split"), "expected a list of scene names 'train_split'"),
        (lambda content: _first(content).pop("ego_pose"), "each frame of scene-0061 should have a timestamp and an ego_pose"),
        (lambda content: _first(content)["ego_pose"].update(rotation=[1, 0, 0]), "ego_pose of 3 and 4 numbers"),
        (lambda content: _first(content).update(timestamp="noon"), "should have a timestamp"),
        (lambda content: content["scene_infos"].update({"scene-0061": {}}), "expected frames of scene-0061"),
    ],
)
def test_malformed_annotations_are_named(root: Path, change: object, message: str) -> None:
    path = root / "annotations.json"
    content = json.loads(path.read_text())
    change(content)  # type: ignore[operator]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"annotations\.json: .*{message}"):
        recordings(root, split="train")
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match=r"annotations\.json: cut short"):
        recordings(root)


def _first(content: dict) -> dict:
    return next(iter(content["scene_infos"]["scene-0061"].values()))


@pytest.mark.parametrize("table", ["scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor"])
def test_broken_tables_are_named(tmp_path: Path, made: dict[str, Drive], table: str) -> None:
    path = write_nuscenes(tmp_path, made) / "v1.0-trainval" / f"{table}.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{table}\.json: cut short"):
        key_frames(tmp_path)
    path.write_text('[{"name": "no token"}]')
    with pytest.raises(ValueError, match=rf"{table}\.json: expected rows with (sample_)?token"):
        key_frames(tmp_path)
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"\.json: no "):
        key_frames(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{table}\.json: no such table|expected the nuScenes tables"):
        key_frames(tmp_path)


def test_a_broken_frame_is_named(root: Path) -> None:
    path = root / "gts" / NAMES[1] / token(NAMES[1], 0) / "labels.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"labels\.npz: not a whole npz archive"):
        recordings(root)[1].load()


def test_the_real_frame_among_others(shared_data: Path, root: Path, made: dict[str, Drive]) -> None:
    """The real file, under its own name, in a scene whose other frames are made."""
    real = next(iter(find_frames(shared_data / "occ3d_nuscenes")["scene-1077"].values()))
    frame = load_frame(real)
    drive = made[NAMES[0]]
    write_occ3d(root, {"scene-1077": drive})
    first = root / "gts" / "scene-1077" / token("scene-1077", 0) / "labels.npz"
    shutil.copyfile(real, first)
    (recording,) = [recording for recording in recordings(root) if recording.scene == "scene-1077"]
    clip = recording.load()
    assert torch.equal(clip.occupancy[0], frame.semantics)
    assert torch.equal(clip.occupancy[1:], drive.occupancy[1:])
    seen = Occ3DRecording("scene-1077", recording.folder, recording.frames, "lidar").load().occupancy[0]
    lost = (frame.semantics != OCC3D.free) & (seen == OCC3D.free)
    assert torch.equal(lost, (frame.semantics != OCC3D.free) & ~frame.mask_lidar)
    assert bool(lost.any())


def test_labels_are_those_that_were_written(tmp_path: Path, made: dict[str, Drive]) -> None:
    semantics = made[NAMES[0]].occupancy[0]
    write_labels(tmp_path / "labels.npz", semantics.numpy())
    assert torch.equal(load_frame(tmp_path / "labels.npz").semantics, semantics)
