"""Windows of stored clips: the same again for a seed, every place as often as another, and nothing but what was stored."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from scenes.clip import Clip
from scenes.clip_store import ClipStore
from scenes.dataset import SceneClips
from scenes.grid import MINI, Grid
from scenes.scene_file import load_scenes
from scenes.store_clips import StoreClips
from tests.data_sets import SCENES

pytest.importorskip("zarr")
GRID = Grid((6, 5, 3), 0.5, (-1.5, -1.25, -0.5))


def numbered(number: int, frames: int, dt: float = 0.25) -> Clip:
    """A clip whose frames say which they are: 20 * number + frame in every cell of axis 2, digit by digit."""
    code = 20 * number + torch.arange(frames)
    digits = torch.stack([code // 100, code // 10 % 10, code % 10], dim=-1).to(torch.uint8)
    occupancy = digits[:, None, None, :].expand(frames, *GRID.shape).contiguous()
    motion = torch.stack([1.0 + code, torch.zeros(frames), torch.zeros(frames)], dim=-1)
    motion[0] = 0
    return Clip(occupancy, motion, dt, f"made/{number}")


def code(occupancy: torch.Tensor) -> torch.Tensor:
    return (occupancy[:, 0, 0].long() * torch.tensor([100, 10, 1])).sum(-1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    store = ClipStore.create(str(tmp_path_factory.mktemp("stores") / "clips.zarr"), GRID, chunk_frames=2, shard_frames=8)
    store.append([numbered(number, frames) for number, frames in enumerate((4, 9, 12, 6))])
    return store


def same(a: dict, b: dict) -> bool:
    return a["source"] == b["source"] and all(torch.equal(a[name], b[name]) for name in ("occupancy", "motion"))


def test_an_item_depends_on_seed_and_index_alone(store: ClipStore) -> None:
    clips, again, other = (
        StoreClips(store, 6, seed=3),
        StoreClips(ClipStore.open(store.address), 6, seed=3),
        StoreClips(store, 6, seed=4),
    )
    assert all(same(clips[index], again[index]) for index in (5, 0, 29))
    assert any(not same(clips[index], other[index]) for index in range(10))


@given(frames=st.integers(1, 4), stride=st.integers(1, 3), number=st.integers(0, 10_000))
def test_a_window_is_a_stretch_of_one_clip(store: ClipStore, frames: int, stride: int, number: int) -> None:
    clips = StoreClips(store, frames, stride)
    item = clips.window(number % clips.windows)
    codes = code(item["occupancy"])
    clip = int(item["source"].split("/")[1])
    assert codes.tolist() == list(range(int(codes[0]), int(codes[0]) + frames * stride, stride))
    assert codes[0] >= 20 * clip
    assert int(codes[-1]) - 20 * clip < store.frames(clip)
    assert clips.dt == pytest.approx(0.25 * stride)
    assert not item["motion"][0].any()
    # The ego drives 1 + code metres to each frame, so a window with a stride drives their sum.
    for step in range(1, frames):
        between = range(int(codes[step - 1]) + 1, int(codes[step]) + 1)
        assert float(item["motion"][step, 0]) == pytest.approx(sum(1 + frame for frame in between), abs=1e-3)


def test_every_window_is_numbered_once_and_drawn_as_often_as_another(store: ClipStore) -> None:
    clips = StoreClips(store, 6, seed=1)
    firsts = [int(code(clips.window(number)["occupancy"])[0]) for number in range(clips.windows)]
    assert firsts == [20, 21, 22, 23, *range(40, 47), 60]
    drawn = torch.tensor([firsts.index(int(code(clips[index]["occupancy"])[0])) for index in range(96)])
    counts = torch.bincount(drawn, minlength=clips.windows)
    assert int(counts.min()) >= 2
    assert int(counts.max()) <= 20
    with pytest.raises(IndexError, match="window 12 of 12"):
        clips.window(12)


def test_an_item_is_like_one_that_is_rendered(tmp_path: Path) -> None:
    rendered = SceneClips(load_scenes(SCENES)[:1], MINI, frames=4)
    item = rendered[0]
    store = ClipStore.create(str(tmp_path / "clips.zarr"), MINI)
    store.append([Clip(item["occupancy"], item["motion"], rendered.dt, item["source"])])
    clips = StoreClips(store, 4)
    assert same(clips[0], item)
    assert clips[0].keys() == item.keys()
    assert (clips.grid, clips.dt, clips.frames) == (rendered.grid, rendered.dt, rendered.frames)


def test_the_workers_of_a_loader_see_the_same(store: ClipStore) -> None:
    clips = StoreClips(store, 3, seed=2, length=4)
    loaded = list(DataLoader(clips, batch_size=None, num_workers=1))
    assert all(same(item, clips[index]) for index, item in enumerate(loaded))
    assert same(pickle.loads(pickle.dumps(clips))[3], clips[3])


def test_several_stores_and_what_does_not_fit(store: ClipStore, tmp_path: Path) -> None:
    slow = ClipStore.create(str(tmp_path / "slow.zarr"), GRID)
    slow.append([numbered(9, 8, dt=0.5)])
    coarse = ClipStore.create(str(tmp_path / "coarse.zarr"), MINI)
    assert StoreClips([store, store], 6).windows == 24
    with pytest.raises(ValueError, match="no clip of 13 frames"):
        StoreClips(store, 7, stride=2)
    with pytest.raises(ValueError, match="not of one grid"):
        StoreClips([store, coarse], 2)
    with pytest.raises(ValueError, match=r"from 0\.25 to 0\.5 s between frames"):
        StoreClips([store, slow], 2)
    with pytest.raises(ValueError, match="must be positive"):
        StoreClips(store, 2, stride=0)
    with pytest.raises(ValueError, match="no clip of 2 frames"):
        StoreClips([], 2)
    with pytest.raises(IndexError, match="item 5 of 5"):
        StoreClips(store, 2, length=5)[5]
