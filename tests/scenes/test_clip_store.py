"""Clips come back from a store as they went in, from any address, whatever happens to the writer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.grid import Grid
from scenes.motion import accumulate, motion_from_poses

pytest.importorskip("zarr")
GRID = Grid((6, 5, 3), 0.5, (-1.5, -1.25, -0.5))


def clip(frames: int, seed: int, source: str = "made/up") -> Clip:
    generator = torch.Generator().manual_seed(seed)
    occupancy = torch.randint(0, 18, (frames, *GRID.shape), dtype=torch.uint8, generator=generator)
    motion = torch.randn(frames, 3, generator=generator)
    motion[0] = 0
    return Clip(occupancy, motion, 0.25, source)


def same(a: Clip, b: Clip) -> bool:
    return torch.equal(a.occupancy, b.occupancy) and torch.equal(a.motion, b.motion) and (a.dt, a.source) == (b.dt, b.source)


@pytest.fixture(params=["folder", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "clips.zarr") if request.param == "folder" else f"memory://{tmp_path.name}/clips.zarr"


def test_clips_come_back_in_order_after_reopening(address: str) -> None:
    clips = [clip(frames, seed, f"made/{seed}") for seed, frames in enumerate((3, 1, 9, 4))]
    store = ClipStore.create(address, GRID, chunk_frames=2, shard_frames=4)
    store.append(clips[:2])
    store.append([])
    ClipStore.open(address, "a").append(clips[2:])
    reopened = ClipStore.open(address)
    assert reopened.grid == GRID
    assert [reopened.frames(index) for index in range(len(reopened))] == [3, 1, 9, 4]
    assert all(same(reopened[index], clips[index]) for index in range(4))
    part = reopened.read(2, 5, 3)
    assert torch.equal(part.occupancy, clips[2].occupancy[5:8])
    assert torch.equal(part.motion[1:], clips[2].motion[6:8])
    assert not part.motion[0].any()


def test_it_is_zarr_v3_sharded_and_smaller_than_its_voxels(tmp_path: Path) -> None:
    path = tmp_path / "clips.zarr"
    store = ClipStore.create(str(path), GRID, chunk_frames=4, shard_frames=64)
    flat = Clip(torch.full((64, *GRID.shape), 17, dtype=torch.uint8), torch.zeros(64, 3), 0.25, "made/up")
    flat.occupancy[:, :, :, 0] = 11
    store.append([flat])
    metadata = json.loads((path / "occupancy" / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert [codec["name"] for codec in metadata["codecs"]] == ["sharding_indexed"]
    files = [file for file in (path / "occupancy").rglob("*") if file.is_file() and file.name != "zarr.json"]
    assert len(files) == 1
    assert files[0].stat().st_size < flat.occupancy.numel() / 4


def test_a_kill_before_the_commit_leaves_the_store_as_it_was(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, lost, second = clip(5, 0), clip(7, 1), clip(6, 2)
    store = ClipStore.create(address, GRID, chunk_frames=2, shard_frames=4)
    store.append([first])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ClipStore, "_commit", killed)
        with pytest.raises(KeyboardInterrupt):
            store.append([lost])
    reopened = ClipStore.open(address, "a")
    assert len(reopened) == 1
    assert same(reopened[0], first)
    reopened.append([second])
    again = ClipStore.open(address)
    assert len(again) == 2
    assert same(again[0], first)
    assert same(again[1], second)


def test_errors_name_the_address_and_what_is_wrong(tmp_path: Path) -> None:
    path = str(tmp_path / "clips.zarr")
    with pytest.raises(ValueError, match=r"clips\.zarr: no store of clips"):
        ClipStore.open(path)
    store = ClipStore.create(path, GRID)
    with pytest.raises(FileExistsError, match=r"clips\.zarr"):
        ClipStore.create(path, GRID)
    with pytest.raises(ValueError, match=r"clip 0: expected a last shape of \(6, 5, 3\)"):
        store.append([Clip(torch.zeros(2, 5, 5, 3, dtype=torch.uint8), torch.zeros(2, 3), 0.25, "x")])
    with pytest.raises(ValueError, match="class ids below 18, found 200"):
        store.append([Clip(torch.full((2, *GRID.shape), 200, dtype=torch.uint8), torch.zeros(2, 3), 0.25, "x")])
    with pytest.raises(PermissionError, match="reading only"):
        ClipStore.open(path).append([clip(2, 0)])
    with pytest.raises(IndexError, match="clip 0 of 0"):
        store[0]
    with pytest.raises(ValueError, match="NaN"):
        Clip(torch.zeros(1, *GRID.shape, dtype=torch.uint8), torch.tensor([[0.0, np.nan, 0.0]]), 0.25, "x")


def test_how_clips_were_made_is_kept(address: str) -> None:
    ClipStore.create(address, GRID, about={"mask": "lidar", "seed": 3}).append([clip(2, 0, "made/7")])
    reopened = ClipStore.open(address)
    assert reopened.about == {"mask": "lidar", "seed": 3}
    assert (reopened.source(0), reopened.dt(0)) == ("made/7", 0.25)


def test_reading_with_a_stride_is_reading_every_so_many_frames(address: str) -> None:
    whole = clip(11, 5)
    store = ClipStore.create(address, GRID, chunk_frames=2, shard_frames=4)
    store.append([clip(3, 0), whole])
    part = store.read(1, 1, 4, stride=3)
    assert torch.equal(part.occupancy, whole.occupancy[1:11:3])
    assert part.dt == 0.75
    poses = accumulate(whole.motion)[1:11:3]
    torch.testing.assert_close(part.motion, motion_from_poses(poses), atol=1e-5, rtol=0)
    with pytest.raises(IndexError, match=r"frames 2 to 12 of clip 1, which has 11"):
        store.read(1, 2, 4, stride=3)
