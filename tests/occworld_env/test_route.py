"""Routes: projection, look-ahead, lights along them and the packed map."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from occworld_env.drivable_map import DrivableMap
from occworld_env.lights import light_ahead, lights_on_route
from occworld_env.route import follow, locate, points_at, route_length
from scenes.grid import MINI
from scenes.route import resample_route, route_raster
from scenes.scene import Lights, Scene


def route(*points: tuple[float, float]) -> Tensor:
    return resample_route(torch.tensor(points, dtype=torch.float64)).unsqueeze(0)


def pose(x: float, y: float, yaw: float = 0.0) -> Tensor:
    return torch.tensor([[x, y, yaw]], dtype=torch.float64)


def test_place_beside_a_straight_route() -> None:
    place = locate(route((0, 0), (100, 0)), pose(31.3, 2.0, 0.1))
    assert [float(part) for part in (place.arc, place.lateral, place.heading)] == pytest.approx([31.3, 2.0, 0.1])
    assert float(locate(route((0, 0), (100, 0)), pose(31.3, -2.0)).lateral) == pytest.approx(-2.0)


def test_a_rear_axle_behind_the_beginning() -> None:
    place = locate(route((0, 0), (100, 0)), pose(-1.4, 0.5))
    assert [float(place.arc), float(place.lateral)] == pytest.approx([-1.4, 0.5])
    assert points_at(route((0, 0), (100, 0)), torch.tensor([[-1.4]]).double())[0].flatten().tolist() == [0.0, 0.0]


def test_beyond_the_end_of_a_short_last_piece() -> None:
    line = route((0, 0), (9, 0))  # the last of its points are 1 m apart, then repeated
    assert float(route_length(line)) == pytest.approx(9.0)
    assert float(locate(line, pose(8.7, 0.0)).arc) == pytest.approx(8.7)
    assert float(locate(line, pose(12.0, 0.0)).arc) == pytest.approx(9.0)
    point, direction = points_at(line, torch.tensor([[8.5, 50.0]]).double())
    assert point[0].flatten().tolist() == pytest.approx([8.5, 0.0, 9.0, 0.0])
    assert direction[0].flatten().tolist() == pytest.approx([1.0, 0.0, 1.0, 0.0])


def test_a_route_that_crosses_itself_is_followed_in_order() -> None:
    loop = route((0, 0), (60, 0), (60, 60), (30, 60), (30, -40))  # crosses its beginning at (30, 0)
    first = locate(loop, pose(30.0, 0.2), torch.tensor([28.0], dtype=torch.float64))
    second = locate(loop, pose(30.2, 0.0, -math.pi / 2), torch.tensor([205.0], dtype=torch.float64))
    assert float(first.arc) == pytest.approx(30.0)
    assert float(second.arc) == pytest.approx(210.0)
    assert float(locate(loop, pose(30.2, 0.0, -math.pi / 2)).arc) == pytest.approx(210.0)  # told by the heading alone


def driven(line: Tensor, arcs: Tensor) -> Tensor:
    """Poses (1, S, 3) on a route at arcs (S,)."""
    point, along = points_at(line, arcs.unsqueeze(0))
    return torch.cat((point, torch.atan2(along[..., 1:], along[..., :1])), dim=-1)


def test_a_long_path_is_followed_in_order() -> None:
    """80 m in one piece around a loop that comes back to where it began, and not the short cut at the crossing."""
    loop = route((0, 0), (40, 0), (40, 20), (20, 20), (20, -60))
    arcs = torch.arange(10.0, 91.0, 2.0, dtype=torch.float64)
    path, before = driven(loop, arcs), torch.tensor([8.0], dtype=torch.float64)
    places = follow(loop, path, before, apart=2.0)
    assert places.arc[0].tolist() == pytest.approx(arcs[::5].tolist(), abs=1e-6)
    assert float(places.lateral.abs().max()) < 1e-6
    assert places.pick(torch.tensor([2])).arc.tolist() == pytest.approx([30.0])
    assert float(locate(loop, path[:, -1], before).lateral.abs()) > 8.0, "within the window of the beginning it is lost"


def test_of_a_short_path_its_end_alone_is_looked_at() -> None:
    loop = route((0, 0), (60, 0), (60, 60), (30, 60), (30, -40))
    path = driven(loop, torch.linspace(22.0, 30.3, 6, dtype=torch.float64)) + 0.4
    before = torch.tensor([20.2], dtype=torch.float64)
    places, end = follow(loop, path, before, apart=20 / 12), locate(loop, path[:, -1], before)
    for name in ("arc", "lateral", "heading"):
        assert torch.equal(getattr(places, name), getattr(end, name).unsqueeze(1))


def test_places_are_found_again() -> None:
    line = route((0, 0), (40, 0), (40, 40), (90, 90))
    arcs = torch.tensor([[3.0, 21.7, 55.5, 90.1]], dtype=torch.float64)
    point, direction = points_at(line, arcs)
    for index in range(4):
        yaw = torch.atan2(direction[0, index, 1], direction[0, index, 0])
        place = locate(line, torch.cat((point[0, index], yaw.reshape(1))).unsqueeze(0))
        assert float(place.arc) == pytest.approx(float(arcs[0, index]), abs=0.3)
        assert float(place.lateral) == pytest.approx(0.0, abs=0.2)


def lit_scene(scene: Scene, states: list[int]) -> Scene:
    """The scene with four lights, all in one state at a time."""
    poses = torch.tensor([[90.0, 0.5, 0.0], [40.0, 0.0, 0.0], [60.0, 0.0, math.pi], [60.0, 9.0, 0.0]]).double()
    track = torch.tensor(states, dtype=torch.uint8).expand(4, -1)
    lights = Lights(poses, track)
    return Scene(scene.name, scene.source, scene.dt, scene.static, scene.tracks, scene.routes, lights)


def test_lights_on_the_route_are_found_in_order_and_change(make_scene: Callable[..., Scene]) -> None:
    scene = lit_scene(make_scene(), [1, 1, 1, 1, 3, 3, 3, 3])  # 4 frames of 0.25 s red, then green, then the scene ends
    line = resample_route(scene.routes[0])
    arcs, states = lights_on_route(scene, line, start=0.5, step=0.5)
    assert arcs[:2].tolist() == pytest.approx([50.0, 100.0])  # the route begins at x = -10
    assert bool(torch.isinf(arcs[2:]).all())  # not the one of the other direction, nor the one of a side road
    assert states[0, :4].tolist() == [1, 3, 3, 0]
    for place, distance, step, state in ((30.0, 20.0, 0, 1), (49.9, 0.1, 1, 3), (52.0, 48.0, 1, 3)):
        found = light_ahead(arcs[None], states[None], torch.tensor([place]).double(), torch.tensor([step]))
        assert float(found[0]) == pytest.approx(distance, abs=1e-4)
        assert int(found[1]) == state
    none, state = light_ahead(arcs[None], states[None], torch.tensor([140.0]).double(), torch.tensor([0]))
    assert math.isinf(float(none))
    assert int(state) == 0


def test_packed_map_equals_the_map_of_each_scene(scene: Scene, other_scene: Scene) -> None:
    scenes = [scene, other_scene]
    packed = DrivableMap(scenes, MINI, torch.device("cpu"), worlds=3)
    poses = torch.tensor([[10.0, 1.0, 0.3], [320.0, -3.0, -2.0], [5000.0, 0.0, 0.0]], dtype=torch.float64)
    lines = route((0, 0), (10, 0)).expand(3, -1, -1)
    for worlds in ([0, 1, 0], [1, 1, 0], [0, 0, 0]):
        packed.use(worlds)
        expected = route_raster(lines, poses, [scenes[world].static for world in worlds], MINI)[:, 1]
        assert torch.equal(packed.raster(poses), expected)
    assert int(packed.raster(poses)[0].sum()) > 1000
    assert int(packed.raster(poses)[2].sum()) == 0


def test_packed_map_forgets_the_scene_not_used_for_longest(scene: Scene, other_scene: Scene) -> None:
    scenes = [scene, other_scene] * 12
    packed = DrivableMap(scenes, MINI, torch.device("cpu"), worlds=2, expected=24)
    poses = torch.tensor([[10.0, 1.0, 0.3], [55.0, -3.0, 0.1]], dtype=torch.float64)
    lines = route((0, 0), (10, 0)).expand(2, -1, -1)
    versions = []
    for number in range(24):
        worlds = [number, 0]  # world 1 stays where it is
        packed.use(worlds)
        versions.append(packed.version)
        expected = route_raster(lines, poses, [scenes[world].static for world in worlds], MINI)[:, 1]
        assert torch.equal(packed.raster(poses), expected)
    assert versions == [versions[0]] * 24, "scenes of one size need the memory taken once"


@pytest.mark.parametrize(("worlds", "count", "expected", "places"), [(64, 2, 16, 2), (64, 24, 2, 2), (1, 40, 100, 17)])
def test_packed_map_has_no_more_places_than_scenes_that_are_used(
    scene: Scene, other_scene: Scene, worlds: int, count: int, expected: int, places: int
) -> None:
    """Not more than there are scenes, than are expected, or than worlds and those kept for later."""
    packed = DrivableMap([scene, other_scene] * (count // 2), MINI, torch.device("cpu"), worlds, expected)
    packed.use([index % 2 for index in range(worlds)])
    assert packed._drivable.shape == (places, scene.static.ground.numel())


def test_packed_map_grows_with_the_scenes_that_are_used(scene: Scene, other_scene: Scene) -> None:
    scenes = [scene, other_scene] * 3
    packed = DrivableMap(scenes, MINI, torch.device("cpu"), worlds=3, expected=1)
    poses = torch.tensor([[10.0, 1.0, 0.3], [55.0, -3.0, 0.1], [320.0, -3.0, -2.0]], dtype=torch.float64)
    lines = route((0, 0), (10, 0)).expand(3, -1, -1)
    versions = []
    for worlds in ([0, 0, 0], [1, 0, 1], [0, 5, 4], [2, 3, 0], [5, 4, 1]):
        packed.use(worlds)
        versions.append(packed.version)
        expected = route_raster(lines, poses, [scenes[world].static for world in worlds], MINI)[:, 1]
        assert torch.equal(packed.raster(poses), expected)
    assert len(packed._drivable) == 6
    assert versions == sorted(versions)
    assert versions[0] < versions[-2] == versions[-1], "what is captured hears of other memory, and of no other"
