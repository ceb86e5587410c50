"""The route raster: a corridor about the line, the drivable surface beneath, in the ego's frame."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes.dataset import nearby_route
from scenes.grid import DRIVABLE, MINI
from scenes.motion import to_local
from scenes.render import render
from scenes.route import ROUTE_HALF_WIDTH, resample_route, route_raster
from scenes.scene import Scene


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), corners=st.integers(2, 30), spacing=st.floats(0.5, 5.0))
def test_resampled_points_are_evenly_spaced_and_on_the_line(seed: int, corners: int, spacing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    route = torch.randn(corners, 2, dtype=torch.float64, generator=generator).cumsum(0) * 5
    points = resample_route(route, spacing, 100)
    assert points.shape == (100, 2)
    torch.testing.assert_close(points[0], route[0])
    step = points.diff(dim=0).norm(dim=-1)
    assert float(step.max()) <= spacing + 1e-6  # a chord is no longer than its stretch of the line
    length = float(route.diff(dim=0).norm(dim=-1).sum())
    if length < 99 * spacing:
        torch.testing.assert_close(points[-1], route[-1])
    ends = route[:-1, None], route[1:, None]
    along = ((points - ends[0]) * (ends[1] - ends[0])).sum(-1) / (ends[1] - ends[0]).square().sum(-1)
    foot = ends[0] + along.clamp(0, 1).unsqueeze(-1) * (ends[1] - ends[0])
    assert float((points - foot).norm(dim=-1).amin(0).max()) < 1e-6


def test_a_route_may_stand_still_or_be_a_point() -> None:
    assert torch.equal(resample_route(torch.tensor([[1.0, 2.0]]), points=5), torch.tensor([[1.0, 2.0]]).double().expand(5, 2))
    twice = torch.tensor([[0.0, 0.0], [0.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
    assert resample_route(twice, points=4)[:, 0].tolist() == [0.0, 2.0, 4.0, 4.0]
    with pytest.raises(ValueError, match="world points"):
        resample_route(torch.zeros(0, 2))


@settings(max_examples=10, deadline=None)
@given(yaw=st.floats(-3, 3), seed=st.integers(0, 999))
def test_the_corridor_holds_what_is_near_the_line_and_nothing_else(yaw: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    heading = torch.randn(40, generator=generator, dtype=torch.float64).cumsum(0) * 0.1
    line = torch.stack((heading.cos(), heading.sin()), dim=-1).cumsum(0) * 2 - 20
    route = resample_route(line)
    pose = torch.tensor([[3.0, -2.0, yaw]], dtype=torch.float64)
    corridor = route_raster(route[None], pose, None, MINI)[0, 0]
    dense = to_local(pose[0], resample_route(line, 0.1, 1200))
    distance = torch.cdist(MINI.column_centres().reshape(-1, 2), dense).amin(1).reshape(corridor.shape)
    assert bool(corridor[distance < ROUTE_HALF_WIDTH - 0.3].all())
    assert not bool(corridor[distance > ROUTE_HALF_WIDTH + 0.05].any())


def test_the_drivable_channel_is_what_rendering_shows(made_scene: Callable[..., Scene]) -> None:
    scene = made_scene(speeds=())
    poses = torch.tensor([[-30.0, 1.0, 0.4], [0.0, -3.0, math.pi / 3]], dtype=torch.float64)
    route = torch.zeros(2, 4, 2, dtype=torch.float64)
    raster = route_raster(route, poses, [scene.static] * 2, MINI)
    shown = render(scene, poses, torch.zeros(2, dtype=torch.float64), MINI)[..., MINI.ground_index] == DRIVABLE
    assert torch.equal(raster[:, 1].bool(), shown)
    assert not route_raster(route, poses, None, MINI)[:, 1].any()


@settings(max_examples=10, deadline=None)
@given(x=st.floats(-60, 60), y=st.floats(-50, 50), yaw=st.floats(-3, 3))
def test_the_nearby_stretch_gives_the_raster_of_the_whole_route(
    made_scene: Callable[..., Scene], x: float, y: float, yaw: float
) -> None:
    route = made_scene().routes[0]
    poses = torch.tensor([[x, y, yaw], [x + 20, y, yaw]], dtype=torch.float64)
    whole = route_raster(resample_route(route).expand(2, -1, -1), poses, None, MINI)
    stretch = nearby_route(route, poses, MINI)
    assert torch.equal(route_raster(stretch.expand(2, -1, -1), poses, None, MINI), whole)
