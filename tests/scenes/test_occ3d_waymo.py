"""Occ3D-Waymo in its layout: stored ids become classes, poses come from frames or pickle, broken files are named."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from scenes.grid import CLASSES, OCC3D, OCC3D_WAYMO, check_occupancy
from scenes.occ3d_waymo import recordings
from tests.data_sets import Drive, drives, write_occ3d_waymo


@pytest.fixture(scope="module")
def drive() -> Drive:
    return drives(OCC3D, 0.1, 4)[0]


@pytest.fixture(scope="module")
def labels(drive: Drive) -> np.ndarray:
    """Stored ids with every class in them, most of the volume free."""
    ids = np.full((4, *OCC3D.shape), 23, dtype=np.uint8)
    ids[drive.occupancy.numpy() == CLASSES.index("driveable_surface")] = 13
    ids[:, 120, 20:35, 3] = np.arange(15)
    return ids


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, drive: Drive, labels: np.ndarray) -> Path:
    root = tmp_path_factory.mktemp("waymo")
    write_occ3d_waymo(root, {"training/000": labels, "validation/017": labels[:3]}, drive)
    return root


@pytest.fixture
def root(tmp_path: Path, written: Path) -> Path:
    """A copy that a test may break."""
    return shutil.copytree(written, tmp_path / "waymo")


def test_a_scene_comes_back_as_it_was(root: Path, drive: Drive, labels: np.ndarray) -> None:
    first, second = (recording.load() for recording in recordings(root))
    expected = torch.from_numpy(np.where(labels == 23, 15, labels))
    assert torch.equal(first.occupancy, expected)
    assert torch.equal(second.occupancy, expected[:3])
    check_occupancy(first.occupancy, OCC3D_WAYMO)
    assert set(first.occupancy.unique().tolist()) == set(range(OCC3D_WAYMO.num_classes))
    torch.testing.assert_close(first.motion, drive.motion, atol=1e-6, rtol=0)
    assert (first.dt, first.source, second.source) == (0.1, "occ3d-waymo/training/000", "occ3d-waymo/validation/017")
    assert [recording.source for recording in recordings(root, "val")] == ["occ3d-waymo/validation/017"]


def test_poses_from_the_pickles_are_the_same(root: Path, tmp_path: Path, drive: Drive, labels: np.ndarray) -> None:
    other = tmp_path / "other"
    write_occ3d_waymo(other / "voxel04", {"training/000": labels, "validation/017": labels[:3]}, drive, poses_in_frames=False)
    for name in ("cam_infos.pkl", "cam_infos_vali.pkl"):
        (other / "voxel04" / name).rename(other / name)
    for a, b in zip(recordings(root), recordings(other), strict=True):
        assert torch.equal(a.load().motion, b.load().motion)


def test_in_the_classes_of_occ3d_nuscenes(root: Path, labels: np.ndarray) -> None:
    recording = recordings(root, "train", classes="occ3d")[0]
    occupancy = recording.load().occupancy
    assert recording.grid == OCC3D
    check_occupancy(occupancy, OCC3D)
    names = {stored: CLASSES[int(occupancy[torch.from_numpy(labels == stored)].unique().item())] for stored in (*range(15), 23)}
    assert {stored: name for stored, name in names.items() if name == "manmade"}.keys() == {3, 5, 6, 10}
    assert (names[1], names[2], names[4], names[13], names[14], names[23]) == (
        *("car", "pedestrian", "bicycle", "driveable_surface", "sidewalk"),
        "free",
    )


def test_what_the_cameras_did_not_see_is_free(root: Path) -> None:
    lidar = recordings(root, mask="lidar")[0].load().occupancy
    camera = recordings(root, mask="camera")[0].load().occupancy
    assert bool((lidar[:, :100] == OCC3D_WAYMO.free).all())
    assert torch.equal(camera[:, :, 100:], lidar[:, :, 100:])
    assert bool((camera[:, :, :100] == OCC3D_WAYMO.free).all())
    assert not torch.equal(camera, lidar)


def _rewritten(path: Path, **changes: np.ndarray | None) -> None:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez_compressed(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voxel_label": np.full(OCC3D.shape, 16, dtype=np.uint8)}, r"class ids should be among \[0, .* 15, 23\], found 16"),
        ({"voxel_label": np.full(OCC3D.shape, 24, dtype=np.uint8)}, "class ids should lie in 0 to 23, found 24"),
        ({"voxel_label": np.zeros((100, 200, 16), dtype=np.uint8)}, r"voxel_label should have shape \(200, 200, 16\)"),
        ({"voxel_label": None}, r"no array \['voxel_label'\]"),
        ({"ego2global": np.eye(3)}, r"expected a finite ego2global of shape \(4, 4\), found \(3, 3\)"),
        ({"ego2global": np.full((4, 4), np.nan)}, "expected a finite ego2global"),
        ({"ego2global": None}, r"no array ego2global, and no cam_infos\.pkl"),
    ],
)
def test_wrong_contents_are_named(root: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
    _rewritten(root / "training" / "000" / "002_04.npz", **changes)
    with pytest.raises(ValueError, match=rf"002_04\.npz: {message}"):
        recordings(root, "train")[0].load()


def test_missing_and_broken_files_are_named(root: Path, tmp_path: Path, drive: Drive, labels: np.ndarray) -> None:
    frame = root / "training" / "000" / "001_04.npz"
    frame.write_bytes(frame.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"001_04\.npz: not a whole npz archive"):
        recordings(root)[0].load()
    frame.unlink()
    with pytest.raises(ValueError, match=r"000: frame 001_04\.npz is missing, found 002_04\.npz"):
        recordings(root)[0].load()
    with pytest.raises(ValueError, match="expected the folders training and validation"):
        recordings(root / "training")
    other = tmp_path / "other"
    write_occ3d_waymo(other, {"training/003": labels[:1], "validation/003": labels[:1]}, drive, poses_in_frames=False)
    (other / "cam_infos.pkl").write_bytes(pickle.dumps({3: {}}))
    with pytest.raises(ValueError, match=r"cam_infos\.pkl: no ego2global of scene 003, frame 0"):
        recordings(other)[0].load()
    (other / "cam_infos_vali.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r"cam_infos_vali\.pkl: refused the global"):
        recordings(other, "val")[0].load()
