"""Occ3D frames: read when whole, refused by name when not, and in agreement with the recording they were made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scenes.grid import CLASS_ID, FREE, OCC3D
from scenes.occ3d import clip_from_frames, find_frames, load_frame
from scenes.render import render
from scenes.scenarionet import load_scenario


def _arrays() -> dict[str, np.ndarray]:
    semantics = np.full(OCC3D.shape, FREE, dtype=np.uint8)
    semantics[:, :, 0] = 11
    return {"semantics": semantics, "mask_lidar": np.ones_like(semantics), "mask_camera": np.zeros_like(semantics)}


def _saved(folder: Path, arrays: dict[str, np.ndarray], scene: str = "scene-1", token: str = "a") -> Path:
    path = folder / "gts" / scene / token / "labels.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def test_a_frame_comes_back_with_its_masks(tmp_path: Path) -> None:
    frame = load_frame(_saved(tmp_path, _arrays()))
    assert frame.semantics.dtype == torch.uint8
    assert bool((frame.semantics[:, :, 0] == 11).all())
    assert bool(frame.mask_lidar.all())
    assert not bool(frame.mask_camera.any())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = _saved(tmp_path, _arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"labels\.npz: not a whole npz archive"):
        load_frame(path)


def test_damage_inside_a_file_is_named(tmp_path: Path) -> None:
    path = _saved(tmp_path, _arrays())
    damaged = bytearray(path.read_bytes())
    damaged[200:260] = bytes(60)
    path.write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match=r"labels\.npz"):
        load_frame(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"semantics": np.full(OCC3D.shape, 200, dtype=np.uint8)}, "class ids should lie in 0 to 17, found 200"),
        ({"semantics": np.full(OCC3D.shape, -1, dtype=np.int64)}, "class ids should lie in 0 to 17, found -1"),
        ({"semantics": np.zeros((100, 200, 16), dtype=np.uint8)}, r"semantics should have shape \(200, 200, 16\)"),
        ({"mask_camera": np.zeros((200, 200), dtype=np.uint8)}, "mask_camera should have shape"),
        ({"semantics": np.zeros(OCC3D.shape, dtype=np.float32)}, "whole numbers from 0 on, found float32"),
        ({"semantics": np.full(OCC3D.shape, None)}, "not a whole npz archive"),
        ({"mask_lidar": None}, r"no array \['mask_lidar'\]"),
    ],
)
def test_wrong_contents_are_refused(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    arrays = {name: array for name, array in {**_arrays(), **change}.items() if array is not None}
    with pytest.raises(ValueError, match=message) as caught:
        load_frame(_saved(tmp_path, arrays))
    assert "labels.npz" in str(caught.value)


def test_frames_are_found_and_become_clips(tmp_path: Path) -> None:
    paths = [_saved(tmp_path, _arrays(), "scene-2", token) for token in ("b", "a")]
    _saved(tmp_path, _arrays(), "scene-1", "c")
    found = find_frames(tmp_path)
    assert {scene: list(tokens) for scene, tokens in found.items()} == {"scene-1": ["c"], "scene-2": ["a", "b"]}
    assert find_frames(tmp_path / "gts") == found
    poses = torch.tensor([[100.0, 0.0, 0.0], [102.0, 0.0, 0.1]], dtype=torch.float64)
    clip = clip_from_frames(paths, poses, 0.5, "nuscenes/scene-2")
    assert clip.occupancy.shape == (2, *OCC3D.shape)
    torch.testing.assert_close(clip.motion, torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.1]]))
    with pytest.raises(ValueError, match=r"one pose .* for each of 2 frames"):
        clip_from_frames(paths, poses[:1], 0.5, "x")
    with pytest.raises(ValueError, match="no frames"):
        find_frames(tmp_path / "gts" / "scene-1" / "c")


def test_a_recording_rendered_at_the_moment_of_a_real_frame_agrees_with_it(shared_data: Path) -> None:
    frame = load_frame(next(iter(find_frames(shared_data / "occ3d_nuscenes")["scene-1077"].values())))
    scene = load_scenario(shared_data / "nuscenes_mini" / "sd_nuscenes_v1.0-mini_scene-1077.pkl")
    times = torch.tensor([13.5], dtype=torch.float64)
    rendered = render(scene, scene.ego_poses(0, times), times, OCC3D, ego=0)[0]
    seen = frame.mask_lidar.any(-1)
    for name, least in (("car", 0.8), ("driveable_surface", 0.9)):
        found, true = ((grid == CLASS_ID[name]).any(-1) & seen for grid in (rendered, frame.semantics))
        assert int((found & true).sum()) >= least * int(found.sum())
        assert int((found & true).sum()) >= least * int(true.sum())
