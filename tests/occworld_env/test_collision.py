"""Collisions computed by hand: MINI grid, column centres at 0.4 + 0.8 k m, a car 4.5 m x 1.8 m whose front is 3.65 m ahead."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from occworld_env.collision import collide, collide_at, inside_box
from occworld_env.footprint import NO_CLASS, Reach, look_down, obstacle_layers
from occworld_env.loading import load_scene_list
from occworld_env.offroad import offroad_share
from scenes.grid import CLASS_ID, FREE, MINI, OCC3D
from scenes.motion import compose
from scenes.render import render

CAR, TRUCK, PEDESTRIAN, WALL = (CLASS_ID[name] for name in ("car", "truck", "pedestrian", "manmade"))
BOX = torch.tensor([[4.5, 1.8, 1.4]], dtype=torch.float64)
REACH = Reach(MINI, 20.0, torch.device("cpu"))
DT = 0.25


def raster(*things: tuple[int, float, float]) -> Tensor:
    """Obstacle raster (1, X, Y) with class ids at the columns around x, y."""
    out = torch.full((1, *MINI.shape[:2]), FREE, dtype=torch.uint8)
    for kind, x, y in things:
        out[0, int((x + 38.4) / 0.8), int((y + 38.4) / 0.8)] = kind
    return out


def forward(distance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Start pose, poses of two frames and of six integration steps of a car that goes straight on, batch of one."""
    path = torch.zeros(1, 6, 3, dtype=torch.float64)
    path[0, :, 0] = distance * torch.arange(1, 7) / 6
    return torch.zeros(1, 3, dtype=torch.float64), path[:, 2::3], path


def hit(before: Tensor, after: tuple[Tensor, Tensor], distance: float) -> int:
    start, frames, path = forward(distance)
    return int(collide(before, torch.stack(after, dim=1), start, frames, path, BOX, DT, REACH))


def shown(distance: float, *things: tuple[int, float, float]) -> Tensor:
    """Raster of a new frame after `distance` metres straight on, with things where they are in the old frame's coordinates."""
    return raster(*((kind, x - distance, y) for kind, x, y in things))


def test_layers_that_can_be_hit() -> None:
    assert obstacle_layers(MINI) == [1, 2]  # centres at 0.4 m and 1.2 m
    assert [round(float(OCC3D.z_centres[k]), 1) for k in obstacle_layers(OCC3D)] == [0.4, 0.8, 1.2, 1.6]


def test_looking_down_names_the_lower_obstacle_and_leaves_out_bridges() -> None:
    voxels = torch.full((1, *MINI.shape), FREE, dtype=torch.uint8)
    voxels[0, 5, 5, 1], voxels[0, 5, 5, 2] = PEDESTRIAN, WALL
    voxels[0, 6, 6, 5] = WALL
    voxels[0, 7, 7, 0] = CLASS_ID["sidewalk"]
    surface = look_down(voxels, MINI)
    assert surface.obstacle[0, 5, 5] == PEDESTRIAN
    assert surface.obstacle[0, 6, 6] == FREE
    assert surface.ground[0, 7, 7] == CLASS_ID["sidewalk"]
    assert int((surface.obstacle != FREE).sum()) == 1


@pytest.mark.parametrize(("distance", "expected"), [(3.2, NO_CLASS), (4.0, WALL)])
def test_a_wall_ahead_is_hit_when_the_front_reaches_its_centre(distance: float, expected: int) -> None:
    wall = (WALL, 7.6, 0.4)
    after = (shown(distance / 2, wall), shown(distance, wall))
    assert hit(raster(wall), after, distance) == expected


def test_a_wall_beside_the_car_is_not_hit() -> None:
    wall = (WALL, 7.6, 1.2)  # the car reaches 0.9 m to the side
    assert hit(raster(wall), (shown(4.0, wall), shown(8.0, wall)), 8.0) == NO_CLASS


@pytest.mark.parametrize("kind", [WALL, CAR, PEDESTRIAN])
def test_what_vanishes_is_still_hit(kind: int) -> None:
    assert hit(raster((kind, 7.6, 0.4)), (raster(), raster()), 8.0) == kind


def test_a_follower_does_not_hit_where_its_leader_was() -> None:
    leader = [(CAR, 4.4 + gone, 0.4) for gone in (0.0, 4.0, 8.0)]
    assert hit(raster(leader[0]), (shown(4.0, leader[1]), shown(8.0, leader[2])), 8.0) == NO_CLASS


def test_a_leader_that_changes_from_car_to_truck_is_still_there_once() -> None:
    after = (shown(4.0, (TRUCK, 8.4, 0.4)), shown(8.0, (TRUCK, 12.4, 0.4)))
    assert hit(raster((CAR, 4.4, 0.4)), after, 8.0) == NO_CLASS


def test_a_pedestrian_cannot_have_run_away_further_than_a_pedestrian_runs() -> None:
    after = (raster((PEDESTRIAN, 4.4, 9.2)), raster((PEDESTRIAN, 4.4, 9.2)))
    assert hit(raster((PEDESTRIAN, 4.4, 0.4)), after, 2.0) == PEDESTRIAN
    near = (raster((PEDESTRIAN, 4.4, 1.2)), raster((PEDESTRIAN, 4.4, 2.0)))
    assert hit(raster((PEDESTRIAN, 4.4, 0.4)), near, 2.0) == NO_CLASS


def test_a_car_does_not_stand_in_for_a_pedestrian() -> None:
    beside = (CAR, 4.4, 2.8)
    after = (shown(1.0, beside), shown(2.0, beside))
    assert hit(raster((PEDESTRIAN, 4.4, 0.4), beside), after, 2.0) == PEDESTRIAN


def test_one_who_steps_in_front_is_hit_at_that_frame_only() -> None:
    aside, inside = raster((PEDESTRIAN, 4.4, 2.0)), shown(2.0, (PEDESTRIAN, 5.2, 0.4))
    assert hit(aside, (inside, raster((PEDESTRIAN, 2.8, -2.0))), 4.0) == PEDESTRIAN
    behind = shown(4.0, (PEDESTRIAN, -2.0, 0.4))  # crosses behind the car when it has passed
    assert hit(raster((PEDESTRIAN, -2.0, 2.8)), (shown(2.0, (PEDESTRIAN, -2.0, 1.2)), behind), 4.0) == NO_CLASS


def test_the_gravest_of_several_hits_is_named() -> None:
    both = ((WALL, 4.4, 0.4), (PEDESTRIAN, 4.4, -0.4))
    assert hit(raster(*both), (shown(0.8, *both), shown(1.6, *both)), 1.6) == PEDESTRIAN


def test_between_frames_counts_what_both_frames_show() -> None:
    """At 16 m/s the car jumps 4 m from frame to frame: a pedestrian who stands between the two places is hit all the same."""
    long_jump = 19.2
    there = (PEDESTRIAN, 8.4, 0.4)  # 4.75 m beyond the front; the rear has passed it at the first frame, 9.6 m on
    assert hit(raster(there), (shown(9.6, there), shown(long_jump, there)), long_jump) == PEDESTRIAN
    passed = raster((PEDESTRIAN, 8.4, 2.0))
    assert hit(passed, (shown(9.6, (PEDESTRIAN, 8.4, 2.0)), shown(long_jump, there)), long_jump) == NO_CLASS


def test_a_turning_car_sweeps_its_corner_through_what_lies_between_the_frames() -> None:
    start, frames, path = forward(0.0)
    path[0, :, 2] = torch.linspace(0.3, 1.8, 6)  # turns on the spot, from 17 to 103 degrees
    frames = path[:, 2::3]
    inside = inside_box(REACH.centres, path, BOX)[0].any(0)
    spot = REACH.centres[inside & (REACH.centres[:, 1] > 2.5)][0].tolist()
    before = raster((WALL, *spot))
    empty = torch.stack((raster(), raster()), dim=1)
    assert int(collide(before, empty, start, frames, path, BOX, DT, REACH)) == WALL


def test_standing_start() -> None:
    assert int(collide_at(raster((CAR, 3.6, 0.4)), BOX, REACH)) == CAR
    assert int(collide_at(raster((CAR, 4.4, 0.4), (CAR, 1.2, 1.2), (CAR, -1.2, 0.4)), BOX, REACH)) == NO_CLASS


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.floats(-500, 500), st.floats(-500, 500), st.floats(-3, 3)),
    st.lists(st.tuples(st.sampled_from([CAR, WALL, PEDESTRIAN]), st.floats(-6, 16), st.floats(-6, 6)), max_size=6),
    st.floats(0, 10),
)
def test_where_in_the_world_it_happens_does_not_matter(
    place: tuple[float, float, float], things: list[tuple[int, float, float]], distance: float
) -> None:
    start, frames, path = forward(distance)
    before, after = raster(*things), torch.stack((shown(distance / 2, *things), shown(distance, *things)), dim=1)
    here = collide(before, after, start, frames, path, BOX, DT, REACH)
    pose = torch.tensor([place], dtype=torch.float64)
    moved = [compose(pose.reshape(1, *[1] * (part.ndim - 2), 3), part) for part in (start, frames, path)]
    edge = (path[0, -1, 0] + 3.65 + 0.4) % 0.8  # a column's centre on the edge of the box may fall to either side
    if 1e-3 < float(edge) < 0.799:
        there = collide(before, after, moved[0], moved[1], moved[2], BOX, DT, REACH)
        batch = collide(*(torch.cat((part, part)) for part in (before, after, *moved, BOX)), DT, REACH)  # type: ignore[arg-type]
        assert int(there) == int(here)
        assert batch.tolist() == [int(there)] * 2


def test_recorded_driving_hits_nothing() -> None:
    """Half a second of true frames along the ego's own path, in traffic: no collision, and on the road."""
    scene = load_scene_list(None)[0]
    egos = [ego for ego in scene.egos if scene.tracks.classes[ego] == CAR]
    for index, ego in enumerate(egos[:: max(1, len(egos) // 8)][:8]):
        first, last = scene.ego_span(ego)
        times = first + (last - 0.5 - first) * index / 8 + torch.arange(7, dtype=torch.float64) / 12
        poses = scene.ego_poses(ego, times)
        surface = look_down(render(scene, poses[[0, 3, 6]], times[[0, 3, 6]], MINI, ego=ego), MINI)
        box = torch.cat((scene.tracks.sizes[ego, :2], scene.tracks.rear_axle[ego : ego + 1])).double().unsqueeze(0)
        frames, path = poses[None, [3, 6]], poses[None, 1:]
        assert int(collide_at(surface.obstacle[:1], box, REACH)) == NO_CLASS
        assert (
            int(collide(surface.obstacle[:1], surface.obstacle[None, 1:], poses[:1], frames, path, box, DT, REACH)) == NO_CLASS
        )
        assert float(offroad_share(surface.ground[None], poses[None, [0, 3, 6]], frames, box, REACH)) < 0.5
