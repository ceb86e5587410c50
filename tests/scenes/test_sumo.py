"""SUMO scenes: traffic on the lanes, nothing in its way, the road ahead known, networks of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scenes.grid import CLASS_ID, DRIVABLE, FREE, OCC3D
from scenes.motion import transform, wrap_angle
from scenes.render import render
from scenes.scene import Scene
from scenes.sumo import make_scene, scene_from_network, scene_from_osm
from scenes.sumo_generate import generate_network
from scenes.sumo_network import read_network
from scenes.sumo_traffic import Demand

pytest.importorskip("libsumo")
pytest.importorskip("shapely")

SECONDS = 10.0


@pytest.fixture(scope="module", params=["grid", "random", "spider"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return make_scene(seed=5, seconds=SECONDS, layout=request.param)


def _osm(path: Path) -> Path:
    """Three by three crossings, 120 m apart, as an OpenStreetMap extract."""
    number = {(i, j): 1 + 3 * i + j for i in range(3) for j in range(3)}
    nodes = [
        f'<node id="{name}" lat="{48.1 + 0.00108 * i}" lon="{11.5 + 0.00162 * j}" version="1"/>'
        for (i, j), name in number.items()
    ]
    streets = [[number[i, j] for j in range(3)] for i in range(3)] + [[number[i, j] for i in range(3)] for j in range(3)]
    kinds = ("secondary", "residential", "tertiary", "residential", "secondary", "residential")
    ways = []
    for street, (names, kind) in enumerate(zip(streets, kinds, strict=True)):
        points = "".join(f'<nd ref="{name}"/>' for name in names)
        ways.append(f'<way id="{100 + street}" version="1">{points}<tag k="highway" v="{kind}"/></way>')
    path.write_text(f'<osm version="0.6">{"".join(nodes)}{"".join(ways)}</osm>', encoding="utf-8")
    return path


def _on(scene: Scene, xy: torch.Tensor, label: int) -> torch.Tensor:
    i, j, inside = scene.static.cells(xy)
    return (scene.static.ground[i, j] == label) & inside


def _moving_vehicles(scene: Scene) -> torch.Tensor:
    names = scene.tracks.ids
    return torch.tensor([not name.startswith(("parked", "standing", "pedestrian")) for name in names])


def test_vehicles_drive_on_the_road(scene: Scene) -> None:
    there = _moving_vehicles(scene)[:, None] & scene.tracks.valid
    assert there.any()
    assert _on(scene, scene.tracks.poses[..., :2], DRIVABLE)[there].float().mean() > 0.98


def test_walkers_stay_on_sidewalks_and_crossings(scene: Scene) -> None:
    walkers = scene.tracks.classes == CLASS_ID["pedestrian"]
    there = walkers[:, None] & scene.tracks.valid
    xy = scene.tracks.poses[..., :2]
    assert (_on(scene, xy, CLASS_ID["sidewalk"]) | _on(scene, xy, DRIVABLE))[there].float().mean() > 0.98


def test_no_ego_drives_through_something_that_stands(scene: Scene) -> None:
    low = (scene.static.standing != FREE) & (scene.static.bottom < 20)
    unit = torch.linspace(-0.5, 0.5, 9, dtype=torch.float64)
    square = torch.stack(torch.meshgrid(unit, unit, indexing="ij"), dim=-1).reshape(-1, 2)
    struck = frames = 0
    for ego in scene.egos:
        poses = scene.tracks.poses[ego][scene.tracks.valid[ego]]
        i, j, _ = scene.static.cells(transform(poses, square * scene.tracks.sizes[ego, :2].double()))
        struck += int(low[:, i, j].any(0).any(-1).sum())
        frames += len(poses)
    assert len(scene.egos) > 10
    assert struck <= 0.001 * frames


def test_egos_are_motor_vehicles_whose_route_goes_on_along_the_road(scene: Scene) -> None:
    motor = {CLASS_ID[name] for name in ("car", "truck", "bus", "motorcycle")}
    assert {int(scene.tracks.classes[ego]) for ego in scene.egos} <= motor
    ahead = 0
    for ego, route in scene.routes.items():
        step = (route[1:] - route[:-1]).norm(dim=-1)
        assert step.max() < 2.01
        driven = scene.tracks.poses[ego][scene.tracks.valid[ego]]
        assert (route - driven[0, :2]).norm(dim=-1).min() < 1.0
        ahead += int(float(step.sum()) > float((driven[1:, :2] - driven[:-1, :2]).norm(dim=-1).sum()) + 100)
    assert ahead > 0.8 * len(scene.egos)
    points = torch.cat(list(scene.routes.values()))
    assert _on(scene, points, DRIVABLE).float().mean() > 0.98


def test_motion_is_smooth(scene: Scene) -> None:
    poses, valid = scene.tracks.poses, scene.tracks.valid
    both = (valid[:, 1:] & valid[:, :-1])[list(scene.egos)]
    turn = wrap_angle(poses[:, 1:, 2] - poses[:, :-1, 2]).abs()[list(scene.egos)][both] / scene.dt
    speed = (poses[:, 1:, :2] - poses[:, :-1, :2]).norm(dim=-1)[list(scene.egos)][both] / scene.dt
    assert turn.quantile(0.99) < 1.2
    assert speed.max() < 25


def test_headings_point_where_vehicles_go(scene: Scene) -> None:
    poses, valid = scene.tracks.poses[list(scene.egos)], scene.tracks.valid[list(scene.egos)]
    step = poses[:, 1:, :2] - poses[:, :-1, :2]
    fast = valid[:, 1:] & valid[:, :-1] & (step.norm(dim=-1) > 0.5)
    off = wrap_angle(torch.atan2(step[..., 1], step[..., 0]) - poses[:, :-1, 2])[fast].abs()
    assert off.quantile(0.95) < 0.35


def test_lights_stand_at_the_ends_of_lanes_and_change(scene: Scene) -> None:
    lights = scene.lights
    assert lights.states.shape == (len(lights.poses), scene.frames)
    assert len(lights.poses)
    assert _on(scene, lights.poses[:, :2], DRIVABLE).float().mean() > 0.95
    assert set(lights.states.unique().tolist()) <= {0, 1, 2, 3}
    assert (lights.states[:, 1:] != lights.states[:, :-1]).any()


def test_classes_and_their_origin(scene: Scene) -> None:
    known, grown = set(scene.static.recorded), set(scene.static.grown)
    assert known == {"driveable_surface", "sidewalk"}
    assert {"terrain", "manmade", "vegetation", "barrier", "traffic_cone", "others"} <= grown
    assert {CLASS_ID["car"], CLASS_ID["bicycle"], CLASS_ID["pedestrian"]} <= set(scene.tracks.classes.tolist())


def test_something_stands_within_sight_of_every_ego(scene: Scene) -> None:
    walls = torch.tensor([CLASS_ID["manmade"], CLASS_ID["vegetation"]])
    for ego in scene.egos[::8]:
        time = torch.tensor([scene.ego_span(ego)[0]])
        occupancy = render(scene, scene.ego_poses(ego, time), time, OCC3D, ego=ego)[0]
        assert torch.isin(occupancy, walls).any(-1).float().mean() > 0.05
        assert (occupancy == DRIVABLE).any(-1).float().mean() > 0.05


def test_same_seed_same_scene_and_another_for_another(tmp_path: Path) -> None:
    few = Demand(vehicles=3.0, bicycles=1.0, pedestrians=3.0)
    first, again = (make_scene(11, seconds=1.0, layout="spider", demand=few) for _ in range(2))
    assert torch.equal(first.static.ground, again.static.ground)
    assert torch.equal(first.static.standing, again.static.standing)
    assert torch.equal(first.tracks.poses, again.tracks.poses)
    assert first.source == "sumo/11"
    shapes = []
    for seed in (11, 12):
        generate_network(seed, tmp_path / "town.net.xml", tmp_path, layout="spider")
        shapes.append(read_network(tmp_path / "town.net.xml").junctions)
    assert len(shapes[0]) != len(shapes[1]) or not np.array_equal(shapes[0][0], shapes[1][0])


def test_openstreetmap_extract_becomes_a_scene(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = scene_from_osm(_osm(tmp_path / "town.osm.xml"), seed=1, seconds=12.0)
    assert capfd.readouterr() == ("", "")
    assert scene.source == "osm/town"
    assert scene.egos
    there = _moving_vehicles(scene)[:, None] & scene.tracks.valid
    assert _on(scene, scene.tracks.poses[..., :2], DRIVABLE)[there].float().mean() > 0.98


def test_bad_networks_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.net.xml"
    broken.write_text("<net><edge", encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.net\.xml: expected a SUMO network"):
        read_network(broken)
    broken.write_text("<routes/>", encoding="utf-8")
    with pytest.raises(ValueError, match="found <routes>"):
        read_network(broken)
    broken.write_text("<net/>", encoding="utf-8")
    with pytest.raises(ValueError, match="expected a network with roads"):
        scene_from_network(broken, seed=0)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.osm"):
        scene_from_osm(tmp_path / "nowhere.osm")
    garbage = tmp_path / "garbage.osm"
    garbage.write_text("not a map", encoding="utf-8")
    with pytest.raises(ValueError, match=r"garbage\.osm: expected an OpenStreetMap extract"):
        scene_from_osm(garbage)
    with pytest.raises(ValueError, match="layout: expected one of"):
        make_scene(0, layout="circle")
    with pytest.raises(ValueError, match="expected dt"):
        scene_from_network(broken, seed=0, dt=0.0)
