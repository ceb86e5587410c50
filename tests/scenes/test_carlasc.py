"""CarlaSC in its layout: mirrored into the project's frame, classes joined, and broken files named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scenes.carlasc import read_labels, recordings
from scenes.grid import CARLASC, CLASS_ID, check_occupancy
from scenes.label_sets import from_occ3d
from tests.data_sets import Drive, carlasc_tags, drives, write_carlasc


@pytest.fixture(scope="module")
def drive() -> Drive:
    return drives(CARLASC, 0.1, 5)[1]


@pytest.fixture
def root(tmp_path: Path, drive: Drive) -> Path:
    tags = carlasc_tags(drive.occupancy)
    write_carlasc(tmp_path, {"Train/Town01_Light": tags[:4], "Test/Town10_Heavy": tags}, drive)
    return tmp_path


def names(occupancy: torch.Tensor) -> set[str]:
    return {CARLASC.classes[number] for number in occupancy.unique().tolist()}


def test_a_sequence_comes_back_in_our_frame(root: Path, drive: Drive) -> None:
    (recording,) = recordings(root, "test")
    clip = recording.load()
    check_occupancy(clip.occupancy, CARLASC)
    torch.testing.assert_close(clip.motion, drive.motion, atol=1e-6, rtol=0)
    assert (clip.dt, clip.source) == (0.1, "carlasc/test/Town10_Heavy")
    ours = from_occ3d(drive.occupancy, CARLASC)
    flat = ("driveable_surface", "other_flat", "sidewalk", "terrain")
    same = [CLASS_ID[name] for name in ("car", *flat, "manmade", "vegetation", "free")]
    known = torch.isin(drive.occupancy, torch.tensor(same, dtype=torch.uint8))
    assert torch.equal(clip.occupancy[known], ours[known])
    assert float(known.float().mean()) > 0.9
    assert not torch.equal(clip.occupancy, clip.occupancy.flip(2))
    assert {"road", "vehicle", "free"} <= names(clip.occupancy)


def test_splits(root: Path) -> None:
    assert [recording.source for recording in recordings(root)] == ["carlasc/train/Town01_Light", "carlasc/test/Town10_Heavy"]
    with pytest.raises(ValueError, match=r"Val: expected CarlaSC's sequences"):
        recordings(root, "val")
    with pytest.raises(ValueError, match="expected CarlaSC's folders Train, Val, Test"):
        recordings(root / "Train")


def test_the_23_tags(tmp_path: Path) -> None:
    """Tag by tag, in a file that holds every one of them, against the list of the data set's authors."""
    raw = np.arange(int(np.prod(CARLASC.shape)), dtype=np.uint32).reshape(CARLASC.shape) % 23
    raw.tofile(tmp_path / "all.label")
    found = read_labels(tmp_path / "all.label").flip(1).numpy()
    groups = {
        "free": [0],
        "building": [1],
        "barrier": [2, 11, 17],
        "other": [3, 13, 15, 16, 19, 20, 21],
        "pedestrian": [4],
        "pole": [5, 12, 18],
        "road": [6, 7],
        "sidewalk": [8],
        "vegetation": [9],
        "vehicle": [10],
        "ground": [14, 22],
    }
    assert sorted(tag for tags in groups.values() for tag in tags) == list(range(23))
    for name, tags in groups.items():
        assert set(np.unique(found[np.isin(raw, tags)])) == {CARLASC.classes.index(name)}


def test_broken_files_are_named(root: Path) -> None:
    (recording,) = recordings(root, "train")
    frames = recording.folder / "cartesian" / "evaluation"
    frame, poses, params = frames / "000002.label", frames.parent / "poses.txt", frames / "params.json"
    whole = frame.read_bytes()

    def fails(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            recording.load()

    frame.write_bytes(whole[:-4])
    fails(r"000002\.label: expected 524288 bytes, uint32 of shape \(128, 128, 8\), found 524284")
    frame.write_bytes(np.full(131072, 23, dtype=np.uint32).tobytes())
    fails(r"000002\.label: class ids should lie in 0 to 22, found 23")
    frame.unlink()
    fails(r"evaluation: frame 000002\.label is missing, found 000003\.label")
    frame.write_bytes(whole)
    good = poses.read_text()
    poses.write_text("\n".join(good.splitlines()[:3]))
    fails(r"poses\.txt: expected 4 rows of 12 numbers, found \(3, 12\)")
    poses.write_text(good.replace(good.split()[3], "nan", 1))
    fails(r"poses\.txt: found NaN")
    poses.write_text("somewhere")
    fails(r"poses\.txt: expected rows of 12 numbers")
    poses.unlink()
    fails(r"poses\.txt: no such file")
    fine = json.loads(params.read_text()) | {"grid_size": [256, 256, 16]}
    params.write_text(json.dumps(fine))
    fails(r"params\.json: expected \(128, 128, 8\) voxels .* found \(256, 256, 16\)")
    params.write_text("{}")
    fails(r"params\.json: expected grid_size, min_bound and max_bound")
