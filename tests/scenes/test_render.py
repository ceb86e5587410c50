"""Rendering: the same however it is cut up, rigid under ego motion, without the ego, and everything in its place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes.grid import CLASS_ID, DRIVABLE, FREE, MINI, OCC3D, Grid
from scenes.motion import compose
from scenes.render import render, render_static
from scenes.scene import Scene
from scenes.widen import widen

CAR = CLASS_ID["car"]
SMALL = Grid((40, 40, 8), 0.8, (-16.0, -16.0, -0.8))


def one(scene: Scene, x: float, y: float, yaw: float, time: float, grid: Grid, ego: int | None = None) -> torch.Tensor:
    pose = torch.tensor([[x, y, yaw]], dtype=torch.float64)
    return render(scene, pose, torch.tensor([time], dtype=torch.float64), grid, ego)[0]


@pytest.mark.parametrize("grid", [OCC3D, MINI])
def test_things_are_where_the_scene_has_them(made_scene: Callable[..., Scene], grid: Grid) -> None:
    scene = made_scene()
    occupancy = one(scene, -30.0, 0.0, 0.0, 0.0, grid)  # 15 m ahead of the standing car's middle at x = -45
    ground = occupancy[:, :, grid.ground_index]
    middle = grid.shape[1] // 2
    road = ground[:, middle - int(5 / grid.voxel) : middle + int(5 / grid.voxel)]
    assert bool(((road == DRIVABLE) | (road == CAR)).all())
    car = (occupancy == CAR).any(-1).nonzero().double()
    centres = (car + 0.5) * grid.voxel + torch.tensor(grid.origin[:2], dtype=torch.float64)
    behind = centres[(centres[:, 0] + 15.0).abs() < 5]
    torch.testing.assert_close(
        behind.mean(0), torch.tensor([-15.0, 0.0], dtype=torch.float64), atol=grid.voxel / 2 + 1e-6, rtol=0
    )
    area = len(behind) * grid.voxel**2
    assert 4.6 * 1.9 * 0.5 < area < 4.6 * 1.9 * 1.6
    wall = (occupancy == CLASS_ID["manmade"]).nonzero()
    left = (wall[:, 1] + 0.5) * grid.voxel + grid.origin[1]
    assert float(left.min()) > 9.5
    assert float(left.max()) < 13.5
    assert int(wall[:, 2].min()) >= round(-grid.origin[2] / grid.voxel)  # nothing stands below the ground
    height = (int(wall[:, 2].max()) + 1 - int(wall[:, 2].min())) * grid.voxel
    assert height == pytest.approx(4.0, abs=grid.voxel / 2 + 1e-6)


@settings(max_examples=10, deadline=None)
@given(chunk=st.integers(1, 9), frames=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_result_does_not_depend_on_how_work_is_cut(
    made_scene: Callable[..., Scene], chunk: int, frames: int, seed: int
) -> None:
    scene = made_scene(frames=30)
    generator = torch.Generator().manual_seed(seed)
    poses = torch.rand(frames, 3, dtype=torch.float64, generator=generator) * 40 - 40
    times = torch.rand(frames, dtype=torch.float64, generator=generator) * 2.9
    whole = render(scene, poses, times, SMALL, ego=0, chunk=64)
    assert torch.equal(whole, render(scene, poses, times, SMALL, ego=0, chunk=chunk))
    alone = torch.stack([render(scene, poses[i : i + 1], times[i : i + 1], SMALL, ego=0)[0] for i in range(frames)])
    assert torch.equal(whole, alone)


@settings(max_examples=20, deadline=None)
@given(x=st.floats(-2, 2), y=st.floats(-2, 2), quarter=st.integers(0, 3))
def test_what_is_thinner_than_a_voxel_shows_from_everywhere(
    made_scene: Callable[..., Scene], x: float, y: float, quarter: int
) -> None:
    static = made_scene(speeds=()).static
    standing = torch.full_like(static.standing, FREE)
    standing[0, 320, 280:320], standing[0, 300:302, 300] = CLASS_ID["barrier"], CLASS_ID["traffic_cone"]
    thin = replace(static, standing=standing)
    pose = torch.tensor([[x, y, quarter * math.pi / 2]], dtype=torch.float64)
    shown = render_static(thin, pose, MINI)[0].flatten(0, 1)
    barrier, cone = ((shown == CLASS_ID[name]).any(-1).sum() * MINI.voxel**2 for name in ("barrier", "traffic_cone"))
    assert 20.0 * MINI.voxel - 1.0 <= float(barrier) <= 20.5 * 2 * MINI.voxel + 1.0  # 20 m long and a voxel or two wide
    assert 1 <= round(float(cone) / MINI.voxel**2) <= 4


def test_only_what_is_thin_is_widened(made_scene: Callable[..., Scene]) -> None:
    standing = torch.full((2, 12, 12), FREE, dtype=torch.uint8)
    standing[0, 3:8, 4:6] = CLASS_ID["manmade"]  # two cells thick
    standing[0, 10, 1:4] = CLASS_ID["barrier"]
    standing[1, 3:8, 9] = CLASS_ID["vegetation"]
    code = widen(standing, 2)
    expected = torch.zeros_like(code)
    expected[0, 11, 1:4], expected[0, 10, 4], expected[0, 11, 4] = 2, 1, 3
    expected[1, 3:8, 10], expected[1, 8, 9], expected[1, 8, 10] = 1, 2, 3
    assert torch.equal(code, expected)
    assert not widen(standing, 1).any()
    assert widen(standing, 3)[0].count_nonzero() > code[0].count_nonzero()  # now the house is thin, too


@settings(max_examples=15, deadline=None)
@given(steps=st.tuples(st.integers(-8, 8), st.integers(-8, 8)), quarter=st.integers(0, 3), time=st.floats(0, 5))
def test_the_world_is_rigid(made_scene: Callable[..., Scene], steps: tuple[int, int], quarter: int, time: float) -> None:
    """From a pose moved by whole voxels and quarter turns the same voxels are seen, moved."""
    scene = made_scene()
    x, y = -40.0 + 0.13, 0.07
    here = one(scene, x, y, 0.0, time, SMALL)
    dx, dy = steps
    turned = one(scene, x + dx * SMALL.voxel, y + dy * SMALL.voxel, quarter * math.pi / 2, time, SMALL)
    seen = torch.rot90(turned, quarter, (0, 1))
    overlap_here = here[max(dx, 0) : 40 + min(dx, 0), max(dy, 0) : 40 + min(dy, 0)]
    overlap_seen = seen[max(-dx, 0) : 40 + min(-dx, 0), max(-dy, 0) : 40 + min(-dy, 0)]
    differing = (overlap_here != overlap_seen).any(-1).float().mean()
    assert float(differing) < 0.002  # a box face that falls on a voxel centre may round to either side


def test_the_ego_is_left_out_and_others_are_not(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=(8.0, 0.0))
    times = torch.tensor([1.0], dtype=torch.float64)
    pose = scene.ego_poses(0, times)
    with_ego, without = render(scene, pose, times, MINI)[0] == CAR, render(scene, pose, times, MINI, ego=0)[0] == CAR
    assert bool(with_ego[46:52, 46:50].any())
    assert not bool(without[46:52, 46:50].any())
    assert bool(without.any())
    assert bool((without <= with_ego).all())


def test_agents_are_there_only_while_valid_and_between_frames(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=(8.0,))
    scene.tracks.valid[0, 50:] = False
    early, late = one(scene, -40.0, 0.0, 0.0, 2.0, MINI) == CAR, one(scene, -40.0, 0.0, 0.0, 6.0, MINI) == CAR
    assert bool(early.any())
    assert not bool(late.any())
    centre = [
        float(((one(scene, -40.0, 0.0, 0.0, t, OCC3D) == CAR).any(-1).any(-1).nonzero()).double().mean()) for t in (2.0, 2.05)
    ]
    assert (centre[1] - centre[0]) * OCC3D.voxel == pytest.approx(0.4, abs=0.21)


def test_outside_the_known_world_nothing_is(made_scene: Callable[..., Scene]) -> None:
    assert bool((one(made_scene(), 1000.0, 0.0, 0.0, 0.0, SMALL) == FREE).all())


def test_a_thing_thinner_than_a_voxel_is_still_seen(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=(0.0,))
    scene.tracks.sizes[0] = torch.tensor([0.3, 0.3, 0.2])
    for shift in torch.linspace(0, 0.8, 9).tolist():
        assert bool((one(scene, -60.0 + shift, shift / 2, 0.3, 0.0, SMALL) == CAR).any())


def test_poses_must_fit_times(made_scene: Callable[..., Scene]) -> None:
    with pytest.raises(ValueError, match=r"expected poses \(2, 3\)"):
        render(made_scene(), torch.zeros(3, 3), torch.zeros(2), SMALL)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_cpu_and_gpu_render_the_same(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene()
    times = torch.linspace(0, 9, 12, dtype=torch.float64)
    poses = compose(scene.ego_poses(0, times), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).expand(12, 3))
    on_gpu = render(scene.to("cuda"), poses, times, MINI, ego=0).cpu()
    assert float((on_gpu != render(scene, poses, times, MINI, ego=0)).float().mean()) < 1e-6
