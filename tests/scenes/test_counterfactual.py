"""Paths that leave the recorded one: when, for how long, and how they end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from scenes.counterfactual import HORIZON, PERTURBED, PathKind, counterfactual_path
from scenes.grid import CLASS_ID, FREE
from scenes.impact import agents_touched, boxes_touch, first_impact, static_touched
from scenes.motion import motion_from_poses
from scenes.scene import Scene


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


@pytest.mark.parametrize("kind", PERTURBED)
def test_a_path_follows_the_recording_then_leaves_it_for_two_seconds_at_most(
    made_scene: Callable[..., Scene], kind: PathKind
) -> None:
    scene = made_scene(speeds=(8.0,))
    left = []
    for seed in range(8):
        path = counterfactual_path(scene, 0, 3.0, 16, 0.25, kind, _rng(seed))
        assert path.poses.shape == (16, 3)
        torch.testing.assert_close(path.times.diff(), torch.full((15,), 0.25, dtype=torch.float64))
        assert path.departed_at is not None
        assert float(path.times[-1]) - path.departed_at <= HORIZON + 1e-9
        before = path.times <= path.departed_at
        torch.testing.assert_close(path.poses[before], scene.ego_poses(0, path.times[before]))
        left.append(float((path.poses[-1, :2] - scene.ego_poses(0, path.times[-1:])[0, :2]).norm()))
        speed = motion_from_poses(path.poses)[1:, :2].norm(dim=-1) / 0.25
        assert float(speed.diff().abs().max()) / 0.25 < 6.5
        if not path.impact:
            assert float(path.times[-1]) == pytest.approx(3.0 + 15 * 0.25)
    assert np.median(left) > 0.3


def test_kinds_do_what_their_names_say(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=(8.0,))

    def end(kind: PathKind, seed: int) -> tuple[float, float]:
        path = counterfactual_path(scene, 0, 3.0, 16, 0.25, kind, _rng(seed))
        return tuple((path.poses[-1] - scene.ego_poses(0, path.times[-1:])[0])[:2].tolist())  # type: ignore[return-value]

    assert all(end(PathKind.BRAKE, seed)[0] < 0 for seed in range(6))
    assert all(end(PathKind.ACCELERATE, seed)[0] > 0 for seed in range(6))
    assert all(abs(end(PathKind.BRAKE, seed)[1]) < 0.05 for seed in range(6))
    sides = [end(PathKind.LEAVE_ROAD, seed)[1] for seed in range(12)]
    assert min(sides) < -1.0
    assert max(sides) > 1.0


def test_an_impact_is_the_last_frame_and_the_first_contact(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=(9.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    for agent in range(1, 6):  # parked in the next lane, from 20 m ahead of where the path departs
        scene.tracks.poses[agent, :, 0] = -20.0 + 7.0 * agent
        scene.tracks.poses[agent, :, 1] = 3.0
    impacts = 0
    for seed in range(12):
        path = counterfactual_path(scene, 0, 2.2, 8, 0.25, PathKind.HIT, _rng(seed))
        touching = agents_touched(scene.tracks, path.poses, path.times / scene.dt, 0).any(-1)
        touching |= static_touched(scene.static, path.poses)
        assert not bool(touching[:-1].any())
        assert bool(touching[-1]) == path.impact
        if path.impact:
            impacts += 1
            assert float(path.times[-1]) < 2.2 + 7 * 0.25 + 1e-9
    assert impacts >= 6


def test_a_path_goes_on_beyond_its_impact_where_asked_to(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=(9.0, 0.0))
    scene.tracks.poses[1, :, 0] = -22.0  # a parked car, reached 3.6 s after the start
    impacts = 0
    for seed in range(8):
        ends, goes_on = (
            counterfactual_path(scene, 0, 2.2, 8, 0.25, PathKind.ACCELERATE, _rng(seed), beyond) for beyond in (0.0, 0.5)
        )
        assert ends.impact == goes_on.impact
        later = 2 if ends.impact else 0
        assert float(goes_on.times[-1] - ends.times[-1]) == pytest.approx(later * 0.25)
        torch.testing.assert_close(goes_on.poses[: 8 - later], ends.poses[later:])
        if ends.impact:
            impacts += 1
            speed = motion_from_poses(goes_on.poses)[1:, :2].norm(dim=-1) / 0.25
            assert float(speed[-1]) > 9.0
    assert impacts >= 4


def test_the_same_generator_gives_the_same_path(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene()
    for kind in PERTURBED:
        one, same, other = (counterfactual_path(scene, 0, 3.0, 12, 0.25, kind, _rng(seed)) for seed in (1, 1, 2))
        assert torch.equal(one.poses, same.poses)
        assert not torch.equal(one.poses, other.poses)


def test_the_ego_must_be_there(made_scene: Callable[..., Scene]) -> None:
    with pytest.raises(ValueError, match=r"track 0 is there from 0 to 10 s; a path from 1 to 4\.75 s needs it from -1 s on"):
        counterfactual_path(made_scene(), 0, 1.0, 16, 0.25, PathKind.BRAKE, _rng(0))
    recorded = counterfactual_path(made_scene(), 0, 0.0, 16, 0.25, PathKind.RECORDED, _rng(0))
    assert recorded.departed_at is None


def test_boxes_touch_exactly_when_points_of_one_lie_in_the_other() -> None:
    generator = torch.Generator().manual_seed(0)
    count = 400
    a, b = torch.rand(2, count, 3, dtype=torch.float64, generator=generator) * torch.tensor([6.0, 6.0, 6.3])
    sizes = 0.5 + 4 * torch.rand(2, count, 2, dtype=torch.float64, generator=generator)
    touch = boxes_touch(a, sizes[0], b, sizes[1])
    grid = torch.linspace(-0.5, 0.5, 60, dtype=torch.float64)
    unit = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), dim=-1).reshape(1, -1, 2)
    from scenes.motion import to_local, transform

    inside = to_local(b, transform(a, unit * sizes[0][:, None])).abs() <= sizes[1][:, None] / 2
    found = inside.all(-1).any(-1)
    assert bool((touch | ~found).all())  # a common point means contact
    assert int((touch & ~found).sum()) <= 0.02 * count  # and contact without a sampled point is a graze
    assert torch.equal(touch, boxes_touch(b, sizes[1], a, sizes[0]))
    assert 0.2 < float(touch.float().mean()) < 0.95


def test_walls_stop_and_crowns_do_not(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=())
    under_tree = torch.tensor([[-99.0, 0.0, 0.0]], dtype=torch.float64)
    i, j, _ = scene.static.cells(under_tree[:, :2])
    assert int(scene.static.standing[1, i, j]) == CLASS_ID["vegetation"] != FREE
    at_wall = torch.tensor([[0.0, 10.5, 0.0]], dtype=torch.float64)
    outside = torch.tensor([[900.0, 0.0, 0.0]], dtype=torch.float64)
    poses = torch.cat((under_tree, at_wall, outside))
    assert static_touched(scene.static, poses).tolist() == [False, True, False]
    towards = torch.tensor([[0.0, y, 1.57] for y in (0.0, 2.0, 4.0, 6.0, 8.0)], dtype=torch.float64)
    hit = first_impact(scene, towards, torch.zeros(5, dtype=torch.float64))
    assert hit == 4  # its front, 3.6 m ahead of the rear axle, is past y = 10
