"""Clips rendered on the fly: item i is item i, whoever asks and when; splits keep sources together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from scenes.dataset import SceneClips, clip_starts, split
from scenes.grid import Grid
from scenes.render import render
from scenes.route import resample_route, route_raster
from scenes.scene import Scene

GRID = Grid((24, 24, 4), 1.6, (-19.2, -19.2, -1.6))


def test_an_item_is_a_pure_function_of_seed_and_index(made_scene: Callable[..., Scene]) -> None:
    scenes = [made_scene(name=name) for name in "ab"]

    def clips(seed: int) -> SceneClips:
        return SceneClips(scenes, GRID, frames=8, route_every=2, seed=seed, counterfactual=0.5)

    forward = [clips(1)[index] for index in range(12)]
    backward = [clips(1)[index] for index in reversed(range(12))][::-1]
    other = [clips(2)[index] for index in range(12)]
    for name in ("occupancy", "motion", "route"):
        assert all(torch.equal(a[name], b[name]) for a, b in zip(forward, backward, strict=True))
    assert [item["kind"] for item in forward] == [item["kind"] for item in backward]
    assert not all(torch.equal(a["motion"], b["motion"]) for a, b in zip(forward, other, strict=True))
    workers = torch.utils.data.DataLoader(clips(1), batch_size=3, num_workers=2, sampler=range(12))
    batches = [batch["occupancy"] for batch in workers]
    assert torch.equal(torch.cat(batches), torch.stack([item["occupancy"] for item in forward]))


def test_an_item_shows_the_scene_and_its_route(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=(8.0,))
    item = SceneClips([scene], GRID, frames=8, route_every=4, standing=0.0)[0]
    assert item["occupancy"].shape == (8, *GRID.shape)
    assert item["source"] == "made/a"
    assert item["kind"] == "recorded"
    assert not item["motion"][0].any()
    torch.testing.assert_close(item["motion"][1:], torch.tensor([2.0, 0.0, 0.0]).expand(7, 3))
    matches = []
    for frame in range(scene.frames - 18):
        times = frame * scene.dt + torch.arange(8, dtype=torch.float64) * 0.25
        poses = scene.ego_poses(0, times)
        if torch.equal(render(scene, poses, times, GRID, 0), item["occupancy"]):
            routes = resample_route(scene.routes[0]).expand(2, -1, -1)
            matches.append(route_raster(routes, poses[3::4], [scene.static] * 2, GRID))
    assert any(torch.equal(raster, item["route"]) for raster in matches)


def test_most_egos_move_and_some_stand(made_scene: Callable[..., Scene]) -> None:
    clips = SceneClips([made_scene(speeds=(6.0, 0.0, 0.0, 0.0))], GRID, frames=4, standing=0.2)
    speeds = torch.stack([clips[index]["motion"][1:, 0].mean() / 0.25 for index in range(100)])
    assert 0.05 < float((speeds < 1.0).float().mean()) < 0.4
    assert bool(((speeds < 0.01) | (speeds > 5.9)).all())


def test_starts_are_exactly_where_the_ego_is_there_throughout(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=(5.0, 0.5), frames=81)
    scene.tracks.valid[0, 30] = False
    starts = clip_starts(scene, 2.0)
    moving = starts.moving[starts.moving[:, 0] == 0][:, 1].tolist()
    assert moving == [frame for frame in range(0, 61, 2) if not frame <= 30 <= frame + 20]
    assert set(starts.standing[:, 0].tolist()) == {1}
    early = clip_starts(scene, 2.0, lead=1.0).moving
    assert sorted(set(early[early[:, 0] == 0][:, 1].tolist())) == [
        frame + 10 for frame in range(0, 51, 2) if not frame <= 30 <= frame + 30
    ]


def test_the_counterfactual_share_is_kept_and_all_kinds_occur(made_scene: Callable[..., Scene]) -> None:
    clips = SceneClips([made_scene(speeds=(8.0, 4.0))], GRID, frames=6, counterfactual=0.6)
    kinds = Counter(clips[index]["kind"] for index in range(80))
    assert 0.2 < kinds["recorded"] / 80 < 0.6
    assert len(kinds) == 6


def test_what_cannot_be_drawn_is_said(made_scene: Callable[..., Scene]) -> None:
    with pytest.raises(ValueError, match="none of 1 scenes has an ego that is there for 20 s"):
        SceneClips([made_scene()], GRID, frames=81)
    with pytest.raises(ValueError, match="route_every must divide the 8 frames"):
        SceneClips([made_scene()], GRID, frames=8, route_every=3)
    with pytest.raises(IndexError, match="item 5 of 5"):
        SceneClips([made_scene()], GRID, frames=8, length=5)[5]


def test_splits_keep_the_scenes_of_a_source_together(made_scene: Callable[..., Scene]) -> None:
    scenes = [made_scene(frames=5, name=str(number % 10)) for number in range(20)]
    train, held = split(scenes, 0.3)
    assert len(train) + len(held) == 20
    assert not {scene.source for scene in train} & {scene.source for scene in held}
    assert len({scene.source for scene in held}) == 3
    assert [scene.source for scene in split(scenes[::-1], 0.3)[1]] == [scene.source for scene in held][::-1]
    assert {scene.source for scene in split(scenes, ["made/4"])[1]} == {"made/4"}
    assert len({scene.source for scene in split(scenes, 0.01)[1]}) == 1
    assert split(scenes, 0.0)[1] == []
    with pytest.raises(ValueError, match="no scene comes from"):
        split(scenes, ["made/40"])
    with pytest.raises(ValueError, match="share in"):
        split(scenes, 1.5)
